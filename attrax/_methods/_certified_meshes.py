"""Where an integrand is evaluated: nested rules, their places in memory, and graded variables."""

import math

import jax.numpy as jnp
import numpy as np

from .._core._types import Array
from ..quadrature import clenshaw_curtis

LEVELS = (9, 17, 33, 65, 129)
"""Nodes of the nested rules. Fewer than nine can agree by chance."""

UNIFORM, AT_START, AT_END = range(3)
"""The variables in which an integral can be taken."""

SMALLEST = 1e-13
"""Where a graded variable stops to be logarithmic. A norm with an epsilon of 1e-6 moves what
changes to t = 1e-3, and each norm behind it by as much again."""

RATE = math.log1p(1 / SMALLEST)


def substituted(variable: Array, u: Array) -> tuple[Array, Array]:
    """`t` and `dt/du` for u in [0, 1].

    Graded at the start, `t = 1e-13 ((1 + 1e13)^u - 1)`: equal steps in u are equal steps in the
    logarithm of t, down to 1e-13. What changes at t = 1e-9 is then as easy to resolve as what
    changes at 0.1. Graded at the end is the mirror image.
    """
    at_end = variable == AT_END
    along = jnp.where(at_end, 1 - u, u)
    grown = jnp.where(along == 1, 1, SMALLEST * jnp.expm1(RATE * along))
    t = jnp.where(variable == UNIFORM, u, jnp.where(at_end, 1 - grown, grown))
    slope = SMALLEST * RATE * jnp.exp(RATE * along)
    return t, jnp.where(variable == UNIFORM, 1, slope)


def places(n: int, finest: int) -> np.ndarray:
    """The places of the nodes of a level among those of the finest."""
    return np.arange(0, finest, (finest - 1) // (n - 1))


def new_places(levels: list[int]) -> list[np.ndarray]:
    """The places of the nodes that each level adds."""
    finest = levels[-1]
    own = [places(n, finest) for n in levels]
    return [own[0], *(level[1::2] for level in own[1:])]


def free_places(levels: list[int], capacity: int) -> np.ndarray:
    """After each level, the places that are still free, in order and filled up: `(L, capacity)`."""
    finest = levels[-1]
    free = [np.setdiff1d(np.arange(capacity), places(n, finest)) for n in levels]
    return np.stack([np.pad(row, (0, capacity - len(row))) for row in free])


def grid(levels: list[int], capacity: int) -> np.ndarray:
    """The nodes of the finest level, filled up with zeros: `(capacity,)`."""
    nodes = clenshaw_curtis(levels[-1]).nodes
    return np.pad(nodes, (0, capacity - len(nodes)))
