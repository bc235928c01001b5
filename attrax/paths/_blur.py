"""The path from a blurred example to the sharp one."""

import numbers
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, Curve, Path, PyTree, cast_like, widen


def blur(max_sigma: float | Array, *, axes: Sequence[int] = (0, 1)) -> Path:
    r"""The path from x blurred with `max_sigma` to x itself.

    $$c(t) = \exp(\sigma^2 L / 2) \, x \text{ with } \sigma = \sigma_{max} (1 - t)$$

    L is the second difference along `axes`, and nothing flows over the border: heat that spreads
    between neighbours. Away from the border that is a convolution with the Gaussian of a grid, of
    variance `sigma^2` exactly. It keeps the mean, never leaves the range of the values and makes no
    extremum more extreme; a constant stays what it is. At t = 1 it is x to the last bit, and it is
    smooth in t.

    The path starts from its own baseline, x without detail, and ignores the one that it is given.
    An attribution along it adds up to `fn(x) - fn(blur(max_sigma)(x)(0.0))`.

    The finest detail arrives in the last `1 / max_sigma` of the path. From a `max_sigma` of about
    20 upwards, nodes are needed there: panels that halve towards the end,
    `quadrature.composite(gauss_legendre(4), [0, *(1 - 0.5 ** np.arange(1, 8)), 1])`.

    Args:
        max_sigma: the standard deviation at t = 0, a scalar in entries along `axes` (pixels). It
            may be traced. From about the length of the axes on little but the mean is left.
        axes: the axes along which every array of x is blurred, height and width by default. A
            point costs one product with an n x n table for each axis of length n.

    Returns:
        A path: `path(x, baseline) -> (t -> point)`.

    Raises:
        TypeError: when `axes` is not a tuple of ints.
        ValueError: when `max_sigma` is not a scalar or is a negative number; from the path, when x
            lacks one of `axes`, or two of them are the same.

    Example:
        >>> curve = blur(1.0, axes=(0,))(jnp.array([0.0, 0.0, 900.0, 0.0, 0.0]))
        >>> curve(0.0).round().tolist(), curve(1.0).tolist()
        ([52.0, 188.0, 419.0, 188.0, 52.0], [0.0, 0.0, 900.0, 0.0, 0.0])

    References:
        Xu, Venugopalan and Sundararajan (2020), arXiv:2004.03383 (BlurIG), on the grid as in
        Lindeberg (1990), doi:10.1109/34.49051. The authors' code samples and truncates the kernel,
        pads with zeros, and takes the derivative of the path by a difference of 0.01 in sigma, in a
        left Riemann sum.
    """
    if np.shape(max_sigma) != ():
        raise ValueError(f"`max_sigma` must be a scalar; got shape {np.shape(max_sigma)}.")
    if isinstance(max_sigma, numbers.Real) and max_sigma < 0:
        raise ValueError(f"`max_sigma` must not be negative; got {max_sigma}.")
    try:
        places = tuple(operator.index(axis) for axis in axes)
    except TypeError:
        raise TypeError(f"`axes` must be a tuple of ints, such as (0, 1); got {axes!r}.") from None

    def path(x: PyTree, baseline: PyTree | None = None) -> Curve:
        x = _checks.floating(x)
        wide, structure = jax.tree.flatten(widen(x))
        blurs = [_blurred(leaf, places) for leaf in wide]

        def curve(t: Array) -> PyTree:
            points = [
                blurred(jnp.asarray(max_sigma, leaf.dtype) * (1 - jnp.asarray(t, leaf.dtype)))
                for blurred, leaf in zip(blurs, wide, strict=True)
            ]
            return cast_like(jax.tree.unflatten(structure, points), x)

        return curve

    return path


def _blurred(leaf: Array, axes: tuple[int, ...]) -> Callable[[Array], Array]:
    """`sigma -> leaf blurred with sigma`; the transform of `leaf` is computed once.

    Cosines are the eigenvectors of L with nothing flowing over the border.
    """
    places = [_checks.axis_of(axis, leaf.ndim, "axes") for axis in axes]
    if len(set(places)) < len(places):
        raise ValueError(f"`axes` must be different axes of `x`; got {axes}.")
    tables, rates = [], np.zeros([1] * leaf.ndim)
    spectrum = leaf
    for place in places:
        n = leaf.shape[place]
        angles = np.pi * np.arange(n) / (2 * n)
        table = np.cos(np.outer(angles, 2 * np.arange(n) + 1)) * np.sqrt(2 / n)
        table[:1] /= np.sqrt(2)
        tables.append(jnp.asarray(table, leaf.dtype))
        spectrum = _product(tables[-1], spectrum, place)
        shape = [n if axis == place else 1 for axis in range(leaf.ndim)]
        rates = rates + (2 * np.sin(angles) ** 2).reshape(shape)

    def blurred(sigma: Array) -> Array:
        # What is taken away, so that nothing is when sigma is 0.
        change = jnp.expm1(-sigma * sigma * jnp.asarray(rates, leaf.dtype)) * spectrum
        for place, table in zip(places, tables, strict=True):
            change = _product(table.T, change, place)
        return leaf + change

    return blurred


def _product(table: Array, values: Array, axis: int) -> Array:
    """The matrix product with `values` along `axis`, in full precision on every device."""
    product = jnp.tensordot(table, values, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(product, 0, axis)
