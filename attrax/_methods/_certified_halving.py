"""Halving the intervals in which an integrand changes most."""

import jax
import jax.numpy as jnp
import numpy as np

from .._core._safe import quotient
from .._core._types import Array
from . import _certified_estimates as estimates
from . import _certified_meshes as meshes
from ._certified_slots import TOGETHER, Mesh, Slot, Task, better, lost, with_gap


def mesh_of(task: Task, slot: Slot, moves: Array, jumps: Array) -> Mesh:
    """The intervals between the nodes of a level."""
    capacity, finest = task.capacity, task.levels[-1]

    def table(rows: list[np.ndarray]) -> Array:
        padded = [np.pad(row, (0, capacity - len(row))) for row in rows]
        return jnp.asarray(np.stack(padded), jnp.int32)[slot.stage]

    at = [meshes.places(n, finest) for n in task.levels]
    left, right = table([row[:-1] for row in at]), table([row[1:] for row in at])
    count = jnp.asarray(task.levels, jnp.int32)[slot.stage] - 1
    real = jnp.arange(capacity, dtype=jnp.int32) < count
    change = jnp.maximum(moves.astype(slot.times.dtype), lost(task, slot, left, right))
    root = jnp.sqrt(jnp.sum(jnp.where(real, change, 0) ** 2))
    return Mesh(
        left=left,
        right=right,
        change=jnp.where(real, change, -1),
        intervals=count,
        free=table(list(meshes.free_places(task.levels, capacity))),
        used=jnp.zeros_like(count),
        ratio=quotient(jumps.astype(root.dtype), root, 1),
    )


def halving(task: Task, slot: Slot) -> Slot:
    """The middles of the intervals that change most are asked for."""
    _, widest = jax.lax.top_k(slot.mesh.change, TOGETHER)
    left, right = slot.mesh.left[widest], slot.mesh.right[widest]
    places = jax.lax.dynamic_slice_in_dim(slot.mesh.free, slot.mesh.used, TOGETHER)
    middles = (slot.times[left] + slot.times[right]) / 2
    return slot._replace(
        stage=jnp.zeros_like(slot.stage) + len(task.levels),
        places=slot.places.at[:TOGETHER].set(places),
        nodes=slot.nodes.at[:TOGETHER].set(middles),
        asked=jnp.zeros_like(slot.asked) + TOGETHER,
        filled=jnp.zeros_like(slot.filled),
    )


def halved(task: Task, slot: Slot, rows: Array, i: Array) -> tuple[Slot, Array]:
    """After a round of halving: done, or the next round."""
    mesh, halves = _split(task, slot, rows, i)
    slot = slot._replace(mesh=mesh)
    tolerance = task.tolerances[slot.example]
    finite = jnp.isfinite(jnp.sum(slot.sizes))
    root = jnp.sqrt(jnp.sum(jnp.maximum(slot.mesh.change, 0) ** 2))
    whole = estimates.magnitude(slot.best.value)
    hopeful = root * slot.mesh.ratio <= tolerance * whole
    spent = slot.evaluations + TOGETHER > task.most

    def checked() -> Slot:
        value, jumps, size = _trapezoid(slot, rows, i)
        # Errors of jumps are independent. Those of a peak are not, and show in the last round.
        jumps = jnp.maximum(jumps, estimates.magnitude(_moved(slot, halves, rows, i)))
        error = estimates.relative(jumps, value, size).astype(slot.best.error.dtype)
        error, gap = with_gap(task, slot, error, value)
        ratio = quotient(jumps.astype(root.dtype), root, 1)
        mesh = slot.mesh._replace(ratio=ratio)
        return slot._replace(mesh=mesh, best=better(slot.best, value, error, gap))

    slot = jax.lax.cond((hopeful | spent) & finite, checked, lambda: slot)
    done = (slot.best.error <= tolerance) | spent | ~finite
    return jax.lax.cond(done, lambda: slot, lambda: halving(task, slot)), done


def _split(task: Task, slot: Slot, rows: Array, i: Array) -> tuple[Mesh, tuple[Array, ...]]:
    """The intervals after those that changed most were halved; the places of these halves."""
    mesh, new = slot.mesh, slot.places[:TOGETHER]
    _, widest = jax.lax.top_k(mesh.change, TOGETHER)
    left, right = mesh.left[widest], mesh.right[widest]
    middle = rows[i, new]

    def change(left: Array, right: Array, first: Array, second: Array) -> Array:
        lengths = slot.times[right] - slot.times[left]
        moves = lengths * estimates.magnitude(second - first)
        return jnp.maximum(moves, lost(task, slot, left, right))

    added = mesh.intervals + jnp.arange(TOGETHER, dtype=jnp.int32)
    mesh = mesh._replace(
        left=mesh.left.at[added].set(new),
        right=mesh.right.at[added].set(right).at[widest].set(new),
        change=mesh.change.at[added]
        .set(change(new, right, middle, rows[i, right]))
        .at[widest]
        .set(change(left, new, rows[i, left], middle)),
        intervals=mesh.intervals + TOGETHER,
        used=mesh.used + TOGETHER,
    )
    return mesh, (left, new, right)


def _moved(slot: Slot, halves: tuple[Array, ...], rows: Array, i: Array) -> Array:
    """By how much the last round of halving has changed the trapezoid rule."""
    left, new, right = halves
    before, after = slot.times[new] - slot.times[left], slot.times[right] - slot.times[new]
    parts = before[:, None] * rows[i, right] + after[:, None] * rows[i, left]
    return jnp.sum((before + after)[:, None] * rows[i, new] - parts, 0) / 2


def _trapezoid(slot: Slot, rows: Array, i: Array) -> tuple[Array, Array, Array]:
    """The trapezoid rule, its error if the integrand jumps, and the integral of its size."""
    mesh, width = slot.mesh, rows[i, 0]

    def add(block: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        value, squares, size = sums
        at = block * TOGETHER + jnp.arange(TOGETHER, dtype=jnp.int32)
        left, right = mesh.left[at], mesh.right[at]
        lengths = jnp.where(at < mesh.intervals, slot.times[right] - slot.times[left], 0)
        first, second = rows[i, left], rows[i, right]
        value = value + jnp.dot(lengths / 2, first + second, precision=estimates.HIGHEST)
        squares = squares + jnp.sum((lengths[:, None] * (second - first)) ** 2, 0)
        size = size + jnp.dot(lengths / 2, slot.sizes[left] + slot.sizes[right])
        return value, squares, size

    start = jnp.zeros_like(width), jnp.zeros_like(width), jnp.zeros_like(slot.times[0])
    value, squares, size = jax.lax.fori_loop(0, -(-mesh.intervals // TOGETHER), add, start)
    return value, estimates.jump_error(squares), size
