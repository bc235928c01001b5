"""Channel attributions as a page: the distribution, and the strongest channels as sprites."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .._show._arrays import channel_values
from ._page import (
    Page,
    Pictures,
    names_of,
    photograph,
    render,
    signed,
    sprite_urls,
    total,
)


def channel_attribution(
    attributions: Mapping[str, ArrayLike],
    sprites: Pictures | None = None,
    *,
    k: int = 6,
    image: ArrayLike | None = None,
    alt: str = "The picture that is explained",
    credit: str = "",
    classes: tuple[str, str] = ("for the class", "against it"),
    names: Sequence[str] | None = None,
    word: str = "channel",
    layer: str = "",
    units: str = "",
    title: str = "Which channels speak for it",
) -> Page:
    """The channels of a layer by attribution, in a column for each method.

    `v_(1) >= ... >= v_(N)`: all as one distribution; `v_(1..k)` and `v_(N-k+1..N)` as sprites

    All columns have one scale, the largest absolute value in them: lengths can be compared. Where
    `2k` is at least the number of channels each is shown once. Point at a distribution, or move on
    it with the arrow keys, to read every channel; a channel is marked wherever it is shown.

    Args:
        attributions: title to `(N,)` values, one a channel, as `attrax.channels` gives them; such
            as `{"Linear": ..., "Path integrated": ..., "Stochastic path": ...}`.
        sprites: what each channel looks for: `(N, h, w, 3)`, or a mapping from channel to picture.
        k: channels a side.
        image: what is explained, `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        alt: what `image` shows, for those who do not see it.
        credit: whose picture it is, written below it.
        classes: what blue (positive) and what red (negative) speaks for, such as
            `("for castle", "for tram")`.
        names: of the channels; `word` and their numbers where not given.
        word: what values belong to: "channel", "direction", "group".
        layer: its name.
        units: what attributions are measured in, such as "logit".
        title: of the page.

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
    columns = {
        name: channel_values(values, f"attributions[{name!r}]")
        for name, values in attributions.items()
    }
    if not columns:
        raise ValueError("`attributions` must hold at least one title and its values.")
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"`attributions` must all have the same shape; got {shapes}.")
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    n = len(next(iter(columns.values())))
    limit = max(float(np.abs(values).max()) for values in columns.values()) or 1.0
    called = names_of(names, n, word)
    methods, data = [], []
    for name, values in columns.items():
        order = np.argsort(-values, kind="stable")
        ordered = values[order]
        rows = [(int(channel), float(values[channel])) for channel in order]
        both = [rows[:k], rows[-k:]] if 2 * k < n else [[r for r in rows if r[1] >= 0]]
        if 2 * k >= n:
            both.append([row for row in rows if row[1] < 0])
        methods.append(
            {
                "name": name,
                "sum": total(values),
                "first": f"{called[order[0]]}: {signed(ordered[0])}",
                "up": _outline(np.maximum(ordered, 0.0), limit),
                "down": _outline(np.minimum(ordered, 0.0), limit),
                "positive": int((values > 0).sum()),
                "negative": int((values < 0).sum()),
                "sides": [side for side in both if side],
                "left_out": n > 2 * k,
                "shown": 2 * k,
            }
        )
        data.append({"order": order.tolist(), "values": [float(f"{v:.4g}") for v in ordered]})
    shown = sorted({c for method in methods for side in method["sides"] for c, _ in side})
    return render(
        "channel_attribution",
        title=title,
        credit=credit,
        scripts=("common.js", "channel_attribution.js"),
        data={"methods": data, "names": called},
        methods=methods,
        count=n,
        called=called,
        short=called if names is not None else [str(i) for i in range(n)],
        sprites=sprite_urls(sprites, n, shown),
        picture=None if image is None else photograph(image, alt),
        classes=classes,
        word=word,
        layer=layer,
        units=units,
        limit=limit,
    )


def _outline(values: np.ndarray, limit: float) -> str:
    """The bars as one path in a box `(N, 200)`, zero at 100."""
    heights = 100.0 - 97.0 * values / limit
    steps = "".join(f"V{height:.2f}h1" for height in heights)
    return f"M0,100{steps}V100z"
