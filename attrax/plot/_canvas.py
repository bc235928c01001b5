"""What every picture shares: the colours, new figures without pyplot, images, colour bars."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.transforms import BboxTransformTo, ScaledTranslation, blended_transform_factory

from .._show._inputs import Floats, printable

POSITIVE = "#2166ac"
NEGATIVE = "#b2182b"
# Red and blue stay apart for red-green colour blindness. The number of colours is odd so that
# zero, the middle, is exactly white.
SIGNED = LinearSegmentedColormap.from_list(
    "attrax_signed",
    ["#67001f", NEGATIVE, "#d6604d", "#f4a582", "white", "#92c5de", "#4393c3", POSITIVE, "#053061"],
    N=257,
)
MAGNITUDE = "inferno"
# For what has no sign, such as methods: the colours of Okabe and Ito (2008), and dashes with them.
NAMED = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
DASHES = ("-", "--", "-.", ":")


def part_of(cmap: str | Colormap, low: float, high: float) -> Colormap:
    """A colour map between two of its places; what is not a number is grey."""
    whole = cmap if isinstance(cmap, Colormap) else colormaps[cmap]
    colours = whole(np.linspace(low, high, 257))
    return ListedColormap(colours).with_extremes(bad="0.6")


def new_figure(width: float, height: float, *, compress: bool = False) -> Figure:
    """A figure that pyplot does not know of; sizes in inches.

    `compress` moves a grid of images together where their proportions leave room between them.
    """
    # The default padding of 0.04 inch leaves titles and colour bars at the very edge.
    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, compress=compress)
    return Figure(figsize=(width, height), layout=engine)


def new_axes(width: float, height: float) -> Axes:
    """One axes on a new figure."""
    return new_figure(width, height).subplots()


def picture_axes(ax: Axes | None, values: Floats) -> Axes:
    """`ax`, or a new one whose figure has the proportions of `values`, `(H, W, ...)`."""
    if ax is not None:
        return ax
    height, width = values.shape[:2]
    return new_axes(5.8, min(max(4.6 * height / width, 1.2), 12.0) + 0.6)


def draw_image(ax: Axes, image: Floats, title: str) -> None:
    """An image of [0, 1], grey where it has no channels, without ticks."""
    ax.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    ax.set_title(printable(title))
    _frame(ax)


def draw_map(
    ax: Axes,
    values: Floats,
    *,
    low: float,
    high: float,
    cmap: str | Colormap,
    alpha: float = 1.0,
    title: str,
    label: str,
) -> None:
    """`values` in colour from `low` to `high`, with a colour bar as high as the picture.

    The bar has an arrow at an end where values are clipped. `high = 0` says that all is zero.
    """
    ax.set_title(printable(title))
    if high == 0.0:
        ax.imshow(values, cmap=SIGNED, vmin=-1.0, vmax=1.0)  # white
        note(ax, "all zero")
        _frame(ax)
        return
    norm = Normalize(low, high)
    ax.imshow(values, cmap=cmap, norm=norm, alpha=alpha, interpolation="nearest")
    _frame(ax)
    # An inset follows the drawn picture under any layout; a mappable of its own stays opaque.
    inset = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    colour_bar(inset, norm, cmap, values=values, label=label)


def beside(ax: Axes, left: float, width: float, *, sharey: Axes | None = None) -> Axes:
    """Axes as high as `ax`, so many inches right of it.

    A layout that gives room to what stands beside `ax` changes the width of `ax`; shares of that
    would not settle.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None  # an axes removed from its figure cannot be drawn on
    inches = figure.dpi_scale_trans + ScaledTranslation(1.0, 0.0, BboxTransformTo(ax.bbox))
    place = blended_transform_factory(inches, ax.transAxes)
    return ax.inset_axes((left, 0.0, width, 1.0), transform=place, sharey=sharey)


def colour_bar(
    ax: Axes, norm: Normalize, cmap: str | Colormap, *, values: Floats, label: str
) -> Colorbar:
    """Makes `ax` a scale, with an arrow at an end beyond which there are `values`."""
    assert norm.vmin is not None and norm.vmax is not None
    over, under = bool(values.max() > norm.vmax), bool(values.min() < norm.vmin)
    extend = {(0, 0): "neither", (1, 0): "max", (0, 1): "min", (1, 1): "both"}[over, under]
    figure = ax.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=ax, extend=extend)
    bar.set_label(label)
    return bar


def note(ax: Axes, text: str) -> None:
    """A short remark in the middle of the axes."""
    ax.text(
        0.5,
        0.5,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        color="0.25",
        bbox={"facecolor": "white", "edgecolor": "0.8", "alpha": 0.85, "boxstyle": "round"},
    )


def as_written(legend: Legend) -> None:
    """Names are text and nothing else: no mathematics between dollar signs."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def with_units(label: str, units: str) -> str:
    """`label (units)`, or `label` where `units` is empty."""
    return printable(f"{label} ({units})" if units else label)


def _frame(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("0.8")
