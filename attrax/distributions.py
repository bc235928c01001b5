"""Distributions of interest: whose gradients `attrax.influence` averages.

A distribution is a function `distribution(x)` that returns a sampler `(t, key) -> point`. `key` is
None unless the caller gives one, and a sampler that is not random ignores it.

Points are computed in float32 or wider and cast to the dtypes of `x` afterwards: bfloat16 has three
digits, too few to tell neighbouring nodes apart.
"""

import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._core import _checks
from ._core._names import shown
from ._core._types import Array, Distribution, PyTree, Sampler, cast_like, wide_dtype
from .paths import straight

__all__ = [
    "gaussian",
    "linear",
    "point",
    "square_removal",
    "stochastic_channels",
    "uniform_noise",
]
__dir__ = shown(__name__)


def point(x: PyTree) -> Sampler:
    r"""The distribution at `x` alone. It is itself a distribution: pass `distributions.point`.

    $$p = x$$

    Example:
        >>> point(jnp.array([3.0]))(0.5, None).tolist()
        [3.0]
    """
    return lambda t, key: x


def linear(baseline: PyTree | Callable[[PyTree], PyTree] | None = None) -> Distribution:
    r"""The uniform distribution on the straight line from `baseline` to x.

    $$p(t) = baseline + t (x - baseline)$$

    Args:
        baseline: like `x`, or a function from x to that: at a layer, of the activation. It may
            close over the inputs of the model. None is zeros.

    Returns:
        A distribution: `distribution(x) -> ((t, key) -> point)`.

    Example:
        >>> linear()(jnp.array([4.0]))(0.25, None).tolist()
        [1.0]
        >>> linear(lambda x: x - 1)(jnp.array([4.0]))(0.25, None).tolist()
        [3.25]
    """

    def distribution(x: PyTree) -> Sampler:
        curve = straight(x, baseline(x) if callable(baseline) else baseline)
        return lambda t, key: curve(t)

    return distribution


def gaussian(sigma: float | Array) -> Distribution:
    r"""Independent normal noise around x, fresh at each node.

    $$p = x + \sigma e \text{ with } e \sim N(0, 1)$$

    Args:
        sigma: the standard deviation, a scalar in the units of `x`. It may be traced.

    Returns:
        A distribution that needs a key; it ignores `t`.

    Raises:
        ValueError: when `sigma` is not a scalar or is a negative number; from the sampler, when
            there is no key.

    Example:
        >>> sampler = gaussian(0.0)(jnp.array([3.0]))
        >>> sampler(0.5, jax.random.key(0)).tolist()
        [3.0]
    """
    if np.shape(sigma) != ():
        raise ValueError(f"`sigma` must be a scalar; got shape {np.shape(sigma)}.")
    if isinstance(sigma, numbers.Real) and sigma < 0:
        raise ValueError(f"`sigma` must not be negative; got {sigma}.")

    def noisy(leaf: Array, key: Array, t: Array) -> Array:
        dtype = wide_dtype(leaf.dtype)
        noise = jax.random.normal(key, leaf.shape, dtype)
        return leaf.astype(dtype) + jnp.asarray(sigma, dtype) * noise

    return _random("gaussian", noisy)


def stochastic_channels(axis: int = -1) -> Distribution:
    r"""The line from zero to x with each channel scaled at random.

    $$p(t) = t \, x \, \frac{U_1 + U_2}{1.5}$$

    $U_1$ and $U_2$ are uniform on [0, 1], one pair for each channel, fresh at each node: the
    stochastic path of Lucid's channel attribution. The random factor has mean 2/3, not 1.

    Args:
        axis: the axis of channels.

    Returns:
        A distribution that needs a key.

    Raises:
        ValueError: from the sampler, when there is no key or x has no such axis.

    Example:
        >>> sampler = stochastic_channels()(jnp.ones((2, 2, 3)))
        >>> sampler(0.0, jax.random.key(0)).sum().item()
        0.0
    """
    axis = operator.index(axis)

    def scaled(leaf: Array, key: Array, t: Array) -> Array:
        dtype = wide_dtype(leaf.dtype)
        channel_axis = _checks.axis_of(axis, leaf.ndim)
        shape = [1] * leaf.ndim
        shape[channel_axis] = leaf.shape[channel_axis]
        uniform = jax.random.uniform(key, (2, *shape), dtype)
        return jnp.asarray(t, dtype) * leaf.astype(dtype) * (uniform.sum(0) / 1.5)

    return _random("stochastic_channels", scaled)


def uniform_noise(radius: float | Array) -> Distribution:
    r"""Independent uniform noise around x, fresh each time.

    $$p = x + radius \, u \text{ with } u \sim U(-1, 1)$$

    Args:
        radius: half the side of the box, a scalar in the units of `x`. It may be traced.

    Returns:
        A distribution that needs a key; it ignores `t`.

    Raises:
        ValueError: when `radius` is not a scalar or is a negative number; from the sampler, when
            there is no key.

    Example:
        >>> sampler = uniform_noise(0.5)(jnp.zeros(100))
        >>> bool(jnp.abs(sampler(0.0, jax.random.key(0))).max() <= 0.5)
        True
    """
    if np.shape(radius) != ():
        raise ValueError(f"`radius` must be a scalar; got shape {np.shape(radius)}.")
    if isinstance(radius, numbers.Real) and radius < 0:
        raise ValueError(f"`radius` must not be negative; got {radius}.")

    def noisy(leaf: Array, key: Array) -> Array:
        noise = jax.random.uniform(key, leaf.shape, leaf.dtype, minval=-1, maxval=1)
        return leaf + jnp.asarray(radius, leaf.dtype) * noise

    def distribution(x: PyTree) -> Sampler:
        leaves, structure = jax.tree.flatten(_checks.floating(x))

        def sampler(t: Array, key: Array | None) -> PyTree:
            keys = jax.random.split(_checks.random_key(key, "uniform_noise"), len(leaves))
            return jax.tree.unflatten(
                structure, [noisy(leaf, keys[i]) for i, leaf in enumerate(leaves)]
            )

        return sampler

    return distribution


def square_removal(size: int, baseline: Array | None = None) -> Distribution:
    r"""One square of an image replaced by the baseline, at a place drawn uniformly.

    $$p_i = b_i \text{ inside the square, } x_i \text{ elsewhere}$$

    Args:
        size: the side of the square in pixels.
        baseline: like `x`; None is zeros.

    Returns:
        A distribution over one array `(H, W, ...)` that needs a key; it ignores `t`.

    Raises:
        ValueError: when `x` is not an image or is smaller than the square; from the sampler, when
            there is no key.

    Example:
        >>> sampler = square_removal(2)(jnp.ones((4, 4, 3)))
        >>> sampler(0.0, jax.random.key(0)).sum().item()
        36.0

    References:
        Yeh et al. (2019), arXiv:1901.09392, section 2 (square removal).
    """

    def distribution(x: PyTree) -> Sampler:
        x = _checks.one_array(x, "x")
        if x.ndim < 2:
            raise ValueError(f"`square_removal` needs an image, (H, W, ...); got {x.shape}.")
        side = _checks.count(size, "size", most=min(x.shape[:2]))
        start = _checks.baseline_like(baseline, x)

        def sampler(t: Array, key: Array | None) -> Array:
            key = _checks.random_key(key, "square_removal")
            ends = jnp.array([n - side + 1 for n in x.shape[:2]])
            corner = jax.random.randint(key, (2,), 0, ends)
            rows, columns = (
                (jnp.arange(n) >= first) & (jnp.arange(n) < first + side)
                for n, first in zip(x.shape[:2], corner, strict=True)
            )
            inside = rows[:, None] & columns[None, :]
            return jnp.where(inside.reshape(inside.shape + (1,) * (x.ndim - 2)), start, x)

        return sampler

    return distribution


def _random(owner: str, draw: Any) -> Distribution:
    """The distribution that applies `draw(leaf, key, t)` to each leaf with a key of its own."""

    def distribution(x: PyTree) -> Sampler:
        x = _checks.floating(x)
        leaves, structure = jax.tree.flatten(x)

        def sampler(t: Array, key: Array | None) -> PyTree:
            keys = jax.random.split(_checks.random_key(key, owner), len(leaves))
            drawn = [draw(leaf, keys[i], t) for i, leaf in enumerate(leaves)]
            return cast_like(jax.tree.unflatten(structure, drawn), x)

        return sampler

    return distribution
