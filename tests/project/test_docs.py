"""The Python blocks of the documents that say so run as they stand."""

import re
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

DOCS = Path(__file__).parents[2] / "docs"
MARK = "<!-- runnable"
RUNNABLE = [file for file in sorted(DOCS.glob("*.md")) if MARK in file.read_text("utf-8")]


def test_there_are_documents_to_run():
    assert DOCS / "compile_once.md" in RUNNABLE


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
@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: file.name)
def test_the_blocks_run_in_order(file):
    text, names = file.read_text(encoding="utf-8"), {}
    for found in re.finditer(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        line = text[: found.start(1)].count("\n")
        exec(compile("\n" * line + found[1], file.name, "exec"), names)  # lines as in the document
    assert names


@pytest.mark.parametrize("file", sorted(DOCS.glob("*.md")), ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (DOCS / target).exists(), target
