"""Integrated gradients of a batch to a tolerance, with as few evaluations as each example needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from . import _checks
from ._gradient import gradient
from ._types import Array, Certified, PyTree, cast_like, tree_dtype, widen
from .metrics import completeness_gap
from .paths import straight
from .quadrature import clenshaw_curtis

LEVELS = (9, 17, 33, 65, 129, 257)
"""Evaluations of the nested rules. Fewer than nine can agree by chance."""


def certified_integrated_gradients(
    fn: Callable[..., Array],
    xs: PyTree,
    baselines: PyTree | None = None,
    *aux: PyTree,
    tolerance: float | Array,
    max_evaluations: int = LEVELS[-1],
    batch_size: int = 64,
) -> Certified:
    """Integrated gradients of a batch, each example to a tolerance of its own attribution.

    `(x - b) * integral_0^1 grad fn(b + t (x - b), *aux) dt`, by the first of the nested
    Clenshaw-Curtis rules with 9, 17, 33, 65, 129 and 257 nodes whose error estimate is at most the
    tolerance

    The estimate of the error of the rule of level k is

    `e_k * min(1, 20 e_k / e_(k-1))` with `e_k = ||A_k - A_(k-1)||_1 / ||A_k||_1`

    the difference of two attributions A, not the completeness gap: entries that are wrong with
    opposite signs leave no gap. Where each level divides the difference by more than twenty, as on
    smooth functions, the next difference is what counts, times twenty for safety; elsewhere, as on
    ReLU networks, the last difference counts as it is. Level 0 takes the five nodes that it holds.

    Examples that have converged cost nothing more: at each level those that have not are brought
    together, and their new nodes run in chunks of `batch_size` rows. Every evaluation of a coarser
    rule is used again. On piecewise linear networks rules converge slowly, and a tight tolerance
    may not be met: then `converged` is False, and value and estimate are those of the finest rule.
    So it is where a gradient on the line is not finite.

    Args:
        fn: `fn(x, *aux) -> scalar`, of one example. A class index goes into `aux`, not into a
            closure, so that it is rearranged with its example.
        xs: the examples, any pytree of floating arrays with a leading axis N.
        baselines: like `xs`; None is zeros.
        *aux: further arguments of `fn`, pytrees of arrays with the same leading axis: labels,
            masks, a batched tail.
        tolerance: largest relative error, in the sum of magnitudes; a number, or one for each
            example, `(N,)`. It may be traced: one compiled program serves all tolerances.
        max_evaluations: the most gradients of one example: 17, 33, 65, 129 or 257. Memory holds one
            attribution of the batch for each level up to it.
        batch_size: gradients evaluated at once, of all examples together.

    Returns:
        A `Certified`: `value` like `xs`; the others `(N,)`. `evaluations` counts gradients;
        `completeness_gap` costs two evaluations of `fn` more. Not differentiable in reverse mode
        under `jax.jit`: the number of steps depends on values. For a loss use
        `attrax.integrated_gradients`.

    Raises:
        TypeError: when `xs` is not floating.
        ValueError: when leading axes differ, `baselines` has not the shapes of `xs`, `fn` does not
            return a scalar, `max_evaluations` is none of those numbers, or a tolerance that is not
            traced is below what the dtype of `xs` can hold.

    Example:
        >>> fn = lambda x, power: jnp.sum(x**power)
        >>> xs, powers = jnp.array([[1.0, 2.0], [3.0, 1.0]]), jnp.array([2.0, 4.0])
        >>> found = certified_integrated_gradients(fn, xs, None, powers, tolerance=1e-3)
        >>> found.value.round(2).tolist(), found.evaluations.tolist()
        ([[1.0, 4.0], [81.0, 1.0]], [9, 9])

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, section 3; rules and nesting of
        Clenshaw and Curtis (1960), doi:10.1007/BF01386223. The estimate is ours.
    """
    xs = _checks.floating(xs, "xs")
    baselines = _checks.baseline_like(baselines, xs)
    size = _leading(xs, (baselines, aux))
    aux = jax.tree.map(jnp.asarray, aux)
    tolerances = _tolerances(tolerance, size, xs)
    if max_evaluations not in LEVELS[1:]:
        raise ValueError(
            f"`max_evaluations` must be one of {', '.join(map(str, LEVELS[1:]))}; "
            f"got {max_evaluations}."
        )
    batch_size = _checks.count(batch_size, "batch_size")
    levels = LEVELS[: LEVELS.index(max_evaluations) + 1]

    def slope(row: Array, t: Array) -> PyTree:
        x, baseline, others = jax.tree.map(lambda leaf: leaf[row], (xs, baselines, aux))
        point = straight(x, baseline)(t)
        return widen(gradient(lambda x: fn(x, *others), point))

    steps = jax.tree.map(jnp.subtract, widen(xs), widen(baselines))
    sums = jax.tree.map(lambda leaf: jnp.zeros((len(levels) + 1, *leaf.shape), leaf.dtype), steps)
    state = _State(
        sums=sums,
        value=jax.tree.map(jnp.zeros_like, steps),
        difference=jnp.full(size, jnp.inf, tree_dtype(xs)),
        error=jnp.full(size, jnp.inf, tree_dtype(xs)),
        evaluations=jnp.zeros(size, jnp.int32),
    )
    for level, n in enumerate(levels):
        active = state.error > tolerances if level else jnp.ones(size, bool)
        sums = _add_nodes(slope, state.sums, active, _new_nodes(levels, level), batch_size)
        state = _settle(state._replace(sums=sums), steps, active, level, n)
    value = cast_like(state.value, xs)
    return Certified(
        value=value,
        error_estimate=state.error,
        completeness_gap=_gaps(fn, value, xs, baselines, aux, batch_size),
        evaluations=state.evaluations,
        converged=(state.error <= tolerances) & jnp.isfinite(state.error),
    )


class _State(NamedTuple):
    """What is known of each example after a level."""

    sums: PyTree  # weighted sums of gradients, one row for each rule that is not yet complete
    value: PyTree
    difference: Array
    error: Array
    evaluations: Array


class _Nodes(NamedTuple):
    """Nodes that a level adds, and their weight in each rule, `(rules, nodes)`.

    Rule 0 is the one of five nodes, which tells the error of the first level.
    """

    times: np.ndarray
    weights: np.ndarray


def _new_nodes(levels: tuple[int, ...], level: int) -> _Nodes:
    fine = levels[-1]
    rules = [clenshaw_curtis(n) for n in ((levels[0] + 1) // 2, *levels)]
    weights = np.zeros((len(rules), fine))
    for row, rule in zip(weights, rules, strict=True):
        row[:: (fine - 1) // (rule.n - 1)] = rule.weights
    places = np.arange(0, fine, (fine - 1) // (levels[level] - 1))
    if level:
        places = places[1::2]
    return _Nodes(rules[-1].nodes[places], weights[:, places])


def _add_nodes(
    slope: Callable[[Array, Array], PyTree],
    sums: PyTree,
    active: Array,
    nodes: _Nodes,
    batch_size: int,
) -> PyTree:
    """The sums with the nodes of one level added, for the active examples."""
    dtype = tree_dtype(sums)
    times, weights = jnp.asarray(nodes.times, dtype), jnp.asarray(nodes.weights, dtype)
    order = jnp.argsort(~active)  # stable: the active ones first
    rows = jnp.sum(active) * len(nodes.times)

    def step(chunk: Array, sums: PyTree) -> PyTree:
        places = chunk * batch_size + jnp.arange(batch_size)
        real = places < rows
        # A row beyond the last repeats a real one, at weight zero.
        places = jnp.minimum(places, rows - 1)
        example, node = order[places // len(nodes.times)], places % len(nodes.times)
        slopes = jax.vmap(slope)(example, times[node])
        share = jnp.where(real, weights[:, node], 0)

        def add(total: Array, slope: Array) -> Array:
            shape = (*share.shape, *[1] * (slope.ndim - 1))
            parts = share.astype(slope.dtype).reshape(shape) * slope[None]
            return total.at[:, example].add(parts)

        return jax.tree.map(add, sums, slopes)

    return jax.lax.fori_loop(0, -(-rows // batch_size), step, sums)


def _settle(state: _State, steps: PyTree, active: Array, level: int, n: int) -> _State:
    """The attribution of a level and its error estimate, for the active examples."""

    def attribution(rule: int) -> PyTree:
        return jax.tree.map(lambda total, step: total[rule] * step, state.sums, steps)

    fine, coarse = attribution(level + 1), attribution(level)
    scale = _magnitude(fine)
    apart = _magnitude(jax.tree.map(jnp.subtract, fine, coarse))
    # Of an attribution of nothing but zeros there is no relative error; it is exact if both are.
    # One that is not finite has no error that could be known, and never converges.
    difference = jnp.where(apart == 0, 0, apart / jnp.where(apart == 0, 1, scale))
    difference = jnp.where(jnp.isnan(difference), jnp.inf, difference)
    before = jnp.where(level == 0, difference, state.difference)
    decay = difference / jnp.where(before > 0, before, 1)
    error = jnp.where(jnp.isinf(difference), jnp.inf, difference * jnp.minimum(1, 20 * decay))
    error = jnp.maximum(error, _rounding(difference.dtype))

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return _State(
        state.sums,
        jax.tree.map(chosen, fine, state.value),
        chosen(difference, state.difference),
        chosen(error, state.error),
        chosen(jnp.full_like(state.evaluations, n), state.evaluations),
    )


def _magnitude(tree: PyTree) -> Array:
    """The sum of magnitudes of each example."""
    parts = [jnp.sum(jnp.abs(leaf), range(1, leaf.ndim)) for leaf in jax.tree.leaves(tree)]
    return sum(parts[1:], parts[0])


def _rounding(dtype: Any) -> float:
    return 4 * float(jnp.finfo(dtype).eps)


def _gaps(
    fn: Callable[..., Array],
    value: PyTree,
    xs: PyTree,
    baselines: PyTree,
    aux: PyTree,
    batch_size: int,
) -> Array:
    def gap(arrays: tuple[PyTree, ...]) -> Array:
        value, x, baseline, others = arrays
        return completeness_gap(lambda x: fn(x, *others), value, x, baseline)

    return jax.lax.map(gap, (value, xs, baselines, aux), batch_size=batch_size)


def _leading(xs: PyTree, others: PyTree) -> int:
    """The number of examples."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves((xs, others))]
    sizes = {shape[0] if shape else -1 for shape in shapes}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            "`xs`, `baselines` and `aux` must have one leading axis, the examples; got shapes "
            f"{', '.join(map(str, shapes))}."
        )
    (size,) = sizes
    if size == 0:
        raise ValueError("`xs` must hold at least one example; got none.")
    return size


def _tolerances(tolerance: Any, size: int, xs: PyTree) -> Array:
    if jnp.shape(tolerance) not in ((), (size,)):
        raise ValueError(
            f"`tolerance` must be one number, or one for each of the {size} examples; got shape "
            f"{jnp.shape(tolerance)}."
        )
    narrowest = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(xs))
    least = 8 * narrowest
    if not isinstance(tolerance, Tracer) and not np.all(np.asarray(tolerance) >= least):
        raise ValueError(
            f"`tolerance` must be at least {least:.1e}, what the dtype of `xs` can hold; "
            f"got {tolerance}."
        )
    return jnp.broadcast_to(jnp.asarray(tolerance, tree_dtype(xs)), (size,))
