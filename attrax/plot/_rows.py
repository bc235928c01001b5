"""Signed bars in rows, from top to bottom, each with its name and its number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import Formatter

from .._show._inputs import printable, scale_limit
from ._canvas import NEGATIVE, POSITIVE, as_written, note


class Row(NamedTuple):
    """A bar and what stands beside it."""

    name: str
    value: float | None  # None is a gap
    faint: bool = False  # a bar that stands for several


def draw_rows(
    ax: Axes, rows: Sequence[Row], limit: float | None, classes: tuple[str, str] | None
) -> list[float]:
    """Draws the rows; row i is centred at the height that is returned for it."""
    heights = [float(len(rows) - 1 - i) for i in range(len(rows))]
    shown = [row.value for row in rows if row.value is not None]
    high = scale_limit(np.abs(shown), 100.0, limit)
    for row, height in zip(rows, heights, strict=True):
        if row.value is not None:
            _draw_bar(ax, row.value, height, high, alpha=0.45 if row.faint else 1.0)
    ax.axvline(0.0, color="0.3", linewidth=0.8)
    # Room for the numbers, on the sides where bars stand.
    left = high if min(shown) < 0.0 else 0.0
    right = high if max(shown) > 0.0 else 0.0
    room = 0.3 * (left + right)
    if room:
        ax.set_xlim(-(left + room) if left else 0.0, (right + room) if right else 0.0)
    else:
        ax.set_xlim(-1.0, 1.0)
        note(ax, "all zero")
    ax.set_ylim(-0.6, len(rows) - 0.4)
    # Names are text and nothing else: no mathematics between dollar signs.
    ax.set_yticks(heights, [row.name for row in rows], parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if classes is not None:
        corner = "lower right" if right else "upper left"  # where the bars are short
        as_written(ax.legend(handles=sign_legend(classes), loc=corner, fontsize="small"))
    return heights


def _draw_bar(ax: Axes, value: float, height: float, high: float, *, alpha: float) -> None:
    negative = value < 0.0
    colour = NEGATIVE if negative else POSITIVE
    ax.barh(height, value, height=0.8, color=colour, alpha=alpha)
    ax.annotate(
        Formatter.fix_minus(f"{value:+.3g}" if value else "0"),
        (min(max(value, -high), high), height),
        xytext=(-4 if negative else 4, 0),
        textcoords="offset points",
        ha="right" if negative else "left",
        va="center",
        fontsize="small",
    )


def sign_legend(classes: tuple[str, str] | None) -> list[Patch]:
    """What blue and red speak for."""
    positive, negative = map(printable, classes or ("positive", "negative"))
    return [Patch(color=POSITIVE, label=positive), Patch(color=NEGATIVE, label=negative)]
