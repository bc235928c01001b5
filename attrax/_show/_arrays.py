"""The array recipes behind the pictures: checks, reductions, scales. NumPy float64, no drawing."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Float images that leave [0, 1] by rounding (bfloat16 has 8 bits) are clipped, not refused.
_ROUNDING = 2.0**-7


def real_array(name: str, value: ArrayLike) -> Floats:
    """`value` as a finite, non-empty float64 array; `name` is the argument named in errors."""
    array: NDArray[Any] = np.asarray(value)
    # ml_dtypes.bfloat16 and its kin report kind "V".
    if array.dtype.kind not in "biufV":
        raise TypeError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
    if array.size == 0:
        raise ValueError(f"`{name}` must not be empty; got shape {array.shape}.")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{name}` must be finite; {int(bad.sum())} of its {array.size} values are not, "
            f"the first at {first} is {array[first]}."
        )
    return array


def written(name: str, value: object) -> str:
    """An entry of an example as text: three significant digits, whole numbers below 1e6 all theirs.

    Example:
        >>> [written("x", value) for value in ("no", 61, -0.12345, 1234567.0)]
        ['no', '61', '−0.123', '1.23e+06']
    """
    if isinstance(value, str | bool | np.bool):
        return str(value)
    number = real_array(name, np.asarray(value)).item()
    is_whole = number == round(number) and abs(number) < 1e6
    return (f"{number:.0f}" if is_whole else f"{number:.3g}").replace("-", "−")


def attribution_array(attribution: ArrayLike) -> Floats:
    """`attribution` as `(H, W, C)`; `(H, W)` gets one channel."""
    array = real_array("attribution", attribution)
    if array.ndim not in (2, 3):
        raise ValueError(
            "`attribution` must be that of one example, (H, W, C) or (H, W); "
            f"got {array.shape}. Index the batch axis first."
        )
    return array if array.ndim == 3 else array[..., None]


def _image_shape(name: str, array: Floats) -> Floats:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        raise ValueError(
            f"`{name}` must be one image, (H, W, 3), (H, W, 1) or (H, W); got {array.shape}."
        )
    return array


def image_array(name: str, image: ArrayLike) -> Floats:
    """`image` as `(H, W, 3)` or `(H, W)` in [0, 1]; uint8 is divided by 255."""
    is_bytes = np.asarray(image).dtype == np.uint8
    array = _image_shape(name, real_array(name, image))
    if is_bytes:
        return array / 255.0
    if array.min() < -_ROUNDING or array.max() > 1.0 + _ROUNDING:
        raise ValueError(
            f"`{name}` must lie in [0, 1] or be uint8; got values from {array.min():.4g} to "
            f"{array.max():.4g}. Undo the model's preprocessing before plotting."
        )
    return array.clip(0.0, 1.0)


def check_same_pixels(attribution: Floats, image: Floats, name: str = "image") -> None:
    """Raises unless both have the same height and width."""
    if attribution.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"`attribution` and `{name}` must have the same height and width; "
            f"got {attribution.shape} against {image.shape}. "
            "Attributions of an inner layer can be enlarged with `jax.image.resize`."
        )


def check_fraction(name: str, value: float) -> None:
    """Raises unless `value` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"`{name}` must lie in [0, 1]; got {value}.")


def scale_limit(magnitudes: Floats, percentile: float, limit: float | None = None) -> float:
    """The value at the end of the colour scale; 0 only where everything is zero.

    `limit` where given, else the percentile of `magnitudes`; where that percentile is 0 but
    something is not (a map with very few non-zero pixels), the maximum.
    """
    if not 0.0 < percentile <= 100.0:
        raise ValueError(
            f"`percentile` must lie in (0, 100], where 100 clips nothing; got {percentile}."
        )
    if limit is not None:
        if not 0.0 < limit < float("inf"):
            raise ValueError(f"`limit` must be positive and finite; got {limit}.")
        return float(limit)
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max())


def gaussian_blur(array: Floats, sigma: float) -> Floats:
    """Gaussian smoothing along every axis of `array`, cut off at 4 sigma.

    `out[i] = sum_k w[k] array[i + k]`, `w[k] ∝ exp(-k² / 2 sigma²)` for `|k| <= 4 sigma`, weights
    summing to 1; beyond its ends the array is mirrored, edge values repeated (d c b a | a b c d).
    Equal to `scipy.ndimage.gaussian_filter(array, sigma)`.
    """
    if not 0.0 <= sigma < float("inf"):
        raise ValueError(f"`blur` must be a finite number of pixels, 0 or more; got {sigma}.")
    if sigma == 0.0:
        return array
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in range(array.ndim):
        n = array.shape[axis]
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(array.ndim)]
        padded = np.moveaxis(np.pad(array, padding, mode="symmetric"), axis, 0)
        smooth = sum(w * padded[k : k + n] for k, w in enumerate(weights))
        array = np.moveaxis(np.asarray(smooth), 0, axis)
    return array


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
    values = attribution_array(attribution)
    scale = 255.0 if np.asarray(image).dtype == np.uint8 else 1.0
    picture = real_array("image", image) / scale
    shape = picture.shape
    _image_shape("image", picture)
    check_same_pixels(values, picture)
    picture = picture if picture.ndim == 3 else picture[..., None]
    if combine_channels:
        values = values.mean(axis=-1, keepdims=True)
    elif values.shape != picture.shape:
        raise ValueError(
            "`attribution` must have the channels of `image` when `combine_channels` is False; "
            f"got {values.shape} against {picture.shape}."
        )
    values = _unit_range(gaussian_blur(values, blur))
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


def channel_values(values: ArrayLike, name: str = "channel_attribution") -> Floats:
    array = real_array(name, values)
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must have shape (C,), one value a channel; got {array.shape}. "
            "Reduce an attribution with `attrax.channels` first."
        )
    return array
