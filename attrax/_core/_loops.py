"""The two loops of the library: over points that are never all in memory, summed or kept."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from . import _checks
from ._types import Array, PyTree, wide_dtype

NAME = "attrax.weighted_sum"
"""Every sum carries this name, so that a policy of `jax.checkpoint` can keep it."""

keep_sums = jax.checkpoint_policies.save_only_these_names(NAME)


def weighted_sum(
    integrand: Callable[[Any], PyTree],
    points: PyTree,
    weights: Array,
    *,
    batch_size: int,
    policy: Callable[..., Any] | None = None,
) -> PyTree:
    """`sum_k weights[k] integrand(points[k])`, in float32 or wider.

    A scan over chunks, each of them a vmap. The chunks are as equal as possible and hold at most
    `batch_size` points; the last one is filled up by repeating the last point with weight zero. A
    made-up point could have an infinite gradient, and 0 x inf is NaN. Each chunk is under
    `jax.checkpoint`, so that a derivative of the sum also holds one chunk at a time: memory grows
    with `batch_size`, never with the number of points.

    Args:
        integrand: a function of one point.
        points: a pytree with a leading axis of length n: nodes, or nodes and keys.
        weights: `(n,)`.
        batch_size: points evaluated at once.
        policy: what may be kept of a chunk for its derivative; None is nothing, and the chunk is
            computed again. `keep_sums` is for an integrand that holds a weighted sum itself:
            one value of it is kept for each point, so that the inner points are not computed a
            third time.

    Returns:
        What `integrand` returns, summed; the caller casts it back.
    """
    n = weights.shape[0]
    chunks = -(-n // _checks.count(batch_size, "batch_size"))
    points, with_keys = _raw_keys(points)

    def chunk_sum(points: PyTree, weights: Array) -> PyTree:
        values = jax.vmap(lambda point: integrand(with_keys(point)))(points)
        return jax.tree.map(lambda value: _contract(weights, value), values)

    if chunks == 1:
        return _named(jax.checkpoint(chunk_sum, policy=policy)(points, weights))
    # Inside a scan nothing can undo the rematerialisation, and its barriers would only cost time.
    chunk_sum = jax.checkpoint(chunk_sum, prevent_cse=False, policy=policy)
    xs = _chunked(points, weights, chunks)
    start = jax.tree.map(jnp.zeros_like, jax.eval_shape(chunk_sum, *jax.tree.map(_first, xs)))

    def step(total: PyTree, chunk: tuple[PyTree, Array]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, chunk_sum(*chunk)), None

    return _named(jax.lax.scan(step, start, xs)[0])


def _named(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, NAME), tree)


def _contract(weights: Array, values: Array) -> Array:
    """The weighted sum over axis 0, in full precision.

    A sum of products would be the same to the last bit, but XLA on a CPU (jaxlib 0.10.2 and
    0.12.0) gives wrong numbers for one whose factors are both broadcast, as they are behind a mean
    over positions.
    """
    dtype = wide_dtype(values.dtype)
    highest = jax.lax.Precision.HIGHEST
    return jnp.tensordot(weights.astype(dtype), values.astype(dtype), 1, precision=highest)


def _chunked(points: PyTree, weights: Array, chunks: int) -> tuple[PyTree, Array]:
    """Points and weights with two leading axes, (chunks, size)."""
    n = weights.shape[0]
    size = -(-n // chunks)
    index = jnp.minimum(jnp.arange(chunks * size), n - 1)
    padding = jnp.zeros(chunks * size - n, weights.dtype)

    def split(leaf: Array) -> Array:
        return leaf[index].reshape(chunks, size, *leaf.shape[1:])

    filled = jnp.concatenate([weights, padding])
    return jax.tree.map(split, points), filled.reshape(chunks, size)


def _raw_keys(points: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """`points` with the bits of random keys in their place, and the function that restores them.

    `jax_debug_key_reuse` takes the keys of a scan that is mapped, or sliced, for used ones.
    """
    leaves, structure = jax.tree.flatten(points)
    impls = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
    raw = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves]

    def restore(point: PyTree) -> PyTree:
        parts = [
            leaf if impl is None else jax.random.wrap_key_data(leaf, impl=impl)
            for leaf, impl in zip(jax.tree.leaves(point), impls, strict=True)
        ]
        return jax.tree.unflatten(structure, parts)

    return jax.tree.unflatten(structure, raw), restore


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _first(leaf: Array) -> Array:
    return leaf[0]


def mapped(fn: Callable[[Any], PyTree], points: PyTree, *, batch_size: int) -> PyTree:
    """`fn` at each point, stacked: a map over chunks of a vmap.

    As in `weighted_sum`, the chunks are as equal as they can be, the last one is filled up by
    repeating the last point, and each is under `jax.checkpoint`. The values are kept here, so
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
    points, with_keys = _raw_keys(points)
    rows = jax.vmap(lambda point: fn(with_keys(point)))
    if chunks == 1:
        return jax.checkpoint(rows)(points)
    size = -(-n // chunks)
    index = jnp.minimum(jnp.arange(chunks * size), n - 1).reshape(chunks, size)
    # Inside a scan nothing can undo the rematerialisation, and its barriers would only cost time.
    chunk = jax.checkpoint(rows, prevent_cse=False)
    values = jax.lax.map(chunk, jax.tree.map(lambda leaf: leaf[index], points))
    return jax.tree.map(lambda v: v.reshape(chunks * size, *v.shape[2:])[:n], values)
