"""Files of the repository that pages link to: they become pages of the site, under `source/`.

A page links to `../examples/explain_photo.py`, which leads there in a checkout. On the site the
same link leads to a page that shows the file.
"""

import os
import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(((?:\.\./)+(?:attrax|benchmarks|examples|tests)/[^)#]+)\)")
PLACE = "source"
# Files of the root that are pages of the site.
ROOT_PAGES = {"makers/contributing.md": "CONTRIBUTING.md", "makers/changelog.md": "CHANGELOG.md"}


def linked(page: Path) -> set[Path]:
    """The files outside of the documents that a page links to."""
    text = page.read_text(encoding="utf-8")
    return {(page.parent / target).resolve() for target in _LINK.findall(text)}


def address(file: Path) -> str:
    """Where the page of a file stands, below the documents."""
    inside = file.resolve().relative_to(ROOT).as_posix()
    return f"{PLACE}/{inside}" if file.suffix in (".md", ".png") else f"{PLACE}/{inside}.md"


def content(file: Path) -> str | bytes:
    """What stands there: a picture and a Markdown file as they are, a program as a page."""
    if file.suffix == ".png":
        return file.read_bytes()
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    return f"# {file.relative_to(ROOT)}\n\n````python\n{text}````\n"


def redirected(markdown: str, page: Path, uri: str) -> str:
    """A page whose links out of the documents lead to pages of the site."""

    def to(found: re.Match[str]) -> str:
        target = address((page.parent / found[1]).resolve())
        return f"]({os.path.relpath(target, PurePosixPath(uri).parent)})"

    return _LINK.sub(to, markdown)


def from_the_root(name: str) -> str:
    """A file of the root as a page of the makers' section."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return text.replace("](docs/makers/", "](").replace("](docs/", "](../")
