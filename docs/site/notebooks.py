"""The notebook of a tutorial: its text, its code, and what the code prints and draws."""

import base64
import re
from pathlib import Path

import nbformat
from nbformat import v4

import documents


def notebook(page: Path) -> str:
    """A tutorial as a notebook."""
    text, cells, end = page.read_text(encoding="utf-8"), [], 0
    for block in documents.blocks(text):
        cells.append(_words(text[end : block.place[0]]))
        outputs = _outputs(block, page.parent)
        cells.append(v4.new_code_cell(block.code.rstrip(), outputs=outputs))
        end = block.place[1]
    cells.append(_words(text[end:]))
    cells = [cell for cell in cells if cell.source]
    for place, cell in enumerate(cells):
        cell.id = f"cell-{place}"  # the same notebook at every build
    made = v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.validate(made)
    return nbformat.writes(made)


def _words(markdown: str):
    """A cell of text. Links to other pages become their words: a notebook is alone."""
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    return v4.new_markdown_cell(re.sub(r"\[([^\]]+)\]\((?!https:)[^)]+\)", r"\1", text).strip())


def _outputs(block: documents.Block, folder: Path) -> list:
    outputs = []
    if block.text:
        outputs.append(v4.new_output("stream", text=block.text))
    if block.picture:
        picture = base64.b64encode((folder / block.picture).read_bytes()).decode()
        outputs.append(v4.new_output("display_data", data={"image/png": picture}))
    return outputs
