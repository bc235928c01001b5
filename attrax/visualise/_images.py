"""Parameterisations of images: what is optimised in place of pixels.

A parameterisation decides how the steps of an optimiser are shared between colours and frequencies,
and so decides what comes out: steps in independent pixels give noise that a network responds to,
steps in frequencies weighted as in photographs give pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, PyTree, wide_dtype
from ._colours import NATURAL, checked, coloured, components


@dataclass(frozen=True)
class Parameterisation:
    """Images of one shape as a function of parameters.

    Attributes:
        shape: of an image, `(H, W, C)`.
        init: `key -> params`, a random start.
        image: `params -> image`, in [0, 1].
        invert: `image -> params`, to start from an image.
    """

    shape: tuple[int, ...]
    init: Callable[[Array], PyTree]
    image: Callable[[PyTree], Array]
    invert: Callable[[Array], PyTree]


def fourier(
    size: tuple[int, int],
    *,
    colour: Array | np.ndarray = NATURAL,
    decay: float = 1.0,
    sigma: float = 0.01,
) -> Parameterisation:
    r"""An image as the Fourier coefficients of its independent colours.

    $$sigmoid(F^{-1}(s \, p) \, colour^T / 4)
    \text{ with } s(f) = \frac{\sqrt{H W}}{\max(f, 1 / \max(H, W))^{decay}}$$

    Equal steps in all parameters change low frequencies more than high ones, by the law of
    photographs. `invert` is exact except for pixels within 1/512 of black and white, and for the
    frequencies whose coefficients a real image cannot choose freely.

    Args:
        size: height and width.
        colour: `(C, C)`, from independent components (columns) to channels (rows): `NATURAL` for
            RGB, `colour_matrix(images)` of your own pictures, `np.eye(C)` for C channels that are
            not correlated.
        decay: the power of the frequency that amplitudes fall with: 1 as in photographs; more is
            smoother.
        sigma: the standard deviation of the parameters at the start.

    Returns:
        A parameterisation; parameters are `(2, C, H, W // 2 + 1)`, real and imaginary parts.

    Raises:
        TypeError: when `size` is not two ints.
        ValueError: when a side is below 1, or `colour` is not square.

    Example:
        >>> image = jax.jit(fourier((4, 6)).image)(jnp.zeros((2, 3, 4, 4)))
        >>> image.shape, float(image.min()), float(image.max())
        ((4, 6, 3), 0.5, 0.5)

    References:
        Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007. The numbers are those of
        `lucid.optvis.param.image` at even widths. At odd widths Lucid computes one column more than
        there are frequencies and cuts the image to size; here it is a Fourier transform at each.
    """
    height, width = checked_size(size)
    table = checked(colour)
    scale = np.sqrt(height * width) / _frequencies(height, width) ** decay
    shape = (2, len(table), *scale.shape)

    def image(params: Array) -> Array:
        weights = jnp.asarray(scale, params.dtype)[None]
        values = jnp.fft.irfft2(jax.lax.complex(params[0] * weights, params[1] * weights), s=size)
        return coloured(jnp.moveaxis(values, 0, -1) / 4, table)

    def invert(image: Array) -> Array:
        image = _image(image, (height, width, len(table)))
        spectrum = jnp.fft.rfft2(jnp.moveaxis(4 * components(image, table), -1, 0))
        parts = jnp.stack([spectrum.real, spectrum.imag])
        return parts / jnp.asarray(scale, parts.dtype)[None, None]

    return Parameterisation(
        (height, width, len(table)), lambda key: _normal(key, shape, sigma), image, invert
    )


def pixels(
    size: tuple[int, int], *, colour: Array | np.ndarray = NATURAL, sigma: float = 0.01
) -> Parameterisation:
    r"""An image as its pixels, in independent colours.

    $$sigmoid(p \, colour^T)$$

    Without transforms and penalties it finds noise, as gradients of pixels do. `invert`
    is exact except for pixels within 1/512 of black and white.

    Args:
        size: height and width.
        colour: `(C, C)`, as in `fourier`.
        sigma: the standard deviation of the parameters at the start.

    Returns:
        A parameterisation; parameters are `(H, W, C)`.

    Raises:
        TypeError: when `size` is not two ints.
        ValueError: when a side is below 1, or `colour` is not square.

    Example:
        >>> plain = pixels((1, 1), colour=np.eye(1))
        >>> plain.image(jnp.zeros((1, 1, 1))).item(), plain.invert(jnp.full((1, 1, 1), 0.5)).item()
        (0.5, 0.0)
    """
    height, width = checked_size(size)
    table = checked(colour)
    shape = (height, width, len(table))
    return Parameterisation(
        shape,
        lambda key: _normal(key, shape, sigma),
        lambda params: coloured(params, table),
        lambda image: components(_image(image, shape), table),
    )


def magnitude_spectrum(images: Array, *, colour: Array | np.ndarray = NATURAL) -> Array:
    r"""The mean size of each Fourier coefficient over a set of pictures, for `maco`.

    $$mean_n |F(logit(images_n) \, colour^{-T})|$$

    Args:
        images: `(N, H, W, C)`, in [0, 1], of the size to be rendered.
        colour: `(C, C)`, as in `fourier`.

    Returns:
        `(C, H, W // 2 + 1)`, in the dtype of `images`, float32 at least.

    Raises:
        TypeError: when `images` is not floating.
        ValueError: when `images` is not of that shape, or `colour` is not square.

    Example:
        >>> grey = jnp.full((5, 2, 2, 1), 0.5)
        >>> jax.jit(lambda images: magnitude_spectrum(images, colour=np.eye(1)))(grey).tolist()
        [[[0.0, 0.0], [0.0, 0.0]]]
    """
    table = checked(colour)
    images = _checks.floating(images, "images")
    if images.ndim != 4 or images.shape[-1] != len(table):
        raise ValueError(
            f"`images` must be a set of pictures, (N, H, W, {len(table)}); got {images.shape}."
        )
    images = images.astype(wide_dtype(images.dtype))
    values = jnp.moveaxis(components(images, table), -1, 1)
    return jnp.mean(jnp.abs(jnp.fft.rfft2(values)), axis=0)


def maco(
    magnitude: Array | np.ndarray,
    size: tuple[int, int],
    *,
    colour: Array | np.ndarray = NATURAL,
) -> Parameterisation:
    r"""An image with the spectrum of photographs, whose phases are optimised.

    $$sigmoid(F^{-1}(magnitude \, e^{i p}) \, colour^T)$$

    No frequency can grow: sharpness and contrast stay those of the data, for large networks too, so
    no penalty is needed. Phases move by angles, so the rate is larger than with `fourier`:
    about 0.1 to 1. `invert` keeps the phases of an image and drops its magnitudes; it is exact
    where they are those of `magnitude`.

    Args:
        magnitude: `(C, H, W // 2 + 1)`, from `magnitude_spectrum`.
        size: height and width.
        colour: `(C, C)`, that of the spectrum.

    Returns:
        A parameterisation; parameters are `(C, H, W // 2 + 1)`, angles, uniform at the start.

    Raises:
        TypeError: when `size` is not two ints.
        ValueError: when a side is below 1, `colour` is not square, or `magnitude` has another
            shape.

    Example:
        >>> flat = maco(np.zeros((3, 4, 3)), (4, 4))
        >>> float(jax.jit(flat.image)(jnp.ones((3, 4, 3))).max())
        0.5

    References:
        Fel et al. (2023), arXiv:2306.06805. They set the mean and the spread of each image to fixed
        values; here they follow from the data, in the space before the sigmoid.
    """
    height, width = checked_size(size)
    table = checked(colour)
    expected = (len(table), height, width // 2 + 1)
    if np.shape(magnitude) != expected:
        raise ValueError(
            f"`magnitude` must have shape {expected} at this size and colour; got "
            f"{np.shape(magnitude)}. Compute it by `magnitude_spectrum` from pictures of this size."
        )

    def image(params: Array) -> Array:
        weights = jnp.asarray(magnitude, params.dtype)
        spectrum = jax.lax.complex(weights * jnp.cos(params), weights * jnp.sin(params))
        values = jnp.fft.irfft2(spectrum, s=size)
        return coloured(jnp.moveaxis(values, 0, -1), table)

    def invert(image: Array) -> Array:
        image = _image(image, (height, width, len(table)))
        return jnp.angle(jnp.fft.rfft2(jnp.moveaxis(components(image, table), -1, 0)))

    return Parameterisation(
        (height, width, len(table)),
        lambda key: jax.random.uniform(key, expected, minval=-jnp.pi, maxval=jnp.pi),
        image,
        invert,
    )


def transparent(
    parameterisation: Parameterisation, *, decay: float = 1.0, sigma: float = 0.01
) -> Parameterisation:
    """An image with one more channel, its opacity: `(H, W, C + 1)`.

    The opacity is a Fourier image of one channel, 0.5 everywhere at the start. Use it with
    `over_random_background` as the first transform, and with a `prior` that asks for little
    opacity, such as `lambda image: -opacity(image)`.

    Args:
        parameterisation: of the colours.
        decay: of the opacity, as in `fourier`.
        sigma: of the opacity, as in `fourier`.

    Returns:
        A parameterisation; parameters are `{"colours": ..., "opacity": ...}`.

    Example:
        >>> transparent(fourier((8, 8))).shape
        (8, 8, 4)

    References:
        Mordvintsev et al. (2018), doi:10.23915/distill.00012, section 4.
    """
    *size, channels = parameterisation.shape
    alpha = fourier((size[0], size[1]), colour=np.eye(1), decay=decay, sigma=sigma)

    def init(key: Array) -> PyTree:
        first, second = jax.random.split(key)
        return {"colours": parameterisation.init(first), "opacity": alpha.init(second)}

    def image(params: PyTree) -> Array:
        parts = [parameterisation.image(params["colours"]), alpha.image(params["opacity"])]
        return jnp.concatenate(parts, axis=-1)

    def invert(image: Array) -> PyTree:
        image = _image(image, (*size, channels + 1))
        return {
            "colours": parameterisation.invert(image[..., :channels]),
            "opacity": alpha.invert(image[..., channels:]),
        }

    return Parameterisation((*size, channels + 1), init, image, invert)


def stacked(parameterisation: Parameterisation, n: int) -> Parameterisation:
    """Several images at once, `(n, H, W, C)`, for objectives that compare them, as `diversity`.

    Args:
        parameterisation: of one image.
        n: how many.

    Returns:
        A parameterisation; parameters are those of one image with a leading axis of n.

    Raises:
        TypeError: when `n` is not an int.
        ValueError: when `n` is below 1.

    Example:
        >>> stacked(fourier((8, 8)), 3).shape
        (3, 8, 8, 3)
    """
    n = _checks.count(n, "n")
    return Parameterisation(
        (n, *parameterisation.shape),
        lambda key: jax.vmap(parameterisation.init)(jax.random.split(key, n)),
        jax.vmap(parameterisation.image),
        jax.vmap(parameterisation.invert),
    )


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` as a height and a width."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise TypeError(f"`size` must be a height and a width, such as (64, 64); got {size!r}.")
    return _checks.count(size[0], "size"), _checks.count(size[1], "size")


def _frequencies(height: int, width: int) -> np.ndarray:
    """The frequency of each coefficient, in cycles a pixel, `(H, W // 2 + 1)`; that of 0 raised."""
    along_y, along_x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    return np.maximum(np.sqrt(along_y**2 + along_x**2), 1 / max(height, width))


def _normal(key: Array, shape: tuple[int, ...], sigma: float) -> Array:
    return sigma * jax.random.normal(key, shape)


def _image(image: Array, shape: tuple[int, ...]) -> Array:
    image = _checks.floating(image, "image")
    if image.shape != shape:
        raise ValueError(f"`image` must have shape {shape}; got {image.shape}.")
    return image
