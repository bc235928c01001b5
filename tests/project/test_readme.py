"""What the README shows runs as it stands, and its table is the contract."""

import re
from pathlib import Path

import contract

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "layers_0" in printed and "ChannelRanking" in printed and "(16,)" in printed


def test_the_table_of_methods_is_the_contract():
    table = README.split("<!-- contract -->")[1].split("<!-- /contract -->")[0]
    assert table.strip() == contract.markdown()


def test_links_lead_somewhere():
    root = Path(__file__).parents[2]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (root / target).exists(), target
