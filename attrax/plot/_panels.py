"""Several pictures of one example on one figure."""

from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .._show._arrays import saliency_array
from .._show._inputs import (
    check_same_pixels,
    image_array,
    map_array,
    one_array,
    real_array,
    stacked,
)
from ._canvas import MAGNITUDE, draw_image, new_figure, note
from ._maps import heatmap, overlay


def saliency(attribution: ArrayLike, image: ArrayLike) -> Figure:
    """Draws the image and, beside it, the positive part of its attribution.

    `s = clip(attribution, 0, 1)`, drawn as `s / max(s)`.

    Three channels are drawn as colours; with any other number, the largest value is drawn in grey.

    Args:
        attribution: `(H, W, C)` or `(H, W)`, usually a gradient.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.

    Returns:
        The figure, with two axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, an image outside
            [0, 1].
    """
    picture = image_array("image", image)
    values = map_array("attribution", attribution, picture)
    check_same_pixels(values, picture)
    shown = saliency_array(values)
    figure, (left, right) = _grid(1, 2, picture.shape, cell=3.6)
    draw_image(left, picture, "Image")
    draw_image(right, shown if shown.shape[-1] == 3 else shown.max(axis=-1), "Saliency")
    if not shown.any():
        note(right, "nothing positive" if values.any() else "all zero")
    return figure


def interpolation_strip(
    points: ArrayLike, *, nodes: ArrayLike | None = None, columns: int = 8
) -> Figure:
    """Draws the images along a path from baseline to input, in reading order.

    Image `k` is `points[k] = baseline + t_k (x - baseline)` on the straight path.

    Args:
        points: `(n, H, W, 3)`, `(n, H, W, 1)` or `(n, H, W)` in [0, 1] or uint8, as
            `attrax.paths.interpolate` gives them. Slice a long path: `points[::5]`.
        nodes: the `n` positions `t_k`, written above the images; their numbers if not given.
        columns: images a row, at most.

    Returns:
        The figure, with one axes an image.

    Raises:
        ValueError: on shapes that do not fit, images outside [0, 1], values that are not finite.
    """
    images = one_array("points", stacked("points", points))
    if images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(
            "`points` must be n images, (n, H, W, 3), (n, H, W, 1) or (n, H, W); "
            f"got {images.shape}."
        )
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1; got {columns}.")
    titles = [str(k) for k in range(len(images))]
    if nodes is not None:
        positions = real_array("nodes", nodes)
        if positions.shape != images.shape[:1]:
            raise ValueError(
                "`nodes` must hold one position an image of `points`; "
                f"got {positions.shape} against {images.shape}."
            )
        titles = [f"t = {t:.3g}" for t in positions]
    pictures = [image_array(f"points[{k}]", image) for k, image in enumerate(images)]
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)
    figure, axes = _grid(rows, columns, images.shape[1:], cell=1.5)
    for ax, picture, title in zip(axes, pictures, titles, strict=False):
        draw_image(ax, picture, title)
        ax.title.set_fontsize("small")
    for ax in axes[len(images) :]:
        ax.remove()
    return figure


def four_panel(
    attribution: ArrayLike,
    image: ArrayLike,
    baseline: ArrayLike | None = None,
    *,
    alpha: float = 0.6,
    percentile: float = 99.0,
    units: str = "",
    cmap: str | Colormap = MAGNITUDE,
) -> Figure:
    """Draws baseline, image, attribution mask and overlay, two by two.

    `mask = sum_c |attribution[..., c]|`, on the scale of `heatmap`; `overlay` as there.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        baseline: image of the same shape that the attribution is measured from; zeros where not
            given.
        alpha: opacity of the map in the overlay, in [0, 1].
        percentile: where the colour scale ends, in (0, 100]; 100 clips nothing.
        units: what attributions are measured in, such as "logit"; written on the colour bars.
        cmap: colour map of magnitudes.

    Returns:
        The figure, with four axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, images outside [0, 1],
            options out of range.
    """
    picture = image_array("image", image)
    start = np.zeros_like(picture) if baseline is None else image_array("baseline", baseline)
    if start.shape != picture.shape:
        raise ValueError(
            f"`baseline` must have the shape of `image`; got {start.shape} against {picture.shape}."
        )
    values = map_array("attribution", attribution, picture)
    check_same_pixels(values, picture)
    figure, axes = _grid(2, 2, picture.shape, cell=3.6, beside=0.9)
    draw_image(axes[0], start, "Baseline image")
    draw_image(axes[1], picture, "Original image")
    heatmap(
        np.abs(values).sum(axis=-1),
        percentile=percentile,
        units=units,
        cmap=cmap,
        title="Attribution mask",
        ax=axes[2],
    )
    overlay(
        attribution,
        image,
        alpha=alpha,
        percentile=percentile,
        units=units,
        cmap=cmap,
        ax=axes[3],
    )
    return figure


def _grid(
    rows: int, columns: int, shape: tuple[int, ...], *, cell: float, beside: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Axes for `rows` by `columns` images of `shape`, `cell` inches wide, and what is `beside`."""
    proportion = shape[0] / shape[1]
    width = min(cell, 2.0 * cell / proportion)  # tall images get narrower cells
    height = max(width * proportion, 0.3) + 0.5
    width += beside + 0.2
    figure = new_figure(columns * width, rows * height, compress=True)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
