"""Documents whose Python blocks run: what a block prints stands behind it, and what it draws, too.

    ```python
    print(1 + 1)
    ```

    ```text
    2
    ```

    ![A picture](../images/drawn.png)

`python docs/site/documents.py docs/tutorials/text.md` runs a document and writes what its blocks
print and draw into it; a block gets an output where it has one.
"""

import ast
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$"
    r"(?P<printed>\n\n```text\n(?P<text>.*?)^```$)?"
    r"(?P<drawn>\n\n!\[[^\]]*\]\((?P<picture>[^)]+\.png)\))?",
    re.DOTALL | re.MULTILINE,
)
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")


class Block(NamedTuple):
    """A block of Python, and what the document says that it prints and draws."""

    code: str
    line: int
    text: str | None
    picture: str | None
    span: tuple[int, int]  # of the text, in the document
    place: tuple[int, int]  # of all of it


def blocks(document: str) -> Iterator[Block]:
    """The blocks of a document, in order."""
    for found in _BLOCK.finditer(document):
        line = document[: found.start("code")].count("\n")
        span = found.span("text") if found["text"] is not None else (0, 0)
        yield Block(found["code"], line, found["text"], found["picture"], span, found.span())


def run(block: Block, names: dict[str, Any], file: str) -> tuple[str, Any]:
    """What a block prints, and the value of its last line, as a notebook shows it.

    Lines of a traceback are those of the document.
    """
    printed, value = io.StringIO(), None
    tree = ast.parse("\n" * block.line + block.code, file)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, file, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), names)
    return printed.getvalue(), value


def skeleton(text: str) -> tuple[list[str], list[float]]:
    """The words of an output, and its numbers that have a fraction."""
    return _NUMBER.sub("#", text).split(), [float(number) for number in _NUMBER.findall(text)]


def update(path: Path) -> None:
    """Run a document, and write down what its blocks print and draw."""
    document, names, shift = path.read_text(encoding="utf-8"), {}, 0
    for block in blocks(document):
        printed, value = run(block, names, path.name)
        if block.text is not None:
            start, end = (place + shift for place in block.span)
            document = document[:start] + printed + document[end:]
            shift += len(printed) - len(block.text)
        if block.picture:
            value.savefig(path.parent / block.picture, dpi=80, bbox_inches="tight")
    path.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        update(Path(argument))
