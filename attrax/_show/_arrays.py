"""The array recipes behind two of the pictures. NumPy float64, no drawing."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from ._inputs import (
    Floats,
    check_fraction,
    check_same_pixels,
    image_shape,
    map_array,
    one_array,
    real_array,
)


def _unit_range(array: Floats) -> Floats:
    """`(array - min) / (max - min)`; zeros for a constant."""
    shifted = array - array.min()
    top = shifted.max()
    return shifted / top if top > 0.0 else shifted


def mask_array(
    attribution: ArrayLike,
    image: ArrayLike,
    *,
    blur: float = 5.0,
    threshold: float = 0.5,
    opacity: float = 0.2,
    combine_channels: bool = True,
) -> Floats:
    """The image with all but its most attributed pixels darkened.

    `out = image' * (1 where a > p, else opacity)`, where `a` is the mean of `attribution` over
    channels, blurred and scaled to [0, 1], `p` its `threshold` quantile, and `image'` the image
    scaled to [0, 1] by its own minimum and maximum.

    A pixel exactly at the quantile is darkened, so a constant attribution darkens everything.
    The mean is signed: pass `abs(attribution)` to keep strong negative pixels too.

    Args:
        attribution: `(H, W, C)` or `(H, W)`.
        image: `(H, W, 3)`, `(H, W, 1)` or `(H, W)`, in any range. A constant image stays as it
            is, clipped to [0, 1].
        blur: standard deviation of the Gaussian blur, in pixels; 0 is none.
        threshold: quantile in [0, 1]; 0.5 keeps the brighter half of the pixels.
        opacity: factor in [0, 1] for the other pixels.
        combine_channels: without it every value of an attribution shaped like the image is kept
            or darkened by itself, and the blur also runs across the channel axis.

    Returns:
        Float64 array shaped like `image`, values in [0, 1].

    Raises:
        ValueError: on shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> mask_array([[0.0, 1.0], [2.0, 3.0]], [[1.0, 0.0], [1.0, 1.0]], blur=0.0).tolist()
        [[0.2, 0.0], [1.0, 1.0]]
    """
    check_fraction("threshold", threshold)
    check_fraction("opacity", opacity)
    if not 0.0 <= blur < float("inf"):
        raise ValueError(f"`blur` must be a finite number of pixels, 0 or more; got {blur}.")
    raw = one_array("image", image)
    picture = real_array("image", raw) / (255.0 if raw.dtype == np.uint8 else 1.0)
    shape = picture.shape
    values = map_array("attribution", attribution, image_shape("image", picture))
    check_same_pixels(values, picture)
    picture = picture if picture.ndim == 3 else picture[..., None]
    if combine_channels:
        values = values.mean(axis=-1, keepdims=True)
    elif values.shape != picture.shape:
        raise ValueError(
            "`attribution` must have the channels of `image` when `combine_channels` is False; "
            f"got {values.shape} against {picture.shape}."
        )
    # Cut off at 4 sigma, mirrored beyond the edges, weights that sum to 1.
    values = _unit_range(gaussian_filter(values, blur))
    kept = values > np.percentile(values, 100.0 * threshold)
    constant = picture.min() == picture.max()
    picture = picture.clip(0.0, 1.0) if constant else _unit_range(picture)
    return (picture * np.where(kept, 1.0, opacity)).reshape(shape)


def saliency_array(attribution: ArrayLike) -> Floats:
    """The positive part of an attribution, scaled to [0, 1].

    `s = clip(attribution, 0, 1)`, `out = s / max(s)`; zeros where nothing is positive.

    Negative values are dropped and values above 1 saturate before the division: a picture of
    where the score rises, not of how much.

    Args:
        attribution: any shape.

    Returns:
        Float64 array shaped like `attribution`, values in [0, 1].

    Raises:
        ValueError: where values are not finite.

    Example:
        >>> saliency_array([-1.0, 0.25, 0.5]).tolist()
        [0.0, 0.5, 1.0]
    """
    clipped = real_array("attribution", attribution).clip(0.0, 1.0)
    top = clipped.max()
    return clipped / top if top > 0.0 else clipped
