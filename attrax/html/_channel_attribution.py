"""Channel attributions as a page: the distribution, and the strongest channels as sprites."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._show._inputs import Floats, Sprites, columns_of, image_array
from ._caption import PLAIN, Caption
from ._page import (
    Page,
    names_of,
    photograph,
    render,
    signed,
    sprite_urls,
    total,
)


def channel_attribution(
    attributions: Mapping[str, ArrayLike],
    image: ArrayLike | None = None,
    sprites: Sprites | None = None,
    *,
    k: int = 6,
    classes: tuple[str, str] = ("for the class", "against it"),
    names: Sequence[str] | None = None,
    caption: Caption = PLAIN,
) -> Page:
    """The channels of a layer by attribution, in a column for each method.

    `v_(1) >= ... >= v_(N)`: all as one distribution; `v_(1..k)` and `v_(N-k+1..N)` as sprites

    All columns share one scale, the largest absolute value in them, so lengths can be compared. If
    `2k` is at least the number of channels, each is shown once. Point at a distribution, or move
    along it with the arrow keys, to read every channel; a channel is marked wherever it appears.

    Args:
        attributions: title to `(N,)` values, one a channel, as `attrax.channels` gives them; such
            as `{"Linear": ..., "Path integrated": ..., "Stochastic path": ...}`.
        image: what is explained, `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        sprites: what each channel looks for: `(N, h, w, 3)`, or a mapping from channel to picture.
        k: how many channels on each side.
        classes: what blue (positive) and red (negative) stand for, such as
            `("for castle", "for tram")`.
        names: of the channels; the word of the caption and their numbers if not given.
        caption: what is written on the page; its word says what values belong to.

    Returns:
        The page.

    Raises:
        ImportError: when Jinja2 is not installed.
        ValueError: on shapes that do not fit, values that are not finite, no attribution at all,
            pictures outside [0, 1], `k` below 1.

    Example:
        >>> page = channel_attribution({"Linear": [0.5, -2.0, 3.0, 0.0]}, k=1)
        >>> [page.html.count(text) for text in ("+3.00", "−2.00", "+0.500")]
        [2, 1, 0]

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "How Important Are Channels?".
    """
    columns = columns_of("attributions", attributions)
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    n = len(next(iter(columns.values())))
    texts = caption.on_page("Which channels speak for it")
    called = names_of(names, n, texts["word"])
    limit = max(float(np.abs(values).max()) for values in columns.values()) or 1.0
    orders = {name: np.argsort(-values, kind="stable") for name, values in columns.items()}
    methods = [
        _method(name, values, orders[name], called, k, limit) for name, values in columns.items()
    ]
    shown = sorted({i for method in methods for side in method["sides"] for i, _ in side})
    picture = None if image is None else photograph(image_array("image", image), caption.alt)
    return render(
        "channel_attribution",
        scripts=("common.js", "channel_attribution.js"),
        data={
            "methods": [
                {
                    "order": orders[name].tolist(),
                    "values": [float(f"{value:.4g}") for value in values[orders[name]]],
                }
                for name, values in columns.items()
            ],
            "names": called,
        },
        methods=methods,
        count=n,
        called=called,
        short=called if names is not None else [str(i) for i in range(n)],
        sprites=sprite_urls(sprites, n, shown),
        picture=picture,
        classes=classes,
        limit=limit,
        **texts,
    )


def _method(
    name: str,
    values: Floats,
    order: NDArray[np.intp],
    called: Sequence[str],
    k: int,
    limit: float,
) -> dict[str, Any]:
    """The column of one method, as the template draws it."""
    rows = [(int(channel), float(values[channel])) for channel in order]
    if 2 * k < len(rows):
        sides = [rows[:k], rows[-k:]]
    else:
        sides = [[row for row in rows if row[1] >= 0], [row for row in rows if row[1] < 0]]
    ordered = values[order]
    return {
        "name": name,
        "sum": total(values),
        "first": f"{called[order[0]]}: {signed(ordered[0])}",
        "up": _outline(np.maximum(ordered, 0.0), limit),
        "down": _outline(np.minimum(ordered, 0.0), limit),
        "positive": int((values > 0).sum()),
        "negative": int((values < 0).sum()),
        "sides": [side for side in sides if side],
        "left_out": len(rows) > 2 * k,
        "shown": 2 * k,
    }


def _outline(values: Floats, limit: float) -> str:
    """The bars as one path in a box `(N, 200)`, zero at 100."""
    heights = 100.0 - 97.0 * values / limit
    steps = "".join(f"V{height:.2f}h1" for height in heights)
    return f"M0,100{steps}V100z"
