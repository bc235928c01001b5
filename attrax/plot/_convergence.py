"""How an integral comes closer to its value with every evaluation."""

from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from .._show._inputs import Floats, entries_of, printable, real_array, shaped
from ._canvas import NAMED, as_written, new_axes, note


class Convergence(NamedTuple):
    """What is known about an attribution after each number of evaluations.

    All but the first are `(L,)`, not negative, and relative to the size of the attribution,
    `sum |A|`. At least one of them must be given.

    Attributes:
        evaluations: `(L,)`, ascending: nodes of a rule, or `evaluations` of `attrax.Certified`.
        error: the true one, `sum |A - A'| / sum |A'|` with A' known on paper or from many nodes; or
            the change from the coarser result.
        estimate: of the error: `error_estimate` of `attrax.Certified`, or the difference from a
            coarser rule.
        gap: `|completeness gap| / sum |A|`. Where the attribution is complete it is at most the
            error; it can be zero where the error is not.
    """

    evaluations: ArrayLike
    error: ArrayLike | None = None
    estimate: ArrayLike | None = None
    gap: ArrayLike | None = None


_KINDS = {
    "error": ("error", "-", "o"),
    "estimate": ("error estimate", "--", None),
    "gap": ("completeness gap", ":", None),
}


def convergence(
    runs: Mapping[str, Convergence],
    *,
    tolerance: float | None = None,
    title: str = "Convergence of the integral",
    ax: Axes | None = None,
) -> Axes:
    """Draws errors, their estimates and completeness gaps against the number of evaluations.

    `y = sum |A_n - A'| / sum |A'|` and the estimates of it, over n, both on logarithmic axes

    Each run, a rule or an example, has a colour; seven can be told apart. The error is solid, its
    estimate dashed, the completeness gap dotted. A good estimate runs above the error and close to
    it. The gap runs below, because errors of opposite sign cancel in it. A rule of order p is a
    straight line of slope -p.

    Logarithmic axes have no zero: a value that is exactly zero is a triangle at the lower edge.

    Args:
        runs: name to a `Convergence(evaluations, error, estimate, gap)`.
        tolerance: the bound that the error should stay below, drawn as a grey line.
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite or negative, evaluations
            that do not ascend, or nothing at all.

    Example:
        Of the integral of `t^2` over [0, 1], whose value is 1/3.

        >>> from attrax.quadrature import midpoint
        >>> n = [1, 2, 4, 8]
        >>> found = np.array([midpoint(k).weights @ midpoint(k).nodes ** 2 for k in n])
        >>> ax = convergence({"midpoint": Convergence(n, np.abs(3 * found - 1))})
        >>> ax.lines[0].get_ydata().tolist()
        [0.25, 0.0625, 0.015625, 0.00390625]
    """
    given = entries_of("runs", runs, "its `Convergence`")
    tables = {name: _checked(name, run) for name, run in given.items()}
    if tolerance is not None and not 0.0 < tolerance < float("inf"):
        raise ValueError(f"`tolerance` must be positive and finite; got {tolerance}.")
    ax = new_axes(6.4, 4.4) if ax is None else ax
    ax.set_xscale("log", base=2)
    for table, colour in zip(tables.values(), cycle(NAMED)):
        places = table["evaluations"]
        for kind, values in table.items():
            if kind != "evaluations":
                _draw(ax, places, values, colour, kind)
    if any(values.any() for table in tables.values() for k, values in table.items() if k in _KINDS):
        ax.set_yscale("log")
    else:
        ax.set_ylim(0.0, 1.0)
        note(ax, "all zero")
    if tolerance is not None:
        _draw_tolerance(ax, tolerance)
    places = np.unique(np.concatenate([table["evaluations"] for table in tables.values()]))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(places[0] / 1.2, places[-1] * 1.2)
    ax.set_xlabel("evaluations")
    ax.set_ylabel("relative to the attribution")
    ax.set_title(printable(title))
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    as_written(ax.legend(handles=_handles(tables), fontsize="small", loc="lower left"))
    return ax


def _handles(tables: Mapping[str, Mapping[str, Floats]]) -> list[Line2D]:
    """A colour for each run, and a dash for each kind of line that there is."""
    runs = [Line2D([], [], color=c, label=name) for name, c in zip(tables, cycle(NAMED))]
    present = {kind for table in tables.values() for kind in table}
    return runs + [
        Line2D([], [], color="0.3", linestyle=dash, marker=marker, markersize=4, label=label)
        for kind, (label, dash, marker) in _KINDS.items()
        if kind in present
    ]


def _draw_tolerance(ax: Axes, tolerance: float) -> None:
    ax.axhline(tolerance, color="0.6", linewidth=1.0, zorder=0)
    ax.annotate(
        f"tolerance {tolerance:.3g}",
        (1.0, tolerance),
        xycoords=ax.get_yaxis_transform(),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize="small",
        color="0.4",
    )


def _draw(ax: Axes, places: Floats, values: Floats, colour: str, kind: str) -> None:
    """One line, and triangles where it is zero."""
    _, dash, marker = _KINDS[kind]
    zero = values == 0.0
    shown = np.where(zero, np.nan, values)
    ax.plot(places, shown, color=colour, linestyle=dash, marker=marker, markersize=4)
    # An empty line that is not clipped would count as one at the corner of the figure.
    if zero.any():
        ax.plot(
            places[zero],
            np.full(int(zero.sum()), 0.02),
            color=colour,
            linestyle="none",
            marker="v",
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )


def _checked(name: str, run: Convergence) -> dict[str, Floats]:
    """The fields that are given, as arrays."""
    if not isinstance(run, Convergence):
        raise TypeError(
            f"`runs[{name!r}]` must be a `Convergence(evaluations, error, estimate, gap)`; got a "
            f"{type(run).__name__}."
        )
    table = {
        field: real_array(f"runs[{name!r}].{field}", values)
        for field, values in run._asdict().items()
        if values is not None
    }
    places = shaped(f"runs[{name!r}].evaluations", table["evaluations"], 1, "(L,)")
    if places[0] <= 0.0 or (np.diff(places) <= 0.0).any():
        raise ValueError(
            f"`runs[{name!r}].evaluations` must be positive and ascend; got {places.tolist()}."
        )
    if len(table) == 1:
        raise ValueError(f"`runs[{name!r}]` must have an `error`, an `estimate` or a `gap`.")
    for field, values in table.items():
        if values.shape != places.shape:
            raise ValueError(
                f"`runs[{name!r}].{field}` must have one value for each of the evaluations; "
                f"got {values.shape} against {places.shape}."
            )
        if (values < 0.0).any():
            raise ValueError(
                f"`runs[{name!r}].{field}` must not be negative; got {values.min()}. "
                "Take the absolute value."
            )
    return table
