"""Features: what is replaced together when an example is perturbed."""

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, PyTree, wide_dtype


def operands(
    attribution: PyTree, x: PyTree, baseline: PyTree | None
) -> tuple[PyTree, PyTree, PyTree]:
    """All three as arrays, provided that they fit.

    A feature is one entry of `attribution`, whose leaves have the shapes of those of `x` or their
    leading axes: `(H, W)` for an image `(H, W, C)` makes one feature of each pixel. No gradient is
    taken with respect to `x`, so it may be integer.
    """
    x = jax.tree.map(jnp.asarray, x)
    attribution = _checks.floating(attribution, "attribution")
    baseline = jax.tree.map(jnp.zeros_like, x) if baseline is None else baseline
    for name, tree in (("attribution", attribution), ("baseline", baseline)):
        _checks.same_structure(tree, x, name)
    for leaf, model in zip(jax.tree.leaves(attribution), jax.tree.leaves(x), strict=True):
        if model.shape[: leaf.ndim] != leaf.shape:
            raise ValueError(
                "`attribution` must have the shapes of `x` or their leading axes; got "
                f"{leaf.shape} against {model.shape}. `attrax.positions` sums over channels."
            )
    return attribution, x, jax.tree.map(_like, baseline, x)


def _like(baseline: Array, x: Array) -> Array:
    if jnp.shape(baseline) != x.shape:
        raise ValueError(
            f"`baseline` must have the shapes of `x`; got {jnp.shape(baseline)} against {x.shape}."
        )
    dtype = jnp.result_type(baseline)
    if jnp.issubdtype(dtype, jnp.floating) != jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"`baseline` must be of the kind of `x`; got {dtype} against {x.dtype}.")
    return jnp.asarray(baseline, x.dtype)


def ravel(attribution: PyTree) -> Array:
    """The entries of all leaves in one vector, in float32 or wider."""
    leaves = jax.tree.leaves(attribution)
    dtype = wide_dtype(*(leaf.dtype for leaf in leaves))
    return jnp.concatenate([leaf.astype(dtype).reshape(-1) for leaf in leaves])


@jax.jit
def ranks(values: Array) -> Array:
    """The place of each entry of a vector in descending order; of equals the first comes first."""
    order = jnp.argsort(values, descending=True, stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))


def chosen(on: Array, attribution: PyTree, x: PyTree, baseline: PyTree) -> PyTree:
    """`x` where its feature is on, `baseline` elsewhere; `on` is ordered as `ravel` orders.

    A choice and not a product with a mask: what is not finite on one side stays there.
    """
    leaves, structure = jax.tree.flatten(attribution)
    parts = jnp.split(on, np.cumsum([leaf.size for leaf in leaves])[:-1])

    def choose(part: Array, leaf: Array, x: Array, baseline: Array) -> Array:
        mask = part.reshape(leaf.shape + (1,) * (x.ndim - leaf.ndim))
        return jnp.where(mask, x, baseline)

    return jax.tree.map(choose, jax.tree.unflatten(structure, parts), attribution, x, baseline)
