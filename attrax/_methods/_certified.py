"""Path-integrated attributions of a batch to a tolerance, each example with what it needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._core import _checks
from .._core._types import Array, Certified, Path, PyTree, cast_like, tree_dtype, widen
from ..paths import straight
from . import _certified_engine as engine
from . import _certified_estimates as estimates
from ._conductance import Jvp, Split, flow
from ._gradient import gradient


def certified_integrated_gradients(
    fn: Callable[..., Array],
    xs: PyTree,
    *aux: PyTree,
    baselines: PyTree | None = None,
    tolerance: float | Array,
    path: Path = straight,
    max_evaluations: int = 257,
    batch_size: int = 64,
) -> Certified:
    r"""Integrated gradients of a batch, each example to a tolerance of its own attribution.

    $$A = \int_0^1 \nabla fn(c(t), aux) \odot c'(t) \, dt \text{ with } c = path(x, b)$$

    to a relative error $\lVert A - A_{exact} \rVert_1 / \lVert A \rVert_1$
    whose estimate is at most the tolerance.

    On the straight line this is `attrax.integrated_gradients`; on any other path
    `attrax.path_integrated_gradients`; at a layer, give the batch of activations as `xs` and the
    batch of tails in `aux` (see the example).

    Each example takes the nested Clenshaw-Curtis rules with 9, 17, 33 and 65 nodes, one after the
    other, until its estimate meets the tolerance. If it has not done so after 33 and the gradient
    seems to jump along the path, as it does on piecewise linear networks, rules of high order are
    of no use: then the intervals between nodes where the gradient changes most are halved, until
    the estimate meets the tolerance or `max_evaluations` are spent. No evaluation is made twice.

    The estimate comes from the gradients at the nodes themselves. Not from the completeness gap:
    entries that are wrong with opposite signs leave no gap. It is
    `J max(min(1, S / J)^(1 - sqrt(s)), s^(3/2))`: S is the error if the gradient is smooth, J if it
    jumps between nodes, and s, the share of J that the last refinement has confirmed, tells which
    it is. `docs/tolerance.md` has the formulas, and how often they hold. An estimate is no bound.

    Examples that have converged cost nothing more: those that have not are brought together, and
    their new nodes run in chunks of `batch_size` rows. Where a tolerance is not met, `converged` is
    False, and value and estimate are the best that was found. So it is where a gradient on the path
    is not finite; such an example is given up at once.

    Args:
        fn: `fn(x, *aux) -> scalar`, of one example. A class index goes into `aux`, not into a
            closure, so that it is rearranged with its example.
        xs: the examples, any pytree of floating arrays with a leading axis N.
        *aux: further arguments of `fn`, pytrees of arrays with the same leading axis: labels,
            masks, a batched tail.
        baselines: like `xs`; None is zeros.
        tolerance: largest relative error, in the sum of magnitudes; a number, or one for each
            example, `(N,)`. It may be traced: one compiled program serves all tolerances. Nothing
            converges to a traced one below what the dtype of `xs` can hold.
        path: `path(x, baseline) -> (t -> point)`. It is called with arrays of float32 or wider.
        max_evaluations: the most gradients of one example, at least 9. Memory holds 65 attributions
            of each example (33 below 65), and this many of those whose intervals are being halved,
            `batch_size / 16` examples at once.
        batch_size: gradients evaluated at once, of all examples together.

    Returns:
        A `Certified`: `value` like `xs`; the others `(N,)`. `evaluations` counts gradients;
        `completeness_gap` costs two evaluations of `fn` more. Not differentiable in reverse mode
        under `jax.jit`: the number of steps depends on values. For a loss use
        `attrax.integrated_gradients`.

    Raises:
        TypeError: when `xs` is not floating.
        ValueError: when leading axes differ, `baselines` or the points of the path have not the
            shapes of `xs`, `fn` does not return a scalar, `max_evaluations` is below 9, or a
            tolerance that is not traced is below what the dtype of `xs` can hold.

    Example:
        >>> fn = lambda x, power: jnp.sum(x**power)
        >>> xs, powers = jnp.array([[1.0, 2.0], [3.0, 1.0]]), jnp.array([2.0, 4.0])
        >>> found = certified_integrated_gradients(fn, xs, powers, tolerance=1e-3)
        >>> found.value.round(2).tolist(), found.evaluations.tolist()
        ([[1.0, 4.0], [81.0, 1.0]], [9, 9])

        At a layer, with a model, `zs, tails = jax.vmap(lambda x: attrax.cut(model, x, at=...))(xs)`
        and `certified_integrated_gradients(lambda z, tail: score(tail(z)), zs, tails, ...)`.

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, sections 3 and 5.2; rules and nesting
        of Clenshaw and Curtis (1960), doi:10.1007/BF01386223. The estimates are ours.
    """
    xs = _checks.floating(xs, "xs")

    def integrand(example: PyTree, t: Array) -> PyTree:
        x, baseline, others = example
        curve = path(widen(x), widen(baseline))
        place, velocity = jax.jvp(curve, (t,), (jnp.ones_like(t),))
        slope = gradient(lambda x: fn(x, *others), _checks.like(place, x, "path"))
        return jax.tree.map(jnp.multiply, widen(slope), widen(velocity))

    return _certified(
        integrand, fn, xs, baselines, aux, tolerance, max_evaluations, batch_size, like=xs
    )


def certified_conductance(
    split: Split,
    xs: PyTree,
    *aux: PyTree,
    baselines: PyTree | None = None,
    tolerance: float | Array,
    jvp: Jvp = jax.jvp,
    max_evaluations: int = 257,
    batch_size: int = 64,
) -> Certified:
    r"""Conductance of a batch, each example to a tolerance of its own attribution.

    $$\int_0^1 \frac{\partial fn}{\partial z}(x_t) \odot \frac{d z}{d t}(x_t) \, dt
    \text{ with } x_t = b + t (x - b)$$

    Everything about rules, estimate, cost and refusals is as in
    `attrax.certified_integrated_gradients`; what the numbers mean is in `attrax.conductance`.

    Args:
        split: `split(x, *aux) -> (z, fn)`, of one example: the activation of the layer, and the
            score as a function of it, as in `attrax.conductance`.
        xs: the examples, any pytree of floating arrays with a leading axis N.
        *aux: further arguments of `split`, pytrees of arrays with the same leading axis.
        baselines: like `xs`; None is zeros.
        tolerance: largest relative error, in the sum of magnitudes; one, or one for each example.
        jvp: as in `attrax.conductance`: `attrax.reverse_jvp` where something before the layer has
            no forward derivative (`jax.custom_vjp`).
        max_evaluations: the most nodes of one example, at least 9.
        batch_size: nodes evaluated at once, of all examples together.

    Returns:
        A `Certified`: `value` like a batch of z; the others `(N,)`. `completeness_gap` is the sum
        of the conductance minus the difference of `fn` between both ends: where a skip connection
        goes around the layer it is not small, and no rule makes it so.

    Raises:
        TypeError: when `xs` or z is not floating.
        ValueError: as `attrax.certified_integrated_gradients`.

    Example:
        >>> split = lambda x: (x**2, lambda z: z[0] * z[1])
        >>> xs = jnp.array([[1.0, 3.0], [2.0, 2.0]])
        >>> found = certified_conductance(split, xs, tolerance=1e-4)
        >>> found.value.round(3).tolist()  # halves of 9 and of 16
        [[4.5, 4.5], [8.0, 8.0]]

    References:
        Dhamdhere, Sundararajan and Yan (2018), arXiv:1805.12233, as in `attrax.conductance`.
    """
    xs = _checks.floating(xs, "xs")

    def integrand(example: PyTree, t: Array) -> PyTree:
        x, baseline, others = example
        return flow(lambda x: split(x, *others), straight(x, baseline), jvp)(t)

    def whole(x: PyTree, *others: PyTree) -> Array:
        z, fn = split(x, *others)
        return fn(z)

    def layer(x: PyTree, others: PyTree) -> PyTree:
        return _checks.floating(split(x, *others)[0], "z")

    _leading(xs, (baselines, aux))
    like = jax.eval_shape(jax.vmap(layer), xs, jax.tree.map(jnp.asarray, aux))
    return _certified(
        integrand, whole, xs, baselines, aux, tolerance, max_evaluations, batch_size, like=like
    )


def _certified(
    integrand: engine.Integrand,
    fn: Callable[..., Array],
    xs: PyTree,
    baselines: PyTree | None,
    aux: PyTree,
    tolerance: float | Array,
    max_evaluations: int,
    batch_size: int,
    like: PyTree,
) -> Certified:
    """The integrals for examples `(x, baseline, aux)`, checked, and what is to be known of them."""
    baselines = _checks.baseline_like(baselines, xs)
    size = _leading(xs, (baselines, aux))
    coarsest = max(estimates.rounding(leaf.dtype) for leaf in jax.tree.leaves((xs, like)))
    tolerances = _tolerances(tolerance, size, 2 * coarsest, tree_dtype(xs))
    batch = xs, baselines, jax.tree.map(jnp.asarray, aux)
    found = engine.integrate(
        integrand,
        batch,
        tolerances,
        most=_checks.count(max_evaluations, "max_evaluations", least=engine.LEVELS[0]),
        batch_size=_checks.count(batch_size, "batch_size"),
    )
    value = cast_like(found.value, like)
    error = jnp.maximum(found.error, coarsest)
    return Certified(
        value=value,
        error_estimate=error,
        completeness_gap=_gaps(fn, value, batch, batch_size),
        evaluations=found.evaluations,
        converged=(error <= tolerances) & (2 * coarsest <= tolerances) & jnp.isfinite(error),
    )


def _gaps(fn: Callable[..., Array], value: PyTree, batch: PyTree, batch_size: int) -> Array:
    """The sum of each attribution, minus the difference of `fn` between both ends."""

    def gap(arrays: tuple[PyTree, PyTree]) -> Array:
        value, (x, baseline, others) = arrays
        total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(widen(value)))
        ends = [fn(point, *others) for point in (x, baseline)]
        return total - (ends[0].astype(tree_dtype(x)) - ends[1].astype(tree_dtype(x)))

    return jax.lax.map(gap, (value, batch), batch_size=batch_size)


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


def _tolerances(tolerance: Any, size: int, least: float, dtype: Any) -> Array:
    if jnp.shape(tolerance) not in ((), (size,)):
        raise ValueError(
            f"`tolerance` must be one number, or one for each of the {size} examples; got shape "
            f"{jnp.shape(tolerance)}."
        )
    if not isinstance(tolerance, Tracer) and not np.all(np.asarray(tolerance) >= least):
        raise ValueError(
            f"`tolerance` must be at least {least:.1e}, what the dtypes of `xs` and of the result "
            f"can hold; got {tolerance}."
        )
    return jnp.broadcast_to(jnp.asarray(tolerance, dtype), (size,))
