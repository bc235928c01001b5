"""The picture of an attributed text."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from .._show._inputs import Floats, printable
from .._show._text import (
    Piece,
    blend,
    checked_text,
    class_names,
    pieces,
    readable,
    scale_of_texts,
    token_rows,
)
from ..text import Spelling, Text, words
from ._canvas import NEGATIVE, POSITIVE, new_figure, with_units

_FONT = FontProperties(family="DejaVu Sans Mono")
_ADVANCE = 0.602  # width of a letter of that font, in its size
_LINE = 1.75  # height of a line, likewise
_SCALE = LinearSegmentedColormap.from_list("attrax_tokens", [NEGATIVE, "white", POSITIVE], N=257)


def tokens(
    text: Text,
    *,
    classes: Sequence[str] | None = None,
    limit: float | None = None,
    spelling: Spelling = words,
    columns: int = 72,
    units: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draws a text with every token coloured by its attribution, in one block per class.

    `colour = blue where a > 0, red where a < 0`, as strong as `min(|a| / limit, 1)`

    The scale is clamped. Letters are black or white, whichever stands out more.

    Args:
        text: a `Text(tokens, attribution, truth, prediction)`.
        classes: names of the rows of the attribution, where it has one for each class.
        limit: where the colours end; the largest absolute value if not given. Give texts that
            are to be compared the same limit.
        spelling: from tokens to pieces of text: `words`, `word_pieces`, `sentence_pieces`,
            `byte_pairs`, or any `tokens -> strings` whose concatenation is the text.
        columns: letters in a line; with `ax` given, more columns make the letters smaller.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> from matplotlib.colors import to_hex
        >>> ax = tokens(Text(["not", "good"], [-1.0, 2.0]), limit=1.0)
        >>> [to_hex(patch.get_facecolor()) for patch in ax.patches][:2]
        ['#b2182b', '#2166ac']
    """
    if columns < 8:
        raise ValueError(f"`columns` must be at least 8; got {columns}.")
    text = checked_text("text", text)
    scale = scale_of_texts([text], limit)
    values = token_rows(text)
    places, height = _wrapped(pieces(text, spelling), columns)
    names = class_names(classes, len(values))
    known = _known(text)
    # A line for what is known, one a block for its name, and one for the scale.
    total = bool(known) + len(values) * (height + 1.5) + 1.6
    ax, size = _text_axes(ax, columns, total, bool(title))
    ax.set_title(printable(title), parse_math=False)
    if known:
        _write(ax, 0.0, 0.4, known, size, weight="bold")
    top = float(bool(known))
    for name, row in zip(names, values, strict=True):
        _write(ax, 0.0, top + 0.5, _head(name, row, text), size, color="0.35")
        colours = [blend(value / scale, "#ffffff", POSITIVE, NEGATIVE) for value in row]
        _draw_block(ax, top + 1.0, places, colours, size)
        top += height + 1.5
    _draw_scale(ax, top + 0.1, columns, scale, size, units)
    return ax


def _known(text: Text) -> str:
    """What is known of the whole text."""
    known = (("truth", text.truth), ("prediction", text.prediction))
    return "   ".join(f"{word}: {name}" for word, name in known if name is not None)


def _head(name: str, row: Floats, text: Text) -> str:
    """What stands above the block of a class."""
    known = (("truth", text.truth), ("predicted", text.prediction))
    said = ", ".join(word for word, of_text in known if name and of_text == name)
    parts = (name, f"({said})" if said else "", f"sum {row.sum():+.3g}")
    return "  ".join(part for part in parts if part)


def _write(ax: Axes, x: float, y: float, string: str, size: float, **options: Any) -> None:
    """Letters as they are: no mathematics between dollar signs."""
    ax.text(x, y, string, parse_math=False, va="center_baseline", fontsize=size, **options)


def _draw_block(
    ax: Axes,
    top: float,
    places: Sequence[list[tuple[int, int, str]]],
    colours: Sequence[str],
    size: float,
) -> None:
    """The tokens of one class, each over its colour."""
    for place, colour in zip(places, colours, strict=True):
        for x, line, letters in place:
            y, width = top + line, _width(letters)
            box = Rectangle((x - 0.1, y + 0.06), width + 0.2, 0.88, facecolor=colour, lw=0)
            ax.add_patch(box)
            _write(ax, x, y + 0.5, letters, size, color=readable(colour), fontproperties=_FONT)


def _width(letters: str) -> int:
    """Columns that letters take: wide ones of East Asia two, combining marks none."""
    return sum(
        0
        if unicodedata.combining(letter)
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in letters
    )


def _wrapped(split: Sequence[Piece], columns: int) -> tuple[list[list[tuple[int, int, str]]], int]:
    """Where each piece stands: parts `(column, line, letters)`; and the number of lines."""
    places, x, line = [], 0, 0
    for piece in split:
        parts: list[tuple[int, int, str]] = []
        x += len(piece.space) if x else 0  # no line begins with a space
        if x and x + min(_width(piece.text.split("\n")[0]), columns) > columns:
            x, line = 0, line + 1
        for letter in piece.text.replace("\t", " "):
            # A piece longer than a line goes on in the next.
            if letter == "\n" or x + _width(letter) > columns:
                x, line = 0, line + 1
            if letter == "\n":
                continue
            if parts and parts[-1][1] == line:
                parts[-1] = (*parts[-1][:2], parts[-1][2] + letter)
            else:
                parts.append((x, line, letter))
            x += _width(letter)
        places.append(parts)
    return places, line + 1


def _text_axes(ax: Axes | None, columns: int, lines: float, has_title: bool) -> tuple[Axes, float]:
    """Axes whose units are letters and lines, downward, and the size of the font in points."""
    if ax is None:
        size, margin = 11.0, 0.15
        width = (columns + 1) * _ADVANCE * size / 72
        height = lines * _LINE * size / 72
        whole = width + 2 * margin, height + margin + (0.4 if has_title else margin)
        figure = new_figure(*whole)
        figure.set_layout_engine("none")  # Letters are laid out here: the axes must not move.
        box = np.array([margin, margin, width, height]) / [*whole, *whole]
        ax = figure.add_axes((box[0], box[1], box[2], box[3]))
    else:
        figure = ax.get_figure(root=True)
        assert figure is not None
        box = ax.get_window_extent()
        size = 72 * box.width / figure.dpi / (columns + 1) / _ADVANCE
        lines = max(lines, 72 * box.height / figure.dpi / (_LINE * size))
    ax.set(xlim=(-0.5, columns + 0.5), ylim=(lines, 0.0))
    ax.set_axis_off()
    return ax, size


def _draw_scale(ax: Axes, y: float, columns: int, scale: float, size: float, units: str) -> None:
    width = min(24.0, columns / 3)
    ticks = (f"{-scale:.3g}", f"{scale:+.3g}")
    left = len(ticks[0]) + 1.0
    ax.imshow(
        np.linspace(-1.0, 1.0, 257)[None],
        cmap=_SCALE,
        extent=(left, left + width, y + 0.8, y + 0.2),
        aspect="auto",
    )
    for x, align, string in (
        (left - 0.6, "right", ticks[0]),
        (left + width + 0.6, "left", with_units(ticks[1], units)),
    ):
        _write(ax, x, y + 0.5, string, 0.9 * size, ha=align, color="0.35")
