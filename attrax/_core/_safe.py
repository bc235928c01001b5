"""Arithmetic whose derivatives stay finite: roots, quotients and absolute values that meet 0."""

from typing import Any

import jax.numpy as jnp

from ._types import Array


def absolute(values: Array) -> Array:
    """The absolute value, with the derivative 0 at 0, where `jnp.abs` has 1."""
    return jnp.where(values == 0, 0, jnp.abs(values))


def root(square: Array) -> Array:
    """The square root, with the derivative 0 at 0 in place of infinity."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def quotient(over: Array, under: Array, otherwise: Any) -> Array:
    """`over / under`, and `otherwise` where `under` is 0, with safe derivatives."""
    safe = under != 0
    return jnp.where(safe, over / jnp.where(safe, under, 1), otherwise)
