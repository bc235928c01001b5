"""Attributions over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from numpy.typing import ArrayLike, NDArray

from .._show._inputs import Floats, one_array, printable, real_array, scale_limit
from ._canvas import (
    DASHES,
    NEGATIVE,
    POSITIVE,
    SIGNED,
    as_written,
    beside,
    colour_bar,
    new_axes,
    note,
    part_of,
    with_units,
)

# Dark letters and lines can be read on all of it.
_BEHIND = part_of(SIGNED, 0.14, 0.86)
# Zero is grey: a white line would not be seen.
_LINE = LinearSegmentedColormap.from_list("attrax_line", [NEGATIVE, "0.75", POSITIVE], N=257)


def time_series(
    attribution: ArrayLike,
    series: ArrayLike,
    times: ArrayLike | None = None,
    *,
    channels: Sequence[str] | None = None,
    on_line: bool = False,
    percentile: float = 99.0,
    limit: float | None = None,
    units: str = "",
    time_units: str = "",
    title: str = "Attribution over time",
    ax: Axes | None = None,
) -> Axes:
    """Draws a series over its attribution, which colours the background.

    `colour(t) = blue where a(t) > 0, red where a(t) < 0`, up to the `percentile` of `|a|`

    The shape of the attribution says what is drawn:

    - `(T, C)`, like the series: a panel for each channel, over the attribution of that channel. All
      panels share one colour scale and one time axis.
    - `(T,)`: one panel with all channels over their common attribution, such as
      `attribution.sum(axis=-1)`.

    A moment reaches half-way to its neighbours, which need not be equally far away. With `on_line`
    the line itself is coloured, zero is grey, and every channel has a panel.

    Args:
        attribution: `(T, C)` or `(T,)`.
        series: `(T, C)` or `(T,)`, in its own units.
        times: `(T,)` numbers or `datetime64`, ascending; the numbers of the steps if not given.
        channels: names, such as "temperature (K)"; their numbers if not given.
        on_line: whether to colour the line instead of the background.
        percentile: where the colour scale ends, in (0, 100]; 100 clips nothing.
        limit: the end of the scale as a value, instead of `percentile`.
        units: what attributions are measured in, such as "logit"; written on the colour bar.
        time_units: of `times`, such as "s".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes, of which only the title is shown; the panels are its `child_axes`, and the colour
        bar is the last of them.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, times that do not ascend,
            options out of range.

    Example:
        >>> ax = time_series([0.0, 2.0, -1.0], [20.0, 21.0, 19.0], [0.0, 1.0, 3.0], time_units="h")
        >>> panel, bar = ax.child_axes
        >>> panel.get_xlabel(), [float(end) for end in panel.get_xlim()]
        ('time (h)', [-0.5, 4.0])
    """
    values, data = real_array("attribution", attribution), real_array("series", series)
    if data.ndim not in (1, 2):
        raise ValueError(
            f"`series` must be that of one example, (T, C) or (T,); got {data.shape}. "
            "Index the batch axis first."
        )
    if values.shape not in (data.shape, data.shape[:1]):
        raise ValueError(
            "`attribution` must have the shape of `series`, or one value for each of its times; "
            f"got {values.shape} against {data.shape}."
        )
    table = data if data.ndim == 2 else data[:, None]
    names = _channel_names(channels, table.shape[1])
    moments = _times(times, len(table))
    high = scale_limit(np.abs(values), percentile, limit)
    # What each panel shows: its channels, and the attribution of these.
    if values.ndim == 1 and not on_line:
        shown = [(list(zip(names, table.T, strict=True)), values)]
    else:
        columns = np.broadcast_to(values.T, table.T.shape)
        shown = [
            ([(name, line)], column)
            for name, line, column in zip(names, table.T, columns, strict=True)
        ]
    if ax is None:
        ax = new_axes(7.2, max(1.15 * len(shown), 1.9) + 0.9)
    ax.set_title(printable(title))
    ax.set_axis_off()
    panels = _panels(ax, len(shown))
    norm = Normalize(-(high or 1.0), high or 1.0)
    for panel, (lines, column) in zip(panels, shown, strict=True):
        _draw_lines(panel, moments, lines, "none" if on_line else "0.0")
        places = panel.convert_xunits(moments).astype(float)
        if on_line:
            _colour_line(panel, places, lines[0][1], column, norm)
        else:
            _colour_behind(panel, places, column, norm)
    _draw_times(panels, moments, with_units("step" if times is None else "time", time_units))
    if high == 0.0:
        note(panels[0], "all zero")
    else:
        inset, cmap = beside(ax, 0.12, 0.15), _LINE if on_line else _BEHIND
        label = with_units("attribution", units)
        colour_bar(inset, norm, cmap, values=values, label=label)
    return ax


def _draw_lines(
    panel: Axes, moments: NDArray[Any], lines: list[tuple[str, Floats]], colour: str
) -> None:
    """The lines of a panel and the axis of their values; a single one is named at that axis."""
    handles = []
    for i, (name, line) in enumerate(lines):
        # From the fifth on they are grey: those of one dash can be told apart.
        grey = "0.5" if i >= len(DASHES) else colour
        dash = DASHES[i % len(DASHES)]
        handles += panel.plot(moments, line, color=grey, ls=dash, lw=1.2, label=name)
    low = min(line.min() for _, line in lines)
    high = max(line.max() for _, line in lines)
    room = 0.1 * (high - low) or 1.0
    panel.set_ylim(low - room, high + room)
    panel.locator_params(axis="y", nbins=4)
    panel.spines[["top", "right"]].set_visible(False)
    if len(lines) == 1:
        panel.set_ylabel(lines[0][0], parse_math=False)
        return
    columns = min(len(lines), 4)
    as_written(panel.legend(handles=handles, loc="upper left", ncols=columns, fontsize="small"))


def _colour_behind(panel: Axes, places: Floats, column: Floats, norm: Normalize) -> None:
    """Colours the height of a panel, whatever the values of its lines."""
    panel.pcolormesh(
        _edges(places),
        np.array([0.0, 1.0]),
        column[None],
        cmap=_BEHIND,
        norm=norm,
        transform=panel.get_xaxis_transform(),
        zorder=0,
    )


def _colour_line(
    panel: Axes, places: Floats, line: Floats, column: Floats, norm: Normalize
) -> None:
    """Draws a line in as many colours as it has values, each from edge to edge."""
    edges = _edges(places)
    heights = np.interp(edges, places, line)
    strokes = [
        np.array([[edges[i], heights[i]], [places[i], line[i]], [edges[i + 1], heights[i + 1]]])
        for i in range(len(places))
    ]
    drawn = LineCollection(strokes, cmap=_LINE, norm=norm, linewidths=2.2, capstyle="round")
    drawn.set_array(column)
    panel.add_collection(drawn)


def _draw_times(panels: list[Axes], moments: NDArray[Any], label: str) -> None:
    """The axis of time, which all panels share: below the last one."""
    *others, last = panels
    edges = _edges(last.convert_xunits(moments).astype(float))
    last.set_xlim(edges[0], edges[-1])
    last.set_xlabel(label)
    for panel in others:
        panel.tick_params(axis="x", labelbottom=False)
    if moments.dtype.kind == "M":
        locator = AutoDateLocator(maxticks=8)
        last.xaxis.set_major_locator(locator)
        last.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _channel_names(channels: Sequence[str] | None, n: int) -> list[str]:
    """The names of `n` channels; a single one needs none."""
    if channels is None:
        return [""] if n == 1 else [str(i) for i in range(n)]
    if isinstance(channels, str) or len(channels) != n:
        raise ValueError(
            f"`channels` must name every channel of `series`; got {channels!r} for {n} channels."
        )
    return [printable(str(name)) for name in channels]


def _times(times: ArrayLike | None, n: int) -> NDArray[Any]:
    if times is None:
        return np.arange(n, dtype=np.float64)
    moments = one_array("times", times)
    if moments.dtype.kind != "M":
        moments = real_array("times", moments)
    if moments.shape != (n,):
        raise ValueError(
            f"`times` must hold one time for each value of `series`; got {moments.shape} for {n}."
        )
    # A date that is missing is never later than another.
    if not (np.diff(moments) > np.zeros(1, np.diff(moments).dtype)).all():
        raise ValueError(
            "`times` must ascend from each to the next; sort the series by time first."
        )
    return moments


def _edges(places: Floats) -> Floats:
    """Where the moment of each place begins and ends: half-way to its neighbours."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    between = (places[1:] + places[:-1]) / 2
    first, last = 2 * places[0] - between[0], 2 * places[-1] - between[-1]
    return np.concatenate([[first], between, [last]])


def _panels(ax: Axes, n: int) -> list[Axes]:
    """`n` axes inside of `ax`, the first on top, with one axis of time."""
    gap = 0.12 / n if n > 1 else 0.0
    height = (1.0 - gap * (n - 1)) / n
    panels: list[Axes] = []
    for i in range(n):
        place = (0.0, 1.0 - (i + 1) * height - i * gap, 1.0, height)
        panels.append(ax.inset_axes(place, sharex=panels[0] if panels else None))
    return panels
