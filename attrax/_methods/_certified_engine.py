"""Integrals over [0, 1] of a batch of functions, each to a tolerance of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import Array, PyTree
from ..quadrature import clenshaw_curtis
from . import _certified_estimates as estimates

LEVELS = (9, 17, 33, 65)
"""Evaluations of the nested rules. Fewer than nine can agree by chance."""

TOGETHER = 16
"""Intervals of one example that are halved at once."""

Integrand = Callable[[PyTree, Array], PyTree]
"""`(example, t) -> value`, of one example."""


class Integrals(NamedTuple):
    """The integrals, their errors relative to the sum of magnitudes, and what they cost."""

    value: PyTree
    error: Array
    evaluations: Array


def integrate(
    integrand: Integrand,
    batch: PyTree,
    tolerances: Array,
    *,
    most: int,
    batch_size: int,
) -> Integrals:
    """The integral of `integrand(example, t)` over t in [0, 1], for each example of a batch.

    First the nested Clenshaw-Curtis rules with 9, 17, 33 and 65 nodes, until the error is at most
    the tolerance; the last only where the integrand looks smooth. For the others the intervals
    between nodes are halved where the integrand changes most, and the trapezoid rule is taken.

    Nothing here communicates between examples but their order: under `jax.shard_map` over them
    there is no collective.

    Args:
        integrand: `(example, t) -> pytree`, in float32 or wider.
        batch: a pytree with a leading axis of length N.
        tolerances: `(N,)`.
        most: evaluations of one example, at least 9.
        batch_size: evaluations at once, of all examples together.
    """
    levels = [n for n in LEVELS if n <= most]
    state, rows = _nested(integrand, batch, tolerances, levels, batch_size)
    together = min(TOGETHER, batch_size)
    if most >= min(levels[-1], LEVELS[-2]) + together:
        state = _halved(integrand, batch, rows, tolerances, state, most, together, batch_size)
    return state


def _empty_rows(integrand: Integrand, batch: PyTree, times: Array) -> PyTree:
    """Zeros for the values of all examples at all nodes."""
    at_all = jax.vmap(jax.vmap(integrand, (None, 0)), (0, None))
    return jax.tree.map(jnp.zeros_like, jax.eval_shape(at_all, batch, times))


class _Nested(NamedTuple):
    """What is known after a level."""

    rows: PyTree
    found: Integrals
    coarse: estimates.Assessed
    active: Array


def _nested(
    integrand: Integrand,
    batch: PyTree,
    tolerances: Array,
    levels: list[int],
    batch_size: int,
) -> tuple[Integrals, PyTree]:
    """The first of the nested rules that is accurate enough, and the values at all nodes.

    A loop over the levels, so that the integrand is compiled once for all of them.
    """
    last = levels[-1]
    times = jnp.asarray(clenshaw_curtis(last).nodes, tolerances.dtype)
    counts, places = map(jnp.asarray, _new_nodes(levels))
    rows = _empty_rows(integrand, batch, times)
    nothing = estimates.assessed(_every(rows, (last - 1) // 4))

    def assess(n: int) -> Callable[..., tuple[estimates.Assessed, estimates.Assessed]]:
        def pair(
            rows: PyTree, coarse: estimates.Assessed
        ) -> tuple[estimates.Assessed, estimates.Assessed]:
            stride = (last - 1) // (n - 1)
            if n == levels[0]:
                coarse = estimates.assessed(_every(rows, 2 * stride))
            return estimates.assessed(_every(rows, stride)), coarse

        return pair

    assessors = [assess(n) for n in levels]

    def step(level: Array, state: _Nested) -> _Nested:
        rows = _fill(
            integrand,
            batch,
            state.rows,
            times,
            places[level],
            counts[level],
            state.active,
            batch_size,
        )
        fine, coarse = jax.lax.switch(level, assessors, rows, state.coarse)
        error = estimates.combined(fine, coarse).astype(tolerances.dtype)
        evaluations = jnp.full_like(state.found.evaluations, jnp.asarray(levels)[level])
        found = _where(state.active, Integrals(fine.value, error, evaluations), state.found)
        active = (found.error > tolerances) & jnp.isfinite(found.error)
        # Of no use where the integrand jumps.
        promising = fine.spectral < 4 * fine.jumps
        active &= promising | (jnp.asarray(levels)[level] != LEVELS[-2])
        return _Nested(rows, found, fine, active)

    # By sums with what depends on the examples: inside of `shard_map` all of it then varies alike.
    unknown = (nothing.spectral + jnp.inf).astype(tolerances.dtype)
    found = Integrals(nothing.value, unknown, jnp.where(unknown > 0, 0, 1).astype(jnp.int32))
    start = _Nested(rows, found, nothing, unknown > 0)
    state = jax.lax.fori_loop(0, len(levels), step, start)
    return state.found, state.rows


def _new_nodes(levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """How many nodes each level adds, and their places among those of the last, filled up."""
    last = levels[-1]
    of_level = [np.arange(0, last, (last - 1) // (n - 1)) for n in levels]
    new = [of_level[0], *(places[1::2] for places in of_level[1:])]
    longest = max(map(len, new))
    return np.array([len(places) for places in new]), np.stack(
        [np.resize(places, longest) for places in new]
    )


def _every(rows: PyTree, stride: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[:, ::stride], rows)


def _where(active: Array, new: PyTree, old: PyTree) -> PyTree:
    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(chosen, new, old)


def _fill(
    integrand: Integrand,
    batch: PyTree,
    rows: PyTree,
    times: Array,
    places: Array,
    nodes: Array,
    active: Array,
    batch_size: int,
) -> PyTree:
    """The values at the first `nodes` places, of the active examples, in chunks of `batch_size`."""
    order = jnp.argsort(~active)  # stable: the active ones first
    count = jnp.sum(active) * nodes

    def step(chunk: Array, rows: PyTree) -> PyTree:
        # A row beyond the last repeats it.
        index = jnp.minimum(chunk * batch_size + jnp.arange(batch_size), count - 1)
        example, node = order[index // nodes], places[index % nodes]
        examples = jax.tree.map(lambda leaf: leaf[example], batch)
        values = jax.vmap(integrand)(examples, times[node])
        return jax.tree.map(lambda rows, value: rows.at[example, node].set(value), rows, values)

    return jax.lax.fori_loop(0, -(-count // batch_size), step, rows)


class _Mesh(NamedTuple):
    """Nodes in any order, infinite where there are none yet, and the values at them."""

    times: Array  # (most,)
    rows: PyTree  # (most, ...)
    used: Array
    value: PyTree
    error: Array
    halves: Array  # (together,), where to evaluate next


def _halved(
    integrand: Integrand,
    batch: PyTree,
    rows: PyTree,
    tolerances: Array,
    state: Integrals,
    most: int,
    together: int,
    batch_size: int,
) -> Integrals:
    """The examples that have not converged, by halving intervals; a few at a time."""
    size = tolerances.shape[0]
    group = min(size, max(1, batch_size // together))
    active = (state.error > tolerances) & jnp.isfinite(state.error)
    # Those that are nearest to their tolerance first: neighbours then need equally many rounds.
    distance = jnp.where(active, state.error / tolerances, jnp.inf)
    order = jnp.argsort(distance)
    count = jnp.sum(active)

    def refine(example: PyTree, rows: PyTree, evaluated: Array, tolerance: Array) -> Integrals:
        mesh = _mesh(tolerances.dtype, rows, evaluated, most, together)

        def unfinished(mesh: _Mesh) -> Array:
            possible = jnp.isfinite(mesh.error) & (mesh.used + together <= most)
            return (mesh.error > tolerance) & possible

        def refined(mesh: _Mesh) -> _Mesh:
            values = jax.vmap(lambda t: integrand(example, t))(mesh.halves)
            times = jax.lax.dynamic_update_slice_in_dim(mesh.times, mesh.halves, mesh.used, 0)
            rows = jax.tree.map(
                lambda rows, new: jax.lax.dynamic_update_slice_in_dim(rows, new, mesh.used, 0),
                mesh.rows,
                values,
            )
            return _looked_at(times, rows, mesh.used + together, together)

        mesh = jax.lax.while_loop(unfinished, refined, mesh)
        return Integrals(mesh.value, mesh.error.astype(tolerances.dtype), mesh.used)

    def step(chunk: Array, state: Integrals) -> Integrals:
        place = chunk * group + jnp.arange(group)
        index = order[jnp.minimum(place, count - 1)]

        def one(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: leaf[index], tree)

        # An example beyond the last has no tolerance to meet, and is not written.
        tolerance = jnp.where(place < count, tolerances[index], jnp.inf)
        new = jax.vmap(refine)(one(batch), one(rows), state.evaluations[index], tolerance)
        better = (place < count) & (new.error < state.error[index])
        new = _where(better, new, one(state))._replace(evaluations=new.evaluations)
        target = jnp.where(place < count, index, size)
        return jax.tree.map(lambda old, new: old.at[target].set(new, mode="drop"), state, new)

    return jax.lax.fori_loop(0, -(-count // group), step, state)


def _mesh(dtype: Any, rows: PyTree, evaluated: Array, most: int, together: int) -> _Mesh:
    """The nodes at which the nested rules have evaluated one example."""
    nodes = clenshaw_curtis(jax.tree.leaves(rows)[0].shape[0]).nodes
    n = len(nodes)
    have = np.arange(n) % max(1, (n - 1) // (LEVELS[-2] - 1)) == 0
    # What is there comes first, so that new nodes are appended.
    first = np.argsort(~have, kind="stable")
    times = jnp.asarray(nodes[first], dtype)
    times = jnp.where(jnp.arange(n) < evaluated, times, jnp.inf)
    most = max(most, n)
    times = jnp.concatenate([times, jnp.full(most - n, jnp.inf, dtype)])

    def spread(leaf: Array) -> Array:
        return jnp.zeros((most, *leaf.shape[1:]), leaf.dtype).at[:n].set(leaf[first])

    return _looked_at(times, jax.tree.map(spread, rows), evaluated, together)


def _looked_at(times: Array, rows: PyTree, used: Array, together: int) -> _Mesh:
    """The trapezoid rule, its error, and the middles of the intervals that matter most."""
    order = jnp.argsort(times)
    sorted_times = times[order][None]
    sorted_rows = jax.tree.map(lambda leaf: leaf[order][None], rows)
    moves = estimates.jump_moves(sorted_times, sorted_rows)
    left, right = sorted_times[0, :-1], sorted_times[0, 1:]
    lengths = jnp.where(jnp.isfinite(right), right - left, 0)
    weights = (jnp.append(lengths, 0) + jnp.insert(lengths, 0, 0)) / 2
    value = jax.tree.map(
        lambda leaf: jnp.tensordot(
            weights.astype(leaf.dtype), leaf[0], 1, precision=jax.lax.Precision.HIGHEST
        ),
        sorted_rows,
    )
    jumps = estimates.jump_error(sorted_times, sorted_rows)
    size = estimates.magnitude(sorted_rows, 2) @ weights
    error = estimates.relative(jumps, jax.tree.map(lambda leaf: leaf[None], value), size)[0]
    change = jnp.where(jnp.isfinite(right), estimates.magnitude(moves, 2)[0], -1)
    _, widest = jax.lax.top_k(change, together)
    halves = (left[widest] + right[widest]) / 2
    return _Mesh(times, rows, used, value, error, halves)
