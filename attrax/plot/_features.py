"""Attributions of features that have names: a table's columns. One example, and many."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import ArrayLike, NDArray

from .._show._inputs import Floats, printable, real_array, record, stacked
from ._canvas import (
    NEGATIVE,
    POSITIVE,
    beside,
    colour_bar,
    new_axes,
    note,
    part_of,
    with_units,
)
from ._rows import Row, draw_rows

# From dark to bright, without the bright end, which is too faint on white.
_VALUES = part_of("viridis", 0.0, 0.9)
_NEUTRAL = "0.55"
_SIGNS = ListedColormap([NEGATIVE, POSITIVE]).with_extremes(bad=_NEUTRAL)
_OTHERS = ListedColormap([_NEUTRAL])


def features(
    attribution: ArrayLike,
    x: Sequence[object] | ArrayLike | None = None,
    names: Sequence[str] | None = None,
    *,
    k: int = 10,
    limit: float | None = None,
    classes: tuple[str, str] | None = None,
    units: str = "",
    title: str = "Attribution of each feature",
    ax: Axes | None = None,
) -> Axes:
    """Draws the features of one example as signed bars, the largest magnitudes first.

    `rows = argsort(-|a|)[:k]`, and below them the sum of all others, in a fainter colour

    The numbers shown add up to the whole attribution. Features of equal magnitude keep their order.
    If only one feature is left over, it is drawn by itself. In the sum of the others, opposite
    signs cancel.

    Args:
        attribution: `(N,)`, one value a feature.
        x: the example: `(N,)` numbers or texts, written after the names.
        names: of the features; their numbers if not given.
        k: how many features have a row of their own.
        limit: the horizontal axis is scaled to this value, so that several pictures can be
            compared; to the largest value drawn if not given.
        classes: names of the classes that blue (positive) and red (negative) stand for.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        TypeError: when an entry of `x` is neither a text nor a real number.
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> ax = features([0.5, -3.0, 0.25, 1.0], ["no", 61, 0.1, 2.5], list("abcd"), k=2)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['b = 61', 'd = 2.5', '2 others']
        >>> [text.get_text() for text in ax.texts]
        ['−3', '+1', '+0.75']
    """
    values = real_array("attribution", attribution)
    if values.ndim != 1:
        raise ValueError(
            "`attribution` must be that of one example, (N,), one value a feature; got "
            f"{values.shape}. `plot.summary` draws many examples."
        )
    called = _names(names, len(values))
    if x is not None:
        entries = record(x, len(values))
        called = [f"{name} = {entry}" for name, entry in zip(called, entries, strict=True)]
    shown, others = _split(np.abs(values), k)
    rows = [Row(called[i], float(values[i])) for i in shown]
    if len(others):
        rows.append(Row(f"{len(others)} others", float(values[others].sum()), faint=True))
    ax = new_axes(6.4, max(len(rows), 2) * 0.32 + 1.1) if ax is None else ax
    draw_rows(ax, rows, limit, classes)
    ax.set_xlabel(with_units("attribution", units))
    ax.set_title(printable(title))
    return ax


def summary(
    attributions: ArrayLike,
    xs: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    *,
    k: int = 10,
    means: bool = True,
    units: str = "",
    title: str = "Attributions of all examples",
    ax: Axes | None = None,
) -> Axes:
    """Draws many examples: a row for each feature, with a dot for each example.

    A dot stands at `attributions[example, feature]`; its colour shows `xs[example, feature]`.

    Rows are sorted by mean magnitude over the examples, `mean_n |a[n, i]|`, which bars beside them
    show. The last row is the sum of all other features. Dots with about the same attribution are
    stacked, low feature values below high ones; a stack is never higher than its row. Nothing is
    drawn at random.

    The colour of a dot shows where a value lies between the 5th and 95th percentiles of its own
    feature. Values beyond them have the end colours; a feature with a single value is grey. Without
    `xs`, blue dots are positive, red ones negative and grey ones zero.

    Args:
        attributions: `(n, N)`, examples by features.
        xs: the examples, `(n, N)`.
        names: of the features; their numbers if not given.
        k: how many features have a row of their own.
        means: whether the bars of mean magnitudes are drawn.
        units: what attributions are measured in, such as "logit".
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes; those of the bars and of the colours are its `child_axes`.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> ax = summary([[0.5, -3.0], [1.0, 2.0]], [[0.0, 1.0], [1.0, 0.0]], ["age", "dose"])
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['dose', 'age']
        >>> ax.collections[0].get_offsets()[:, 0].tolist()
        [-3.0, 2.0]

    References:
        Lundberg et al. (2020), doi:10.1038/s42256-019-0138-9, the summary plot. There the stacks
        are shuffled, and the mean magnitudes are a picture of their own.
    """
    values = real_array("attributions", stacked("attributions", attributions))
    if values.ndim != 2:
        raise ValueError(
            f"`attributions` must be (n, N), examples by features; got {values.shape}. "
            "`plot.features` draws one example."
        )
    called = _names(names, values.shape[1])
    table = None if xs is None else real_array("xs", stacked("xs", xs))
    if table is not None and table.shape != values.shape:
        raise ValueError(
            "`xs` must hold the value of every attribution; "
            f"got {table.shape} against {values.shape}."
        )
    shown, others = _split(np.abs(values).mean(axis=0), k)
    labels, rows = [called[i] for i in shown], [values[:, i] for i in shown]
    colours = [_colours(values[:, i], None if table is None else table[:, i]) for i in shown]
    if len(others):
        labels.append(f"{len(others)} others")
        rows.append(values[:, others].sum(axis=1))
        colours.append((np.zeros(len(values)), _OTHERS))

    width = 6.4 + 1.3 * means + 0.5 * (table is not None)
    ax = new_axes(width, max(len(rows), 2) * 0.45 + 1.1) if ax is None else ax
    heights = _draw_dots(ax, rows, colours, labels)
    ax.set_xlabel(with_units("attribution", units))
    ax.set_title(printable(title))
    if means:
        _draw_means(ax, [float(np.abs(row).mean()) for row in rows], heights, units)
    if table is not None:
        inset = beside(ax, 1.45 if means else 0.15, 0.13)
        norm, label = Normalize(0.0, 1.0), "feature value"
        bar = colour_bar(inset, norm, _VALUES, values=np.zeros(1), label=label)
        bar.set_ticks([0.0, 1.0], labels=["low", "high"])
    return ax


def _draw_dots(
    ax: Axes,
    rows: Sequence[Floats],
    colours: Sequence[tuple[Floats, Colormap]],
    labels: Sequence[str],
) -> list[float]:
    """Draws a row of dots for each feature; row i is centred at the height returned for it."""
    heights = [float(len(rows) - 1 - i) for i in range(len(rows))]
    ax.axvline(0.0, color="0.3", linewidth=0.8, zorder=1)
    _scale(ax, np.concatenate(rows))
    dot = float(np.clip(60 / np.sqrt(len(rows[0])), 2.0, 5.0))  # points
    across, up = _dots(ax, dot, len(rows))
    for row, (shares, cmap), height in zip(rows, colours, heights, strict=True):
        ax.axhline(height, color="0.85", linewidth=0.8, zorder=0)
        ax.scatter(
            row,
            height + piles(row, shares, across, up),
            s=dot**2,
            c=shares,
            cmap=cmap,
            vmin=0.0,
            vmax=1.0,
            linewidths=0.0,
            plotnonfinite=True,
            zorder=2,
        )
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_yticks(heights, labels, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return heights


def piles(row: Floats, order: Floats, across: float, up: float) -> Floats:
    """How far above or below its row each dot stands, at most 0.4.

    Dots in the same column, `across` wide, are piled up in the order given, `up` apart or closer.

    Example:
        >>> piles(np.array([0.0, 0.1, 5.0, 0.2]), np.array([3.0, 1.0, 0.0, 2.0]), 1.0, 0.1).tolist()
        [0.1, -0.1, 0.0, 0.0]
    """
    columns = np.floor(row / across + 0.5)
    offsets = np.zeros(len(row))
    for column in np.unique(columns):
        (found,) = np.nonzero(columns == column)
        ranks = np.argsort(np.argsort(order[found], kind="stable"), kind="stable")
        step = min(up, 0.8 / max(len(found) - 1, 1))
        offsets[found] = (ranks - (len(found) - 1) / 2) * step
    return offsets


def _split(magnitudes: Floats, k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The `k` largest, in descending order, and all others. A single one is no others."""
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    order = np.argsort(-magnitudes, kind="stable")
    k = k if len(order) > k + 1 else len(order)
    return order[:k], order[k:]


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    if names is None:
        return [str(i) for i in range(n)]
    if isinstance(names, str) or len(names) != n:
        raise ValueError(f"`names` must name each of the {n} features; got {names!r}.")
    return [printable(str(name)) for name in names]


def _colours(row: Floats, values: Floats | None) -> tuple[Floats, Colormap]:
    """From 0 to 1 for each dot, NaN for grey, and what colours these are."""
    if values is None:
        return np.where(row == 0.0, np.nan, row > 0.0), _SIGNS
    low, high = np.percentile(values, [5.0, 95.0])
    if low == high:  # nearly all are equal
        low, high = values.min(), values.max()
    if low == high:
        return np.full(len(values), np.nan), _VALUES
    return ((values - low) / (high - low)).clip(0.0, 1.0), _VALUES


def _scale(ax: Axes, values: Floats) -> None:
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    if low == high:
        ax.set_xlim(-1.0, 1.0)
        note(ax, "all zero")
    else:
        room = 0.04 * (high - low)
        ax.set_xlim(low - room, high + room)


def _dots(ax: Axes, dot: float, rows: int) -> tuple[float, float]:
    """The size of a dot of `dot` points, in data units along both axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    width, height = 72 * box.width / figure.dpi, 72 * box.height / figure.dpi
    low, high = ax.get_xlim()
    return dot * (high - low) / width, dot * (rows + 0.2) / height


def _draw_means(ax: Axes, means: list[float], heights: list[float], units: str) -> None:
    inset = beside(ax, 0.15, 1.1, sharey=ax)
    inset.barh(heights, means, height=0.6, color=_NEUTRAL)
    inset.set_xlim(0.0, 1.05 * max(means) or 1.0)
    inset.set_xlabel(with_units("mean |a|", units))
    inset.locator_params(axis="x", nbins=2)
    inset.tick_params(axis="y", left=False, labelleft=False)
    inset.spines[["top", "right"]].set_visible(False)
