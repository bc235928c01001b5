"""Documents that say so run as they stand; tutorials print what they say they print."""

import re
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import documents

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
MARK = "<!-- runnable"
PAGES = sorted(DOCS.rglob("*.md"))
RUNNABLE = [file for file in PAGES if MARK in file.read_text("utf-8")]
TUTORIALS = [DOCS / "index.md", *sorted((DOCS / "tutorials").glob("*.md"))]
SLOW = {"photograph.md"}  # a pretrained network, and three programs of it


def name(file):
    return file.relative_to(PROJECT).as_posix()


def test_there_are_documents_to_run():
    assert DOCS / "compile_once.md" in RUNNABLE
    assert len(TUTORIALS) >= 5


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to write into; afterwards the cache of programs is what it was."""
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    monkeypatch.chdir(tmp_path)
    reset_cache()
    with jax.numpy_rank_promotion("allow"):
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("file", RUNNABLE, ids=name)
def test_the_blocks_run_in_order(file):
    names = {}
    for block in documents.blocks(file.read_text(encoding="utf-8")):
        documents.run(block, names, file.name)
    assert names


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=[pytest.mark.soak] if file.name in SLOW else [])
        for file in TUTORIALS
    ],
    ids=name,
)
def test_a_tutorial_prints_what_it_says(file):
    names, outputs = {}, 0
    for block in documents.blocks(file.read_text(encoding="utf-8")):
        printed, value = documents.run(block, names, file.name)
        words, numbers = documents.skeleton(printed)
        said, expected = documents.skeleton(block.text or "")
        assert words == said, f"{file.name}:{block.line}"
        assert numbers == pytest.approx(expected, rel=0.15, abs=0.1), f"{file.name}:{block.line}"
        outputs += block.text is not None
        if block.picture:
            assert value.axes, "a figure"
            assert (file.parent / block.picture).exists()
    assert outputs


def test_the_code_of_the_first_page_fits_its_column():
    """The column of the site is 76 characters wide, and wants no checkout of attrax."""
    code = "".join(block.code for block in documents.blocks(TUTORIALS[0].read_text("utf-8")))
    assert [line for line in code.splitlines() if len(line) > 76] == []
    assert "pretrained" not in code and "sys.path" not in code


def test_what_a_block_prints_is_told_from_what_stands_below_another():
    text = "```python\na\n```\n\n```text\n1.5 b\n```\n\n```python\nc\n```\n\n![d](e.png)\n"
    first, second = documents.blocks(text)
    assert (first.code, first.line, first.text, first.picture) == ("a\n", 1, "1.5 b\n", None)
    assert (second.code, second.text, second.picture) == ("c\n", None, "e.png")
    assert documents.skeleton("b -1.5 3") == (["b", "#", "3"], [-1.5])


def test_an_update_writes_what_a_block_prints(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("```python\nprint(2)\n```\n\n```text\n1\n```\n\n```python\nprint(3)\n```\n")
    documents.update(file)
    assert file.read_text() == (
        "```python\nprint(2)\n```\n\n```text\n2\n```\n\n```python\nprint(3)\n```\n"
    )


@pytest.mark.parametrize("file", PAGES, ids=name)
def test_links_lead_somewhere(file):
    made = {"contributing.md", "changelog.md"}  # of files of the root, by the site
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        there = target.startswith("https://") or target in made or (file.parent / target).exists()
        assert there, target
