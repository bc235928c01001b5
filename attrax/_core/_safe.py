"""Arithmetic that is safe at the edges: finite derivatives at 0, and NaN wherever NaN went in.

A `where` alone does not protect a derivative: JAX differentiates both branches, and 0 x inf is NaN.
So each function also replaces the argument that would be singular. Comparisons with NaN are false;
each function is written so that NaN takes the branch that returns NaN.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from ._types import Array, PyTree, tree_dtype


def absolute(values: Array) -> Array:
    """The absolute value, with the derivative 0 at 0, where `jnp.abs` has 1."""
    return jnp.where(values == 0, 0, jnp.abs(values))


def root(square: Array) -> Array:
    """The square root, with the derivative 0 at 0 in place of infinity.

    A square that rounding has made negative counts as 0.
    """
    none = square <= 0
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, square)))


def quotient(over: Array, under: Array, otherwise: Any) -> Array:
    """`over / under`, and `otherwise` where `under` is 0, with safe derivatives."""
    none = under == 0
    return jnp.where(none, otherwise, over / jnp.where(none, 1, under))


def norm(tree: PyTree, axis: int | None = None) -> Array:
    """The Euclidean norm along `axis`, or that of everything, with the derivative 0 at 0.

    The squares are those of entries divided by the largest, so that they neither overflow nor
    vanish. The result does not depend on that scale, so neither does its derivative.
    """
    dtype = tree_dtype(tree)
    leaves = [leaf.astype(dtype) for leaf in jax.tree.leaves(tree)]
    if axis is None:
        leaves = [jnp.concatenate([leaf.reshape(-1) for leaf in leaves])]
    (values,) = leaves
    largest = jnp.max(jnp.abs(values), axis=axis, keepdims=True, initial=0)
    usable = (largest > 0) & (largest < jnp.inf)
    scale = jax.lax.stop_gradient(jnp.where(usable, largest, 1))
    length = root(jnp.sum(jnp.square(values / scale), axis=axis, keepdims=True))
    return jnp.squeeze(length * scale, axis)


def unless_nan(result: Array, *values: PyTree) -> Array:
    """`result`, all NaN where anything in `values` is NaN.

    For results that a comparison or a sort would make look right: NaN has no rank.
    """
    found = [jnp.any(jnp.isnan(leaf)) for leaf in jax.tree.leaves(values)]
    return jnp.where(functools.reduce(jnp.logical_or, found), jnp.nan, result)


def total_variation(values: Array, axes: Iterable[int]) -> Array:
    """The sum of the sizes of all differences between neighbours along each of `axes`.

    The derivative at a difference of 0 is 0: nothing pulls equal neighbours apart.
    """
    steps = [jnp.sum(absolute(jnp.diff(values, axis=axis))) for axis in axes]
    return sum(steps, jnp.zeros((), values.dtype))
