"""Colour matrices: how independent parameters become the correlated channels of real pictures."""

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, wide_dtype

EDGE = 1 / 512
"""Half a step of eight bits: logits of black and white are taken this far inside of [0, 1]."""


def _natural() -> np.ndarray:
    # Lucid's square root of the covariance of ImageNet's RGB pixels: a row for each of red, green
    # and blue, a column for each independent component (brightness first).
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix = root / np.linalg.norm(root, axis=0).max()
    matrix.flags.writeable = False
    return matrix


NATURAL = _natural()
"""The colour matrix of natural photographs in RGB, its longest column of length 1."""


def colour_matrix(images: Array) -> Array:
    r"""The colour matrix of your own pictures, for any number of channels.

    $$U \sqrt{S} \text{ with } U S U^T = Cov(pixels)$$

    divided by the length of its longest column.

    With it, independent parameters of equal variance give pixels whose channels are correlated like
    those of `images`. Columns are in order of decreasing variance, and the largest entry of each is
    positive.

    Args:
        images: `(..., C)`; all axes but the last are pixels. At least C + 1 pixels are needed for a
            matrix that can be inverted.

    Returns:
        `(C, C)`, in the dtype of `images`, float32 at least.

    Raises:
        TypeError: when `images` is not floating.
        ValueError: when there is no axis of pixels.

    Example:
        >>> pixels = jnp.array([[0.0, 0.0], [1.0, 1.0]])  # two channels that are always equal
        >>> print(jax.jit(colour_matrix)(pixels).round(3))
        [[0.707 0.   ]
         [0.707 0.   ]]

    References:
        Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007, "Preconditioning".
    """
    images = _checks.floating(images, "images")
    if images.ndim < 2:
        raise ValueError(f"`images` must be pixels and channels, (..., C); got {images.shape}.")
    pixels = images.reshape(-1, images.shape[-1]).astype(wide_dtype(images.dtype))
    rounding = 1e-6 * jnp.max(jnp.abs(pixels))
    pixels = pixels - jnp.mean(pixels, axis=0, keepdims=True)
    covariance = jnp.matmul(pixels.T, pixels, precision=jax.lax.Precision.HIGHEST)
    values, vectors = jnp.linalg.eigh(covariance / pixels.shape[0])
    columns = (vectors * jnp.sqrt(jnp.maximum(values, 0))[None])[:, ::-1]
    largest = jnp.argmax(jnp.abs(columns), axis=0)
    signs = jnp.where(jnp.take_along_axis(columns, largest[None], axis=0) < 0, -1, 1)
    longest = jnp.sqrt(jnp.maximum(jnp.max(values), 0))
    # Rounding leaves components that do not vary a little away from zero.
    varies = (longest > rounding) & (jnp.abs(columns) > 1e-6 * longest)
    return jnp.where(varies, columns * signs / jnp.where(longest > 0, longest, 1), 0)


def checked(colour: Array | np.ndarray) -> np.ndarray:
    """`colour` as a square table on the host."""
    table = np.asarray(colour, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(
            f"`colour` must be a square matrix, (C, C); got {table.shape}. For C channels that are "
            "not correlated use `np.eye(C)`."
        )
    return table


def coloured(values: Array, colour: np.ndarray) -> Array:
    """`sigmoid(values @ colour^T)`: from independent components, `(..., C)`, to [0, 1]."""
    return jax.nn.sigmoid(_mixed(values, colour))


def components(image: Array, colour: np.ndarray) -> Array:
    """The inverse of `coloured`; black and white are moved inside by `EDGE`."""
    inside = jnp.clip(image, EDGE, 1 - EDGE)
    return _mixed(jnp.log(inside) - jnp.log1p(-inside), np.linalg.inv(colour))


def _mixed(values: Array, table: np.ndarray) -> Array:
    matrix = jnp.asarray(table.T, values.dtype)
    return jnp.matmul(values, matrix, precision=jax.lax.Precision.HIGHEST)
