"""What is held of an example while its integral is refined, and what is known of its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core._types import Array, PyTree
from . import _certified_estimates as estimates
from . import _certified_meshes as meshes

TOGETHER = 16
"""Intervals of one example that are halved at once."""


Integrand = Callable[[PyTree, Array], tuple[Array, Array]]
"""`(example, t) -> (primitive, values)`, of one example: values `(D,)`, and a function of t whose
derivative is their sum."""


class Integrals(NamedTuple):
    """The integrals, their errors relative to the sum of magnitudes, and what they cost."""

    value: Array
    error: Array
    gap: Array
    evaluations: Array


class Task(NamedTuple):
    """What is the same for all examples."""

    integrand: Integrand
    batch: PyTree
    tolerances: Array
    levels: list[int]
    most: int
    rows: int
    complete: bool

    @property
    def capacity(self) -> int:
        """Values of one example that fit into memory."""
        return max(self.most, self.levels[-1])

    @property
    def halves(self) -> bool:
        """Whether there is room for a round of halving after the first level."""
        return self.most >= self.levels[0] + TOGETHER

    @property
    def longest(self) -> int:
        """The most nodes that are asked for at once."""
        return max(TOGETHER, *map(len, meshes.new_places(self.levels)))

    @property
    def size(self) -> int:
        """The number of examples."""
        return self.tolerances.shape[0]


class Mesh(NamedTuple):
    """The intervals between nodes, `(capacity,)`: places of their ends, and their changes."""

    left: Array
    right: Array
    change: Array
    intervals: Array
    free: Array  # places for new nodes, in order
    used: Array
    ratio: Array  # of the error to the root of the sum of squares of all changes


class Slot(NamedTuple):
    """The state of one example that is being worked on.

    `stage` is a level, or the number of levels while intervals are halved, or one more than that
    where there is no example. `places` and `nodes` are what is wanted, `asked` of them; the first
    `filled` of these are there.
    """

    example: Array
    stage: Array
    variable: Array
    evaluations: Array
    places: Array  # (longest,)
    nodes: Array
    asked: Array
    filled: Array
    times: Array  # (capacity,), by place
    primitives: Array
    totals: Array
    sizes: Array
    mesh: Mesh
    last: estimates.Assessed
    best: Integrals


def better(best: Integrals, value: Array, error: Array, gap: Array) -> Integrals:
    """The value with the smaller error; the first one in any case."""
    better = (error < best.error) | (best.evaluations == 0)
    new = Integrals(value, error, gap, jnp.ones_like(best.evaluations))
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), new, best)


def with_gap(task: Task, slot: Slot, error: Array, value: Array) -> tuple[Array, Array]:
    """The error, not below what completeness proves, and the completeness gap."""
    change = slot.primitives[task.levels[-1] - 1] - slot.primitives[0]
    gap = jnp.sum(value) - change
    if not task.complete:
        return error, gap
    ends = jnp.abs(slot.primitives[0]) + jnp.abs(slot.primitives[task.levels[-1] - 1])
    proven = jnp.maximum(jnp.abs(gap) - estimates.rounding(value.dtype) * ends, 0)
    return jnp.maximum(error, estimates.relative(proven, value, jnp.zeros_like(proven))), gap


def lost(task: Task, slot: Slot, left: Array, right: Array) -> Array:
    """What the trapezoid rule misses of the change of the primitive in intervals."""
    if not task.complete:
        return jnp.zeros_like(slot.times[left])
    lengths = slot.times[right] - slot.times[left]
    means = (slot.totals[left] + slot.totals[right]) / 2
    return jnp.abs(slot.primitives[right] - slot.primitives[left] - lengths * means)
