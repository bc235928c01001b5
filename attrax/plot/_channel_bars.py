"""Bars of channel attributions: one signed number a channel."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from numpy.typing import ArrayLike

from .._show._inputs import (
    Floats,
    Sprites,
    channel_values,
    chosen_sprites,
    columns_of,
    image_array,
    printable,
    scale_limit,
)
from ._canvas import (
    NEGATIVE,
    POSITIVE,
    as_written,
    new_axes,
    new_figure,
    note,
    with_units,
)
from ._rows import Row, draw_rows, sign_legend


def channel_distribution(
    channel_attribution: ArrayLike,
    *,
    limit: float | None = None,
    classes: tuple[str, str] | None = None,
    units: str = "",
    title: str = "Channel attributions, sorted",
    ax: Axes | None = None,
) -> Axes:
    """Draws all channels as signed bars, from the most positive to the most negative.

    `bar_r = v_(r)`, the values in descending order; nothing is normalised.

    Args:
        channel_attribution: `(C,)`, one value a channel, as `attrax.channels` gives them.
        limit: the vertical axis runs from `-limit` to `limit`, so that several pictures can be
            compared; taken from the data if not given.
        classes: names of the classes that blue (positive) and red (negative) stand for.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on another shape, values that are not finite, options out of range.

    Example:
        >>> ax = channel_distribution([1.0, -2.0, 3.0])
        >>> [bars.get_data().values.tolist() for bars in ax.patches]
        [[3.0, 1.0, 0.0], [0.0, 0.0, -2.0]]
    """
    values = np.sort(channel_values("channel_attribution", channel_attribution))[::-1]
    high = scale_limit(np.abs(values), 100.0, limit)
    ax = new_axes(6.4, 3.2) if ax is None else ax
    # One outline a sign, not one rectangle a channel: thousands of channels draw at once, without
    # seams. Its edges put channel r at r - 0.5 ... r + 0.5.
    edges = np.arange(len(values) + 1) - 0.5
    ax.stairs(np.maximum(values, 0.0), edges, fill=True, color=POSITIVE)
    ax.stairs(np.minimum(values, 0.0), edges, fill=True, color=NEGATIVE)
    ax.axhline(0.0, color="0.3", linewidth=0.8)
    ax.set_xlim(edges[0], edges[-1])
    if limit is not None:
        ax.set_ylim(-1.05 * high, 1.05 * high)
    if not values.any():
        ax.set_ylim(-1.0, 1.0)
        note(ax, "all zero")
    ax.set_xlabel("rank of the channel")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(with_units("attribution", units))
    ax.set_title(printable(title))
    ax.spines[["top", "right"]].set_visible(False)
    as_written(ax.legend(handles=sign_legend(classes), loc="upper right", frameon=False))
    return ax


def channel_ranking(
    channel_attribution: ArrayLike,
    k: int = 5,
    *,
    limit: float | None = None,
    classes: tuple[str, str] | None = None,
    sprites: Sprites | None = None,
    units: str = "",
    title: str = "Most positive and most negative channels",
    ax: Axes | None = None,
) -> Axes:
    """Draws the `k` most positive channels above the `k` most negative ones.

    `rows = argsort(-v)[:k], ..., argsort(-v)[-k:]`: values descend from top to bottom.

    Channels of equal value keep their order. If `2k` is at least the number of channels, each is
    drawn once and none is left out. Values are written with three significant digits.

    Args:
        channel_attribution: `(C,)`, one value a channel, as `attrax.channels` gives them.
        k: how many channels on each side.
        limit: the horizontal axis is scaled to this value, so that several pictures can be
            compared; to the largest value drawn if not given.
        classes: names of the classes that blue (positive) and red (negative) stand for.
        sprites: pictures of the channels, drawn beside their bars: `(C, h, w, 3)`, or a mapping
            from channel to `(h, w, 3)` for those that have one; in [0, 1] or uint8.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes; those of the sprites are its `child_axes`.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> ax = channel_ranking([0.5, -2.0, 3.0, 0.0], k=1)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['2', '...', '1']
    """
    values = channel_values("channel_attribution", channel_attribution)
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    order = [int(channel) for channel in np.argsort(-values, kind="stable")]
    # The gap between the two sides is a row of its own.
    rows = order if 2 * k >= len(order) else [*order[:k], None, *order[-k:]]
    shown = {channel: float(values[channel]) for channel in rows if channel is not None}
    crops = {
        channel: image_array(f"sprites[{channel}]", sprite)
        for channel, sprite in chosen_sprites(sprites, len(values), shown).items()
    }
    if ax is None:
        ax = new_axes(6.4, max(len(rows), 2) * (0.7 if crops else 0.32) + 1.1)
    heights = draw_rows(
        ax,
        [Row("..." if c is None else str(c), None if c is None else shown[c]) for c in rows],
        limit,
        classes,
    )
    for channel, height in zip(rows, heights, strict=True):
        if channel in crops:
            _draw_picture(ax, crops[channel], height)
    ax.set_ylabel("channel")
    ax.set_xlabel(with_units("attribution", units))
    ax.set_title(printable(title))
    return ax


def channel_comparison(
    channel_attributions: Mapping[str, ArrayLike],
    k: int = 5,
    *,
    classes: tuple[str, str] | None = None,
    sprites: Sprites | None = None,
    units: str = "",
) -> Figure:
    """Draws several channel attributions of one layer side by side, on one scale.

    Each has a column: `channel_distribution` above `channel_ranking`, with
    `limit = max |v|` over all of them, so that lengths can be compared across columns.

    Args:
        channel_attributions: title to `(C,)` values, such as `{"Linear": ..., "Path integrated":
            ..., "Stochastic path": ...}`.
        k: how many channels on each side.
        classes: names of the classes that blue (positive) and red (negative) stand for.
        sprites: as in `channel_ranking`.
        units: what attributions are measured in, such as "logit".

    Returns:
        The figure, with two rows of axes.

    Raises:
        ValueError: on values of different lengths, none at all, and as in `channel_ranking`.
    """
    columns = columns_of("channel_attributions", channel_attributions)
    limit = max(float(np.abs(values).max()) for values in columns.values()) or None
    row = 0.7 if sprites is not None else 0.3
    ranking = (2 * k + 1) * row + 1.1
    figure = new_figure(4.2 * len(columns), 2.4 + ranking + 0.4)
    axes = figure.subplots(
        2, len(columns), squeeze=False, gridspec_kw={"height_ratios": [2.4, ranking]}
    )
    for (title, values), top, bottom in zip(columns.items(), axes[0], axes[1], strict=True):
        channel_distribution(values, limit=limit, units=units, title=title, ax=top)
        top.get_legend().remove()  # one for the whole figure instead
        channel_ranking(values, k, limit=limit, sprites=sprites, units=units, title="", ax=bottom)
    handles = sign_legend(classes)
    as_written(figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False))
    return figure


def _draw_picture(ax: Axes, picture: Floats, height: float) -> None:
    """Beside the row at `height`, right of the axes."""
    transform = blended_transform_factory(ax.transAxes, ax.transData)
    inset = ax.inset_axes((1.02, height - 0.46, 0.16, 0.92), transform=transform)
    inset.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0)
    inset.set_anchor("W")
    inset.set_axis_off()
