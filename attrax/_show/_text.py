"""Attributed texts as they are shown: visible tokens, rows of numbers, colours behind letters."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..text import Spelling, Text
from ._inputs import Floats, printable, real_array, scale_limit, stacked


class Piece(NamedTuple):
    """A token as it is shown: the spaces before it, and its letters."""

    space: str
    text: str


# Control characters by their pictures; those of the second set have none.
_CONTROL = {i: chr(0x2400 + i) for i in range(32)} | {127: "␡"}
_CONTROL |= dict.fromkeys(range(128, 160), "�")
# In a text, line ends and tabs keep their effect behind their picture.
_VISIBLE = _CONTROL | {10: "↵\n", 9: "⇥\t"}


def pieces(text: Text, spelling: Spelling) -> list[Piece]:
    """The tokens of a text as they are shown. Nothing is invisible: a token of spaces is `␣`."""
    spelled = [printable(str(piece)) for piece in spelling(list(text.tokens))]
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
    array = real_array("attribution", stacked("attribution", text.attribution))
    if array.ndim not in (1, 2) or array.shape[-1] != len(text.tokens):
        raise ValueError(
            "`attribution` must hold one number a token, (L,), or a row of them for each class, "
            f"(K, L); got {array.shape} for {len(text.tokens)} tokens. Sum over embedding "
            "dimensions with `attrax.positions` first."
        )
    return np.atleast_2d(array)


def _name(name: object) -> str:
    """The name of a class on one line, as it can be printed."""
    return printable(str(name)).translate(_CONTROL)


def checked_text(name: str, text: Text) -> Text:
    """`text`, provided that it is one, with classes that can be printed."""
    if not isinstance(text, Text):
        raise TypeError(
            f"`{name}` must be an `attrax.text.Text(tokens, attribution)`; got a "
            f"{type(text).__name__}."
        )
    truth, prediction = (
        None if known is None else _name(known) for known in (text.truth, text.prediction)
    )
    return text._replace(truth=truth, prediction=prediction)


def checked_texts(texts: Sequence[Text]) -> list[Text]:
    """`texts` as a list of at least one."""
    if isinstance(texts, Text):
        raise TypeError("`texts` must be a sequence of `Text`; got one `Text`. Put it in a list.")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"`texts` must be a sequence of `Text`; got a {type(texts).__name__}.")
    found = [checked_text(f"texts[{i}]", text) for i, text in enumerate(texts)]
    if not found:
        raise ValueError("`texts` must hold at least one `Text`; got none.")
    return found


def scale_of_texts(texts: Sequence[Text], limit: float | None) -> float:
    """Where the colours of all `texts` end; 1 where everything is zero."""
    largest = np.array([np.abs(token_rows(text)).max() for text in texts])
    return scale_limit(largest, 100.0, limit) or 1.0


def class_names(classes: Sequence[str] | None, n: int) -> list[str]:
    """The names of `n` rows; a single row needs none."""
    if classes is None:
        return [""] if n == 1 else [str(i) for i in range(n)]
    names = [_name(name) for name in classes]
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
    end = np.array(_rgb(positive if share > 0 else negative))
    red, green, blue = (1.0 - size) * np.array(_rgb(zero)) + size * end
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


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
    rgb = np.array(_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _rgb(colour: str) -> np.ndarray:
    """Red, green and blue of `#rrggbb`, in [0, 1]."""
    return np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8) / 255
