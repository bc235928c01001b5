"""Curves of a metric, such as insertion and deletion: several methods, over many examples."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from .._show._inputs import Floats, entries_of, printable, real_array, stacked
from ._canvas import DASHES, NAMED, as_written, new_axes, with_units


def curves(
    methods: Mapping[str, ArrayLike],
    *,
    score: str = "score",
    units: str = "",
    features: str = "features changed",
    title: str = "Score along the ranking",
    ax: Axes | None = None,
) -> Axes:
    """Draws the mean curve of each method, with a confidence band.

    `line = mean_n c[n, k]` over the share `k / (points - 1)`, `band = line ± 1.96 s / sqrt(n)`,
    s the standard deviation over the n examples

    The band is the 95 % confidence interval of the mean at each point; a single example has none.
    The legend gives the area under the curve, as `attrax.metrics.area` does, with its standard
    error. Methods run on the same examples share what is hard about them, so bands that overlap do
    not mean that the methods are equal: compare the areas example by example.

    Args:
        methods: name to curves, `(n, points)`, or `(points,)` for one example, such as
            `attrax.metrics.insertion_curve` and `deletion_curve` give. Numbers of points may
            differ.
        score: what is measured along the curve, such as "probability".
        units: what it is measured in.
        features: what the horizontal axis counts, such as "pixels inserted".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, or nothing at all.

    Example:
        >>> by_size = [[0.0, 0.5, 1.0], [0.0, 0.9, 1.0]]
        >>> ax = curves({"by size": by_size, "by chance": [0.0, 0.5, 1.0]})
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['by size: area 0.6 ± 0.1', 'by chance: area 0.5']
    """
    given = entries_of("methods", methods, "its curves")
    tables = {name: _table(name, values) for name, values in given.items()}
    ax = new_axes(6.4, 4.0) if ax is None else ax
    handles, _ = ax.get_legend_handles_labels()
    # Dashes go round in fours and colours in sevens: 28 lines can be told apart.
    for (name, table), colour, dash in zip(tables.items(), cycle(NAMED), cycle(DASHES)):
        places, mean = np.linspace(0.0, 1.0, table.shape[1]), table.mean(axis=0)
        areas = np.asarray(np.trapezoid(table, dx=1 / (table.shape[1] - 1)))
        label = f"{name}: area {areas.mean():.3g}"
        if len(table) > 1:
            error = _standard_error(table)
            low, high = mean - 1.96 * error, mean + 1.96 * error
            ax.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0.0)
            label += f" ± {_standard_error(areas):.2g}"
        handles += ax.plot(places, mean, color=colour, ls=dash, lw=1.8, label=label)
    ax.set_xlim(0.0, 1.0)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(printable(features))
    ax.set_ylabel(with_units(score, units))
    ax.set_title(printable(title))
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    counts = sorted({len(table) for table in tables.values()} - {1})
    note = f"band: 95 % of the mean, n = {', '.join(map(str, counts))}" if counts else None
    # Given by themselves: of all lines a legend leaves out those whose name begins with "_".
    legend = ax.legend(
        handles=handles, title=note, fontsize="small", title_fontsize="small", alignment="left"
    )
    as_written(legend)
    return ax


def _standard_error(values: Floats) -> Floats:
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _table(name: str, values: ArrayLike) -> Floats:
    """Curves as `(n, points)`."""
    argument = f"methods[{name!r}]"
    table = real_array(argument, stacked(argument, values))
    if table.ndim not in (1, 2) or table.shape[-1] < 2:
        raise ValueError(
            f"`methods[{name!r}]` must be (n, points) or (points,), of at least two points; "
            f"got {table.shape}."
        )
    return np.atleast_2d(table)
