"""What the README shows runs as it stands; the table of the reference is the contract."""

import re
from pathlib import Path

import pytest

import contract
import documents

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_what_it_says():
    names, outputs = {}, 0
    for block in documents.blocks(README):
        words, numbers = documents.skeleton(documents.run(block, names, "README.md")[0])
        said, expected = documents.skeleton(block.text or "")
        assert words == said
        assert numbers == pytest.approx(expected, abs=1e-4)
        outputs += block.text is not None
    assert outputs


def test_it_is_short():
    assert len(README.splitlines()) <= 90


def test_the_table_of_methods_is_the_contract():
    page = (PROJECT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    table = page.split("<!-- contract -->")[1].split("<!-- /contract -->")[0]
    assert table.strip() == contract.markdown()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (PROJECT / target).exists(), target
