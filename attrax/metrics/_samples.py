"""Values at many points, a chunk at a time, and what samples say on average."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import _checks
from .._types import Array, Estimate, PyTree, wide_dtype


def mapped(fn: Callable[[Any], PyTree], points: PyTree, *, batch_size: int) -> PyTree:
    """`fn` at each point, stacked: a map over chunks of a vmap.

    As in `weighted_sum`, the chunks are as equal as they can be, the last one is filled up by
    repeating the last point, and each is under `jax.checkpoint`. Here the values are kept, so
    memory grows with `batch_size` and with what `fn` returns, and with nothing else.

    Args:
        fn: a function of one point.
        points: a pytree with a leading axis of length n.
        batch_size: points evaluated at once.

    Returns:
        What `fn` returns, with a leading axis of length n.
    """
    n = jax.tree.leaves(points)[0].shape[0]
    chunks = -(-n // _checks.count(batch_size, "batch_size"))
    if chunks == 1:
        return jax.checkpoint(jax.vmap(fn))(points)
    size = -(-n // chunks)
    index = jnp.minimum(jnp.arange(chunks * size), n - 1).reshape(chunks, size)
    # Inside a scan nothing can undo the rematerialisation, and its barriers would only cost time.
    chunk = jax.checkpoint(jax.vmap(fn), prevent_cse=False)
    values = jax.lax.map(chunk, jax.tree.map(lambda leaf: leaf[index], points))
    return jax.tree.map(lambda v: v.reshape(chunks * size, *v.shape[2:])[:n], values)


def mean_of(values: Array) -> Estimate:
    """The mean of `(n, ...)` samples over the first axis, with its standard error."""
    n, values = values.shape[0], values.astype(wide_dtype(values.dtype))
    mean = jnp.mean(values, axis=0)
    spread = jnp.sum((values - mean[None]) ** 2, axis=0)
    return Estimate(mean, root(spread / (n * (n - 1))))


def root(square: Array) -> Array:
    """The square root, with the derivative 0 at 0 in place of infinity."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def quotient(over: Array, under: Array, otherwise: Any) -> Array:
    """`over / under`, and `otherwise` where `under` is 0, with safe derivatives."""
    safe = under != 0
    return jnp.where(safe, over / jnp.where(safe, under, 1), otherwise)
