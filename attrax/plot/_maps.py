"""One attribution, one picture."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import ArrayLike

from .._show._arrays import mask_array
from .._show._inputs import (
    check_fraction,
    check_same_pixels,
    image_array,
    map_array,
    scale_limit,
)
from ._canvas import (
    MAGNITUDE,
    SIGNED,
    draw_image,
    draw_map,
    note,
    picture_axes,
    with_units,
)


def heatmap(
    attribution: ArrayLike,
    *,
    percentile: float = 99.0,
    limit: float | None = None,
    units: str = "",
    cmap: str | Colormap = MAGNITUDE,
    title: str = "Attribution magnitude",
    ax: Axes | None = None,
) -> Axes:
    r"""Draws how strongly each pixel is attributed, ignoring the sign.

    $$m_p = \sum_c |attribution_{p,c}|$$

    Coloured from 0 to the `percentile` of $m$.

    Pixels above the end of the scale get its last colour, and the colour bar an arrow. If the
    percentile is 0 although the map is not, the scale ends at the maximum. A map that is zero
    everywhere is left blank and says so.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        percentile: where the scale ends, in (0, 100]; 100 clips nothing.
        limit: the end of the scale as a value, instead of `percentile`: the same for several
            maps makes them comparable.
        units: what attributions are measured in, such as "logit"; written on the colour bar.
        cmap: colour map of magnitudes.
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on other shapes, values that are not finite, options out of range.

    Example:
        >>> heatmap([[0.0, -2.0], [1.0, 0.0]], percentile=100).images[0].get_clim()
        (0.0, 2.0)
    """
    values = np.abs(map_array("attribution", attribution)).sum(axis=-1)
    high = scale_limit(values, percentile, limit)
    ax = picture_axes(ax, values)
    label = with_units("|attribution|", units)
    draw_map(ax, values, low=0.0, high=high, cmap=cmap, title=title, label=label)
    return ax


def signed(
    attribution: ArrayLike,
    *,
    percentile: float = 99.0,
    limit: float | None = None,
    units: str = "",
    cmap: str | Colormap = SIGNED,
    title: str = "Signed attribution",
    ax: Axes | None = None,
) -> Axes:
    r"""Draws for and against: blue pixels raise the score, red ones lower it.

    $$s_p = \sum_c attribution_{p,c}$$

    Coloured from $-v$ to $v$, where $v$ is the `percentile` of $|s|$.

    The scale is symmetric, so zero is always white. Channels of opposite sign cancel; `heatmap`
    still shows those pixels.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        percentile: where the scale ends, in (0, 100]; 100 clips nothing.
        limit: the end of the scale as a value, instead of `percentile`.
        units: what attributions are measured in, such as "logit"; written on the colour bar.
        cmap: diverging colour map, its middle at zero.
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on other shapes, values that are not finite, options out of range.

    Example:
        >>> signed([[0.0, -2.0], [1.0, 0.0]], percentile=100).images[0].get_clim()
        (-2.0, 2.0)
    """
    values = map_array("attribution", attribution).sum(axis=-1)
    high = scale_limit(np.abs(values), percentile, limit)
    ax = picture_axes(ax, values)
    label = with_units("attribution", units)
    draw_map(ax, values, low=-high, high=high, cmap=cmap, title=title, label=label)
    return ax


def overlay(
    attribution: ArrayLike,
    image: ArrayLike,
    *,
    alpha: float = 0.6,
    percentile: float = 99.0,
    limit: float | None = None,
    units: str = "",
    cmap: str | Colormap = MAGNITUDE,
    title: str = "Overlay",
    ax: Axes | None = None,
) -> Axes:
    r"""Draws the magnitude map over the image.

    $$picture = \alpha \, colour(m) + (1 - \alpha) \, image$$

    where $m$ is that of `heatmap`.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in [0, 1] or uint8.
        alpha: opacity of the map, in [0, 1].
        percentile: where the colour scale ends, in (0, 100]; 100 clips nothing.
        limit: the end of the scale as a value, instead of `percentile`.
        units: what attributions are measured in, such as "logit"; written on the colour bar.
        cmap: colour map of magnitudes.
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, an image outside
            [0, 1], options out of range.
    """
    check_fraction("alpha", alpha)
    picture = image_array("image", image)
    values = map_array("attribution", attribution, picture)
    check_same_pixels(values, picture)
    magnitudes = np.abs(values).sum(axis=-1)
    high = scale_limit(magnitudes, percentile, limit)
    ax = picture_axes(ax, picture)
    draw_image(ax, picture, title)
    if high == 0.0:
        note(ax, "all zero")
        return ax
    label = with_units("|attribution|", units)
    draw_map(ax, magnitudes, low=0.0, high=high, cmap=cmap, alpha=alpha, title=title, label=label)
    return ax


def mask(
    attribution: ArrayLike,
    image: ArrayLike,
    *,
    blur: float = 5.0,
    threshold: float = 0.5,
    opacity: float = 0.2,
    title: str = "Most attributed pixels",
    ax: Axes | None = None,
) -> Axes:
    """Draws the image with all but its most attributed pixels darkened.

    `picture = image * (1 where a > p, else opacity)`; `mask_array` has the recipe.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in any range: it is scaled to [0, 1].
        blur: standard deviation of the Gaussian blur, in pixels; 0 is none.
        threshold: quantile in [0, 1] above which pixels are kept.
        opacity: factor in [0, 1] for the other pixels.
        title: title of the picture.
        ax: axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.
    """
    picture = image_array(
        "image",
        mask_array(attribution, image, blur=blur, threshold=threshold, opacity=opacity),
    )
    ax = picture_axes(ax, picture)
    draw_image(ax, picture, title)
    if not np.any(np.asarray(attribution)):
        note(ax, "all zero")
    return ax
