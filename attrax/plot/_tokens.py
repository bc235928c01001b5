"""Attributed texts: what one is, how its tokens are spelled and coloured, and its picture."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from ._arrays import Floats, real_array, scale_limit
from ._canvas import NEGATIVE, POSITIVE, new_figure, with_units

Spelling: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
"""From the tokens of a text to strings, one a token, whose concatenation is the text."""


class Text(NamedTuple):
    """A text in tokens, and the attribution of each.

    Attributes:
        tokens: `L` strings.
        attribution: `(L,)`, or `(K, L)` with a row for each class.
        truth: the class that it has.
        prediction: the class that the model gives it.
    """

    tokens: Sequence[str]
    attribution: ArrayLike
    truth: str | None = None
    prediction: str | None = None


class Piece(NamedTuple):
    """A token as it is shown: the spaces before it, and its letters."""

    space: str
    text: str


def words(tokens: Sequence[str]) -> list[str]:
    """Tokens that are words: a space between any two.

    Example:
        >>> words(["not", "good"])
        ['not', ' good']
    """
    return [f" {token}" if i else token for i, token in enumerate(tokens)]


def word_pieces(tokens: Sequence[str]) -> list[str]:
    """Tokens of BERT and its kin: `##` continues the word before.

    Example:
        >>> word_pieces(["sing", "##ing", "birds"])
        ['sing', 'ing', ' birds']
    """
    return [
        token[2:] if token.startswith("##") and len(token) > 2 else f" {token}" if i else token
        for i, token in enumerate(tokens)
    ]


def sentence_pieces(tokens: Sequence[str]) -> list[str]:
    """Tokens of SentencePiece: `▁` is a space.

    Example:
        >>> sentence_pieces(["▁sing", "ing", "▁birds"])
        [' sing', 'ing', ' birds']
    """
    return [token.replace("▁", " ") for token in tokens]


def byte_pairs(tokens: Sequence[str]) -> list[str]:
    r"""Tokens of GPT-2 and its kin: every letter is a byte of the text in UTF-8.

    A character that is parted between tokens shows as replacement characters in both. Tokens with
    letters that stand for no byte, such as special tokens, are left as they are.

    Example:
        >>> byte_pairs(["sing", "ing", "Ġcaf", "Ã©", "Ċ"])
        ['sing', 'ing', ' caf', 'é', '\n']
    """
    return [
        bytes(_BYTES[letter] for letter in token).decode("utf-8", "replace")
        if all(letter in _BYTES for letter in token)
        else token
        for token in tokens
    ]


# Printable bytes stand for themselves, the others for the letters from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}

# Control characters by their pictures; line ends and tabs keep their effect behind it.
_VISIBLE = {i: chr(0x2400 + i) for i in range(32)} | {127: "␡", 10: "↵\n", 13: "␍", 9: "⇥\t"}


def pieces(text: Text, spelling: Spelling) -> list[Piece]:
    """The tokens of a text as they are shown. Nothing is invisible: a token of spaces is `␣`."""
    spelled = [str(piece) for piece in spelling(list(text.tokens))]
    if len(spelled) != len(text.tokens):
        raise ValueError(
            f"`spelling` must give one string a token; got {len(spelled)} for {len(text.tokens)}."
        )
    found = []
    for piece in spelled:
        letters = piece.lstrip(" ")
        space = piece[: len(piece) - len(letters)]
        if not letters:
            letters, space = "␣" * len(space) or "∅", ""
        found.append(Piece(space, letters.translate(_VISIBLE)))
    return found


def token_rows(text: Text) -> Floats:
    """The attribution of a text as `(K, L)`."""
    array = real_array("attribution", text.attribution)
    if array.ndim not in (1, 2) or array.shape[-1] != len(text.tokens):
        raise ValueError(
            "`attribution` must hold one number a token, (L,), or a row of them for each class, "
            f"(K, L); got {array.shape} for {len(text.tokens)} tokens. Sum over embedding "
            "dimensions with `attrax.positions` first."
        )
    return np.atleast_2d(array)


def scale_of_texts(texts: Sequence[Text], limit: float | None) -> float:
    """Where the colours of all `texts` end; 1 where everything is zero."""
    if isinstance(texts, Text):
        raise TypeError("`texts` must be a sequence of `Text`; got one `Text`. Put it in a list.")
    if not texts:
        raise ValueError("`texts` must hold at least one `Text`; got none.")
    largest = np.array([np.abs(token_rows(text)).max() for text in texts])
    return scale_limit(largest, 100.0, limit) or 1.0


def class_names(classes: Sequence[str] | None, n: int) -> list[str]:
    """The names of `n` rows; a single row needs none."""
    if classes is None:
        return [""] if n == 1 else [str(i) for i in range(n)]
    names = [str(name) for name in classes]
    if isinstance(classes, str) or len(names) != n:
        raise ValueError(
            f"`classes` must name every row of `attribution`; got {classes!r} for {n} rows."
        )
    return names


def blend(share: float, zero: str, positive: str, negative: str) -> str:
    """The colour `share` of the way from `zero` to an end, clamped to [-1, 1].

    `(1 - |s|) zero + |s| positive`, or `negative` where `s < 0`, in sRGB

    Example:
        >>> [blend(share, "#ffffff", "#0000ff", "#ff0000") for share in (-0.5, 0.0, 7.0)]
        ['#ff8080', '#ffffff', '#0000ff']
    """
    size = min(abs(float(share)), 1.0)
    end = np.array(to_rgb(positive if share > 0 else negative))
    red, green, blue = (1.0 - size) * np.array(to_rgb(zero)) + size * end
    return to_hex((red, green, blue))


def readable(background: str) -> str:
    """Black or white, whichever has the higher contrast with `background`, at least 4.5 : 1.

    Example:
        >>> readable("#ffffff"), readable("#2166ac")
        ('#000000', '#ffffff')
    """
    # Contrast is (L + 0.05) / (L' + 0.05); both choices have the same where L is 0.179.
    return "#000000" if luminance(background) > 0.179 else "#ffffff"


def luminance(colour: str) -> float:
    """The relative luminance of a colour, in [0, 1], as WCAG 2 defines it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


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
    """Draws a text with every token coloured by its attribution, a block for each class.

    `colour = blue where a > 0, red where a < 0`, as strong as `min(|a| / limit, 1)`

    The scale is clamped. Letters are black or white, whichever stands out more.

    Args:
        text: a `Text(tokens, attribution, truth, prediction)`.
        classes: names of the rows of the attribution, where it has one for each class.
        limit: where the colours end; the largest absolute value if not given. Give one limit to
            texts that are to be compared.
        spelling: from tokens to pieces of text: `words`, `word_pieces`, `sentence_pieces`,
            `byte_pairs`, or any `tokens -> strings` whose concatenation is the text.
        columns: letters a line; more make smaller letters where `ax` is given.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure where not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> ax = tokens(Text(["not", "good"], [-1.0, 2.0]), limit=1.0)
        >>> [to_hex(patch.get_facecolor()) for patch in ax.patches][:2]
        ['#b2182b', '#2166ac']
    """
    if columns < 8:
        raise ValueError(f"`columns` must be at least 8; got {columns}.")
    scale = scale_of_texts([text], limit)
    values, split = token_rows(text), pieces(text, spelling)
    places, height = _wrapped(split, columns)
    names = class_names(classes, len(values))
    heads = [
        "  ".join(part for part in (name, _said_of(name, text), f"sum {row.sum():+.3g}") if part)
        for name, row in zip(names, values, strict=True)
    ]
    known = [
        f"{word}: {name}"
        for word, name in (("truth", text.truth), ("prediction", text.prediction))
        if name is not None
    ]
    # A line for what is known, one a block for its name, and one for the scale.
    total = bool(known) + len(values) * (height + 1.5) + 1.6
    ax, size = _text_axes(ax, columns, total, bool(title))

    def write(x: float, y: float, string: str, **options) -> None:
        # Letters are text and nothing else: no mathematics between dollar signs.
        ax.text(x, y, string, parse_math=False, va="center_baseline", fontsize=size, **options)

    ax.set_title(title, parse_math=False)
    if known:
        write(0.0, 0.4, "   ".join(known), weight="bold")
    top = float(bool(known))
    for head, row in zip(heads, values, strict=True):
        write(0.0, top + 0.5, head, color="0.35")
        for place, value in zip(places, row, strict=True):
            colour = blend(value / scale, "white", POSITIVE, NEGATIVE)
            for x, line, letters in place:
                y, width = top + 1.0 + line, _width(letters)
                box = Rectangle((x - 0.1, y + 0.06), width + 0.2, 0.88, facecolor=colour, lw=0)
                ax.add_patch(box)
                write(x, y + 0.5, letters, color=readable(colour), fontproperties=_FONT)
        top += height + 1.5
    _draw_scale(ax, top + 0.1, columns, scale, size, units)
    return ax


def _said_of(name: str, text: Text) -> str:
    said = [
        word
        for word, known in (("truth", text.truth), ("predicted", text.prediction))
        if name and known == name
    ]
    return f"({', '.join(said)})" if said else ""


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
        ax.text(
            x, y + 0.5, string, ha=align, va="center", fontsize=0.9 * size, color="0.35",
            parse_math=False,
        )  # fmt: skip
