"""Integrals over [0, 1] of a batch of functions, each to a tolerance of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import Array, PyTree
from . import _certified_estimates as estimates
from . import _certified_meshes as meshes
from ._certified_halving import halved, halving, mesh_of
from ._certified_slots import (
    TOGETHER,
    Integrals,
    Integrand,
    Mesh,
    Slot,
    Task,
    better,
    with_gap,
)

SLOTS = 8
"""Rows of a batch for each example in memory: as many as the second rule adds."""

UNDECIDED = 33
"""Nodes after which the kind of an integrand is judged."""

PROMISING = {9: 1, 17: 1, 33: 4, 65: 1, 129: 1}
"""How much larger than the model of jumps the smooth model may be for another nested rule."""

NEAR, CONCENTRATED = 0.022, 0.5
"""The part of a path next to an end, and the share of all changes in it that calls for a variable
graded at that end."""


def integrate(
    integrand: Integrand,
    batch: PyTree,
    tolerances: Array,
    *,
    most: int,
    batch_size: int,
    complete: bool,
) -> Integrals:
    """The integral of `integrand(example, t)` over t in [0, 1], for each example of a batch.

    A few examples are in memory at a time. In each step all of them together ask for at most
    `batch_size` evaluations; an example that is done makes room for the next one. Nothing
    here communicates between examples: under `jax.shard_map` there is no collective.

    Args:
        integrand: `(example, t) -> (primitive, values)`, in float32 or wider.
        batch: a pytree with a leading axis of length N.
        tolerances: `(N,)`.
        most: evaluations of one example, at least 9.
        batch_size: evaluations at once, of all examples together.
        complete: whether the sum of the integral is known to be the change of the primitive.
    """
    levels = [n for n in meshes.LEVELS if n <= most]
    count = min(tolerances.shape[0], max(1, batch_size // SLOTS))
    at_once = min(batch_size, count * TOGETHER)
    task = Task(integrand, batch, tolerances, levels, most, at_once, complete)
    slots, rows, found = _start(task, count)

    def unfinished(state: tuple[Slot, Array, Integrals, Array]) -> Array:
        return jnp.any(state[0].stage <= len(levels))

    def step(state: tuple[Slot, Array, Integrals, Array]) -> tuple[Slot, Array, Integrals, Array]:
        slots, rows, found, following = state
        slots, rows = _evaluated(task, slots, rows)

        def advance(
            i: Array, state: tuple[Slot, Integrals, Array]
        ) -> tuple[Slot, Integrals, Array]:
            slots, found, following = state
            slot = jax.tree.map(lambda leaf: leaf[i], slots)
            ready = (slot.filled == slot.asked) & (slot.stage <= len(levels))
            slot, found, following = jax.lax.cond(
                ready,
                lambda: _advanced(task, slot, rows, i, found, following),
                lambda: (slot, found, following),
            )
            return jax.tree.map(lambda old, new: old.at[i].set(new), slots, slot), found, following

        slots, found, following = jax.lax.fori_loop(0, count, advance, (slots, found, following))
        return slots, rows, found, following

    following = count + jnp.zeros_like(slots.example[0])
    return jax.lax.while_loop(unfinished, step, (slots, rows, found, following))[2]


def _start(task: Task, count: int) -> tuple[Slot, Array, Integrals]:
    """The first examples, empty memory, and no results."""
    example = jax.tree.map(lambda leaf: leaf[0], task.batch)
    dtype = task.tolerances.dtype
    width = jax.eval_shape(task.integrand, example, jnp.zeros((), dtype))[1]
    # All of it varies with the examples, as inside of `shard_map` it must.
    first = jax.tree.leaves(task.batch)[0].ravel()[0]
    zero = jnp.where(first > 0, 0, 0)

    def zeros(shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        return jnp.zeros(shape, dtype) + zero.astype(dtype)

    rows = zeros((count, task.capacity, *width.shape), width.dtype)
    scalar, row = zeros((), dtype), zeros(width.shape, dtype)
    nothing = Integrals(row, scalar, scalar, zeros((), jnp.int32))
    found = jax.tree.map(lambda leaf: jnp.stack([leaf] * task.size), nothing)
    slots = jax.vmap(lambda i: _loaded(task, i, nothing))(jnp.arange(count, dtype=jnp.int32) + zero)
    return slots, rows, found


def _loaded(task: Task, example: Array, nothing: Integrals) -> Slot:
    """A slot for an example; for a number beyond the last, an idle one."""
    capacity, scalar = task.capacity, jnp.zeros_like(nothing.error)
    integer = jnp.zeros_like(nothing.evaluations)
    known, indices = jnp.zeros(capacity, scalar.dtype) + scalar, jnp.zeros(capacity, jnp.int32)
    indices = indices + integer
    mesh = Mesh(indices, indices, known - 1, integer, indices, integer, scalar)
    idle = example >= task.size
    slot = Slot(
        example=example,
        stage=jnp.where(idle, len(task.levels) + 1, integer),
        variable=integer,
        evaluations=integer,
        places=jnp.zeros(task.longest, jnp.int32) + integer,
        nodes=jnp.zeros(task.longest, scalar.dtype) + scalar,
        asked=integer,
        filled=integer,
        times=known + jnp.asarray(meshes.grid(task.levels, capacity), scalar.dtype),
        primitives=known,
        totals=known,
        sizes=known,
        mesh=mesh,
        last=estimates.Assessed(nothing.value, scalar, scalar, scalar),
        best=nothing,
    )
    asked = _asking(task, slot, jnp.zeros_like(integer))
    return jax.tree.map(lambda new, old: jnp.where(idle, old, new), asked, slot)


def _asking(task: Task, slot: Slot, level: Array) -> Slot:
    """The nodes that a level adds are asked for."""
    new = meshes.new_places(task.levels)
    table = np.stack([np.resize(places, task.longest) for places in new]).astype(np.int32)
    places = jnp.asarray(table)[level]
    counts = jnp.asarray([len(places) for places in new], jnp.int32)
    return slot._replace(
        stage=level,
        places=places,
        nodes=slot.times[places],
        asked=counts[level],
        filled=jnp.zeros_like(slot.filled),
    )


def _evaluated(task: Task, slots: Slot, rows: Array) -> tuple[Slot, Array]:
    """The values at as many of the nodes that are asked for as fit into one batch."""
    wanted = jnp.where(slots.stage <= len(task.levels), slots.asked - slots.filled, 0)
    ends = jnp.cumsum(wanted)
    row = jnp.arange(task.rows, dtype=ends.dtype)
    real = row < ends[-1]
    row = jnp.minimum(row, ends[-1] - 1)  # a row beyond the last repeats it
    slot = jnp.searchsorted(ends, row, side="right").astype(jnp.int32)
    number = slots.filled[slot] + row - (ends - wanted)[slot]
    places, nodes = slots.places[slot, number], slots.nodes[slot, number]
    times, slopes = meshes.substituted(slots.variable[slot], nodes)
    examples = jax.tree.map(lambda leaf: leaf[slots.example[slot]], task.batch)
    primitives, values = jax.vmap(task.integrand)(examples, times)
    values = values * slopes[:, None]
    places = jnp.where(real, places, task.capacity)

    def write(old: Array, new: Array) -> Array:
        return old.at[slot, places].set(new.astype(old.dtype), mode="drop")

    got = jnp.clip(task.rows - (ends - wanted), 0, wanted).astype(jnp.int32)
    slots = slots._replace(
        filled=slots.filled + got,
        evaluations=slots.evaluations + got,
        times=write(slots.times, nodes),
        primitives=write(slots.primitives, primitives),
        totals=write(slots.totals, jnp.sum(values, 1)),
        sizes=write(slots.sizes, estimates.magnitude(values)),
    )
    return slots, write(rows, values)


def _advanced(
    task: Task, slot: Slot, rows: Array, i: Array, found: Integrals, following: Array
) -> tuple[Slot, Integrals, Array]:
    """What is asked for next, after all that was asked for is there; or the next example."""
    slot, done = jax.lax.cond(
        slot.stage < len(task.levels),
        lambda: _assessed(task, slot, rows, i),
        lambda: halved(task, slot, rows, i) if task.halves else (slot, slot.stage > 0),
    )

    def written() -> tuple[Slot, Integrals, Array]:
        best = slot.best._replace(evaluations=slot.evaluations)
        new = jax.tree.map(lambda all, one: all.at[slot.example].set(one), found, best)
        nothing = jax.tree.map(jnp.zeros_like, best)
        return _loaded(task, following, nothing), new, following + 1

    return jax.lax.cond(done, written, lambda: (slot, found, following))


def _assessed(task: Task, slot: Slot, rows: Array, i: Array) -> tuple[Slot, Array]:
    """After a level of the nested rules: done, or what comes next."""
    fine, coarse, moves = _judged(task, slot, rows, i)
    error = estimates.combined(fine, coarse).astype(slot.best.error.dtype)
    error, gap = with_gap(task, slot, error, fine.value)
    # Thirty powers of e lie in a graded variable: fewer nodes than that can agree by chance.
    sparse = jnp.asarray(np.asarray(task.levels) < UNDECIDED)[slot.stage]
    error = jnp.where(sparse & (slot.variable != meshes.UNIFORM), jnp.inf, error)
    slot = slot._replace(
        last=fine,
        best=better(slot.best, fine.value, error, gap),
        mesh=mesh_of(task, slot, moves, fine.jumps),
    )
    choice, possible = _choice(task, slot)
    met = slot.best.error <= task.tolerances[slot.example]
    done = met | ~jnp.isfinite(fine.size) | ~possible
    options = [
        lambda: slot,
        lambda: _asking(task, slot, jnp.minimum(slot.stage + 1, len(task.levels) - 1)),
        lambda: halving(task, slot) if task.halves else slot,
        lambda: _graded(task, slot),
    ]
    return jax.lax.switch(jnp.where(done, 0, choice), options), done


def _judged(
    task: Task, slot: Slot, rows: Array, i: Array
) -> tuple[estimates.Assessed, estimates.Assessed, Array]:
    """The rule of this level, the one before it, and what changes in each interval."""

    def of(n: int, first: bool) -> tuple[estimates.Assessed, estimates.Assessed, Array]:
        at = meshes.places(n, task.levels[-1])
        values = rows[i, at]
        coarse = estimates.assessed(values[::2]) if first else slot.last
        moves = estimates.magnitude(estimates.jump_moves(slot.times[at], values))
        return estimates.assessed(values), coarse, jnp.pad(moves, (0, task.capacity - n + 1))

    branches = [functools.partial(of, n, n == task.levels[0]) for n in task.levels]
    return jax.lax.switch(slot.stage, branches)


def _choice(task: Task, slot: Slot) -> tuple[Array, Array]:
    """What to do after a level that was not enough, as a number, and whether there is room for it.

    The next level where the integrand looks smooth, halving where it jumps, and a graded variable
    where it changes next to an end.
    """
    room = task.most - slot.evaluations
    levels = np.asarray(task.levels)
    added = np.array([len(places) for places in meshes.new_places(task.levels)])
    costs = jnp.asarray(np.append(added[1:], task.most), jnp.int32)  # none after the last
    limits = jnp.asarray([PROMISING.get(n, np.inf) for n in task.levels], slot.times.dtype)
    smooth = slot.last.spectral < limits[slot.stage] * slot.last.jumps
    smooth |= jnp.asarray(levels < UNDECIDED)[slot.stage]
    nested = smooth & (costs[slot.stage] <= room)
    graded = (
        jnp.asarray(levels == UNDECIDED)[slot.stage]
        & (slot.variable == meshes.UNIFORM)
        & (_near(slot, 0) | _near(slot, 1))
        & (room >= 2 * UNDECIDED)
    )
    return jnp.where(graded, 3, jnp.where(nested, 1, 2)), graded | nested | (room >= TOGETHER)


def _near(slot: Slot, end: int) -> Array:
    """Whether most of what changes does so next to an end of the path."""
    left, right = slot.times[slot.mesh.left], slot.times[slot.mesh.right]
    distance = jnp.maximum(jnp.abs(left - end), jnp.abs(right - end))
    change = jnp.maximum(slot.mesh.change, 0)
    return jnp.sum(jnp.where(distance < NEAR, change, 0)) > CONCENTRATED * jnp.sum(change)


def _graded(task: Task, slot: Slot) -> Slot:
    """The nested rules from the first one on, in a variable that is graded at an end."""
    variable = jnp.where(_near(slot, 0), meshes.AT_START, meshes.AT_END)
    nodes = jnp.asarray(meshes.grid(task.levels, task.capacity), slot.times.dtype)
    slot = slot._replace(
        variable=variable.astype(slot.variable.dtype),
        times=jnp.zeros_like(slot.times) + nodes,
        sizes=jnp.zeros_like(slot.sizes),
    )
    return _asking(task, slot, jnp.zeros_like(slot.stage))
