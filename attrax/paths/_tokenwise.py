"""A path that moves one token at a time from the baseline to the example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._core import _checks
from .._core._types import Array, Curve, Path, PyTree, cast_like, widen
from ._lines import between


def tokenwise(order: Any) -> Path:
    r"""The path on which one token after another moves from the baseline to x.

    $$c(t)_{order(k)} = b + (x - b) \, clip(n t - k, 0, 1) \text{ for } k = 0, \dots, n - 1$$

    In each of n equal parts of the time one token moves along a straight line, and the others stand
    still. The attribution of a token adds up to what its arrival changes, `fn(the tokens up to this
    one) - fn(the tokens before it)`: its share, in this order, of the Shapley value, which is the
    mean over all orders. It is the `polyline` through the partial texts, without holding them.

    The derivative jumps from token to token. A rule keeps its accuracy when each token has a panel
    of its own, without nodes at the ends:
    `quadrature.composite(quadrature.gauss_legendre(4), n)`.

    Args:
        order: `(n,)`, integers: the token that moves first, second, and so on, by its place on the
            leading axis; `jnp.arange(n)` is from the first to the last. It may be traced.

    Returns:
        A path: `path(x, baseline) -> (t -> point)`, for x whose arrays have n tokens on their
        leading axis.

    Raises:
        TypeError: when `order` does not hold integers.
        ValueError: when `order` is not one-dimensional or does not name each token once; from the
            path, when an array of x does not have n tokens, or `baseline` does not match the shapes
            of x.

    Example:
        >>> curve = tokenwise([1, 0])(jnp.array([[4.0], [6.0]]), None)
        >>> curve(0.25).tolist(), curve(0.75).tolist()
        ([[0.0], [3.0]], [[2.0], [6.0]])

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, section 5.2 (path methods).
    """
    turns = _turns(order)
    n = turns.shape[0]

    def path(x: PyTree, baseline: PyTree | None = None) -> Curve:
        x = _checks.floating(x)
        for leaf in jax.tree.leaves(x):
            if leaf.shape[:1] != (n,):
                raise ValueError(
                    f"`order` must name every token on the leading axis of `x`; got {n} tokens "
                    f"against shape {leaf.shape}."
                )
        start, end = widen(_checks.baseline_like(baseline, x)), widen(x)

        def curve(t: Array) -> PyTree:
            line = jax.tree.map(lambda b, x: between(b, x, _arrived(t, turns, x)), start, end)
            return cast_like(line, x)

        return curve

    return path


def _turns(order: Any) -> Array:
    """When each token moves, counted from 0."""
    if not isinstance(order, Tracer):
        order = np.asarray(order)
    if order.ndim != 1:
        raise ValueError(f"`order` must be one-dimensional; got shape {order.shape}.")
    if not jnp.issubdtype(order.dtype, jnp.integer):
        raise TypeError(f"`order` must hold integers; got {order.dtype}.")
    if isinstance(order, np.ndarray) and sorted(order.tolist()) != list(range(len(order))):
        raise ValueError(
            f"`order` must name each of {len(order)} tokens once; got {order.tolist()}."
        )
    return jnp.argsort(order)


def _arrived(t: Array, turns: Array, like: Array) -> Array:
    """The part of its way that each token has gone at time t, with the dimensions of `like`.

    A token that has arrived stands still from then on, the last one excepted: so the derivative
    at t = 1 is that of its turn.
    """
    n = turns.shape[0]
    turns = turns.astype(like.dtype)
    time = jnp.asarray(t, like.dtype) * n - turns
    done = (time >= 1) & (turns < n - 1)
    share = jnp.where(time < 0, 0, jnp.where(done, 1, time))
    return share.reshape(n, *[1] * (like.ndim - 1))
