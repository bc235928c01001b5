"""Straight lines and broken ones."""

from typing import Any

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._types import (
    Array,
    Curve,
    PyTree,
    cast_like,
    tree_dtype,
    widen,
)


def straight(x: PyTree, baseline: PyTree | None = None) -> Curve:
    r"""The straight line from a baseline to x; a baseline of None is zeros.

    $$c(t) = baseline + t (x - baseline)$$

    It is exactly the baseline at t = 0 and exactly `x` at t = 1, however large the baseline.

    Args:
        x: any pytree of floating arrays.
        baseline: the same structure and shapes, or None.

    Returns:
        `t -> point`, with the structure, shapes and dtypes of `x`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `baseline` does not match the shapes of `x`.

    Example:
        >>> straight(jnp.array([2.0, 4.0]))(0.5).tolist()
        [1.0, 2.0]
    """
    x = _checks.floating(x)
    start, end = widen(_checks.baseline_like(baseline, x)), widen(x)

    def curve(t: Array) -> PyTree:
        line = jax.tree.map(lambda b, x: between(b, x, jnp.asarray(t, x.dtype)), start, end)
        return cast_like(line, x)

    return curve


def between(start: Array, end: Array, share: Array) -> Array:
    """`start + share (end - start)`, exactly `start` and `end` at the shares 0 and 1.

    Counted from the nearer end: beside a huge start the difference has no digits left for the end.
    """
    span = end - start
    return jnp.where(share < 0.5, start + share * span, end - (1 - share) * span)


def polyline(*waypoints: PyTree) -> Any:
    r"""The path of straight pieces from the baseline over `waypoints` to x, equal times for each.

    $$c(t) = a_i + (n t - i) (a_{i+1} - a_i) \text{ for } i \le n t < i + 1$$

    The derivative jumps at the waypoints; exactly there it is that of the piece that begins. A rule
    keeps its accuracy when its panels end at the waypoints.

    Args:
        *waypoints: pytrees like `x`.

    Returns:
        A path: `path(x, baseline) -> (t -> point)`.

    Raises:
        ValueError: from the path, when a waypoint does not match the shapes of `x`.

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
        share = jnp.where(done, 1, time - i)
        piece = between(here, stop, share)
        place, here = (jnp.where(time < i, place, piece) if i else piece), stop
    return place


def interpolate(x: PyTree, baseline: PyTree | None, nodes: Any) -> PyTree:
    r"""The points of the straight line at all `nodes`, stacked along a new leading axis.

    $$out_k = b + t_k (x - b)$$

    The methods never hold all points at once; this is for looking at them.

    Args:
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        nodes: `(n,)`.

    Returns:
        Like `x`, each leaf with a leading axis of length n.

    Raises:
        ValueError: when `nodes` is not one-dimensional, or `baseline` does not match the shapes of
            `x`.

    Example:
        >>> interpolate(jnp.array([4.0]), None, [0.0, 0.25, 1.0]).tolist()
        [[0.0], [1.0], [4.0]]
    """
    x = _checks.floating(x)
    nodes = jnp.asarray(nodes, tree_dtype(x))
    if nodes.ndim != 1:
        raise ValueError(f"`nodes` must be one-dimensional; got shape {nodes.shape}.")
    return jax.vmap(straight(x, baseline))(nodes)
