"""Names for what travels between the modules, and the precision that sums are kept in."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any
"""Any nesting of dicts, lists, tuples and registered classes with arrays as leaves."""

ScalarFn: TypeAlias = Callable[[PyTree], Array]
"""`x -> scalar`: the function of one example that a method explains."""

Score: TypeAlias = Callable[[Array], Array]
"""`outputs -> scalar`: what is asked of a model's outputs."""

Curve: TypeAlias = Callable[[Array], PyTree]
"""`t -> point` for t in [0, 1]."""

Path: TypeAlias = Callable[[PyTree, PyTree], Curve]
"""`path(x, baseline) -> (t -> point)`, at `baseline` for t = 0 and at `x` for t = 1."""

Sampler: TypeAlias = Callable[[Array, Array | None], PyTree]
"""`(t, key) -> point`; `key` is None where the distribution is not random."""

Distribution: TypeAlias = Callable[[PyTree], Sampler]
"""`distribution(x) -> ((t, key) -> point)`: the points whose gradients are averaged."""


class Estimate(NamedTuple):
    """What a Monte Carlo method returns.

    Both fields have the structure and shapes of `x`; `standard_error` is the standard error of
    `value`, in the same units.
    """

    value: PyTree
    standard_error: PyTree


class Certified(NamedTuple):
    """What a tolerance-driven method returns, with one entry per example in each field.

    `error_estimate` is relative to the size of the attribution, `completeness_gap` is in the
    units of `fn`, `evaluations` counts gradients, and `converged` is False where the tolerance
    was not met.
    """

    value: PyTree
    error_estimate: Array
    completeness_gap: Array
    evaluations: Array
    converged: Array


def wide_dtype(*dtypes: Any) -> np.dtype:
    """The dtype that sums over values of `dtypes` are kept in: float32 or the widest of them."""
    widest = max((jnp.dtype(dtype) for dtype in dtypes), key=lambda dtype: jnp.finfo(dtype).bits)
    return widest if jnp.finfo(widest).bits >= 32 else jnp.dtype(jnp.float32)


def tree_dtype(tree: PyTree) -> np.dtype:
    """One dtype for scalars that meet every leaf of `tree`: float32 or wider."""
    return wide_dtype(*(leaf.dtype for leaf in jax.tree.leaves(tree)))


def widen(tree: PyTree) -> PyTree:
    """`tree` with every leaf in float32 or wider."""
    return jax.tree.map(lambda leaf: leaf.astype(wide_dtype(leaf.dtype)), tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """`tree` with the dtypes of `like`."""
    return jax.tree.map(lambda leaf, model: leaf.astype(model.dtype), tree, like)
