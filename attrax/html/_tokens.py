"""Attributed texts as a page and as plain text."""

from collections.abc import Sequence

import numpy as np

from .._show._text import (
    blend,
    checked_texts,
    class_names,
    pieces,
    readable,
    scale_of_texts,
    token_rows,
)
from ..text import Spelling, Text, words
from ._page import Page, render, total

# In dark, zero is the background of a card, and both ends are lighter than in `attrax.plot`.
_DARK = ("#1f2125", "#5ba3e0", "#ee7268")
_LIGHT = ("#ffffff", "#2166ac", "#b2182b")


def tokens(
    texts: Sequence[Text],
    *,
    classes: Sequence[str] | None = None,
    limit: float | None = None,
    spelling: Spelling = words,
    units: str = "",
    title: str = "What each word says",
) -> Page:
    """Texts with every token coloured by its attribution, with a row for each class.

    `colour = blue where a > 0, red where a < 0`, as strong as `min(|a| / limit, 1)`

    The scale is clamped: a value beyond `limit` has the strongest colour, and keeps its number. All
    texts and rows of the page share one scale. Letters are black or white, whichever has more
    contrast: at least 4.5 : 1.

    Point at a token, tap it, or move with the arrow keys to see its number.

    Args:
        texts: each a `Text(tokens, attribution, truth, prediction)`.
        classes: names of the rows, where attributions have one for each class.
        limit: where the colours end; the largest absolute value if not given.
        spelling: from tokens to pieces of text: `words`, `word_pieces`, `sentence_pieces`,
            `byte_pairs`, or any `tokens -> strings` whose concatenation is the text.
        units: what attributions are measured in, such as "logit".
        title: of the page.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        TypeError: when `texts` is a single `Text`.
        ValueError: on shapes that do not fit, values that are not finite, a `limit` that is not
            positive.

    Example:
        >>> page = tokens([Text(["not", "<b>bad</b>"], [-1.0, 2.0])])
        >>> "&lt;b&gt;bad&lt;/b&gt;" in page.html
        True
    """
    texts = checked_texts(texts)
    scale = scale_of_texts(texts, limit)
    shown = []
    for text in texts:
        values = token_rows(text)
        names = class_names(classes, len(values))
        split = pieces(text, spelling)
        rows = [
            {
                "name": name,
                "is_truth": name != "" and name == text.truth,
                "is_prediction": name != "" and name == text.prediction,
                "sum": total(row),
                "tokens": [
                    (piece, float(value), _style(value / scale))
                    for piece, value in zip(split, row, strict=True)
                ],
            }
            for name, row in zip(names, values, strict=True)
        ]
        shown.append({"truth": text.truth, "prediction": text.prediction, "rows": rows})
    return render(
        "tokens",
        title=title,
        scripts=("tokens.js",),
        texts=shown,
        limit=scale,
        units=units,
        has_classes=any(row["name"] for text in shown for row in text["rows"]),
        is_clamped=any(bool((np.abs(token_rows(text)) > scale).any()) for text in texts),
        light=_LIGHT,
        dark=_DARK,
    )


def _style(share: float) -> str:
    """The colours of a token, `share` of the way to the end of the scale, in light and in dark."""
    light, dark = blend(share, *_LIGHT), blend(share, *_DARK)
    return f"--l:{light};--li:{readable(light)};--d:{dark};--di:{readable(dark)}"


def plain_tokens(
    texts: Sequence[Text], *, classes: Sequence[str] | None = None, spelling: Spelling = words
) -> str:
    """Texts with the attribution behind every token, as plain text.

    `truth->prediction word[attribution] word[attribution] ...`

    Each text has a line; with several classes, each class has a line below it that begins with its
    name. Control characters are shown as symbols.

    Args:
        texts: each a `Text(tokens, attribution, truth, prediction)`.
        classes: names of the rows, where attributions have one for each class.
        spelling: as in `tokens`.

    Returns:
        The text, without a line end after the last line.

    Raises:
        TypeError: when `texts` is a single `Text`.
        ValueError: on shapes that do not fit, values that are not finite.

    Example:
        >>> print(plain_tokens([Text(["not", "good"], [-0.5, 0.25], "bad", "good")]))
        bad->good not[-0.5] good[+0.25]
    """
    lines = []
    for text in checked_texts(texts):
        known = text.truth is not None or text.prediction is not None
        head = f"{_or_unknown(text.truth)}->{_or_unknown(text.prediction)}" if known else ""
        values, split = token_rows(text), pieces(text, spelling)
        written = [
            "".join(
                f"{piece.space}{piece.text.translate(_ONE_LINE)}[{value:+.3g}]"
                for piece, value in zip(split, row, strict=True)
            ).strip()
            for row in values
        ]
        names = class_names(classes, len(values))
        if len(written) == 1:
            lines.append(" ".join(part for part in (head, names[0], written[0]) if part))
        else:
            lines += [head] if head else []
            lines += [f"  {name}: {row}" for name, row in zip(names, written, strict=True)]
    return "\n".join(lines)


_ONE_LINE = str.maketrans({"\n": None, "\t": None})


def _or_unknown(name: str | None) -> str:
    return "?" if name is None else name
