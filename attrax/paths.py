"""Paths and distributions of interest: where gradients are taken.

A *path* is a function `path(x, baseline)` that returns a curve `t -> point`, at the baseline for
t = 0 and at x for t = 1. `attrax.path_integrated_gradients` follows any such function.

A *distribution of interest* is a function `distribution(x)` that returns a sampler
`(t, key) -> point`. `attrax.influence` averages the gradients at its points. `key` is None unless
the caller gives one, and a sampler that is not random does not look at it.

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

from . import _checks
from ._blur import blur as blur
from ._tokenwise import tokenwise as tokenwise
from ._types import (
    Array,
    Curve,
    Distribution,
    PyTree,
    Sampler,
    cast_like,
    tree_dtype,
    wide_dtype,
    widen,
)


def straight(x: PyTree, baseline: PyTree | None = None) -> Curve:
    """The straight line `baseline + t (x - baseline)`; a baseline of None is zeros.

    Args:
        x: any pytree of floating arrays.
        baseline: the same structure and shapes, or None.

    Returns:
        `t -> point`, with the structure, shapes and dtypes of `x`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `baseline` has not the shapes of `x`.

    Example:
        >>> straight(jnp.array([2.0, 4.0]))(0.5).tolist()
        [1.0, 2.0]
    """
    x = _checks.floating(x)
    start = widen(_checks.baseline_like(baseline, x))
    span = jax.tree.map(jnp.subtract, widen(x), start)

    def curve(t: Array) -> PyTree:
        line = jax.tree.map(lambda b, d: b + jnp.asarray(t, d.dtype) * d, start, span)
        return cast_like(line, x)

    return curve


def polyline(*waypoints: PyTree) -> Any:
    """The path of straight pieces from the baseline over `waypoints` to x, equal times for each.

    The derivative jumps at the waypoints, where it is that of the piece that begins. A rule is
    as accurate as promised when its panels end at the waypoints.

    Args:
        *waypoints: pytrees like `x`.

    Returns:
        A path: `path(x, baseline) -> (t -> point)`.

    Raises:
        ValueError: from the path, when a waypoint has not the shapes of `x`.

    Example:
        >>> path = polyline(jnp.array([1.0, 0.0]))
        >>> path(jnp.array([1.0, 1.0]), None)(0.75).tolist()
        [1.0, 0.5]
    """

    def path(x: PyTree, baseline: PyTree | None = None) -> Curve:
        x = _checks.floating(x)
        stops = [_checks.baseline_like(baseline, x)]
        stops += [_checks.like(waypoint, x, "waypoint") for waypoint in waypoints]
        start, *rest = [widen(stop) for stop in [*stops, x]]
        return lambda t: cast_like(jax.tree.map(lambda *leaves: _walk(t, *leaves), start, *rest), x)

    return path


def _walk(t: Array, start: Array, *stops: Array) -> Array:
    """The point at time t of the broken line from `start` over `stops`.

    Each piece is left for the next one at its end, the last one never: so the derivative at t = 1
    is that of the last piece.
    """
    time = jnp.asarray(t, start.dtype) * len(stops)
    place, here = start, start
    for i, stop in enumerate(stops):
        done = time >= i + 1 if i + 1 < len(stops) else False
        share = jnp.where(time < i, 0, jnp.where(done, 1, time - i))
        place, here = place + share * (stop - here), stop
    return place


def interpolate(x: PyTree, baseline: PyTree | None, nodes: Any) -> PyTree:
    """The points of the straight line at all `nodes`, stacked along a new leading axis.

    The methods never hold all points at once; this is for looking at them.

    Args:
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        nodes: `(n,)`.

    Returns:
        Like `x`, each leaf with a leading axis of length n.

    Raises:
        ValueError: when `nodes` is not one-dimensional, or `baseline` has not the shapes of `x`.

    Example:
        >>> interpolate(jnp.array([4.0]), None, [0.0, 0.25, 1.0]).tolist()
        [[0.0], [1.0], [4.0]]
    """
    x = _checks.floating(x)
    nodes = jnp.asarray(nodes, tree_dtype(x))
    if nodes.ndim != 1:
        raise ValueError(f"`nodes` must be one-dimensional; got shape {nodes.shape}.")
    return jax.vmap(straight(x, baseline))(nodes)


def point(x: PyTree) -> Sampler:
    """The distribution at `x` alone. It is itself a distribution: pass `paths.point`.

    Example:
        >>> point(jnp.array([3.0]))(0.5, None).tolist()
        [3.0]
    """
    return lambda t, key: x


def linear(baseline: PyTree | Callable[[PyTree], PyTree] | None = None) -> Distribution:
    """The uniform distribution on the straight line from `baseline` to x.

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
    """Independent normal noise around x: `x + sigma e` with e ~ N(0, 1), fresh at each node.

    Args:
        sigma: the standard deviation, a scalar in the units of `x`. It may be traced.

    Returns:
        A distribution that needs a key; it does not look at t.

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
    """The line from zero to x with each channel scaled at random: `t x (U1 + U2) / 1.5`.

    U1 and U2 are uniform on [0, 1], one pair for each channel, fresh at each node: the stochastic
    path of Lucid's channel attribution. The random factor has mean 2/3, not 1.

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
