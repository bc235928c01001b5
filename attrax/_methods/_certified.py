"""Path-integrated attributions of a batch to a tolerance, each example with what it needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._core import _checks
from .._core._types import Array, Certified, Path, PyTree, tree_dtype, widen
from ..paths import straight
from . import _certified_engine as engine
from . import _certified_estimates as estimates
from ._certified_meshes import LEVELS
from ._conductance import Jvp, Split, flow


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

    Each example takes the nested Clenshaw-Curtis rules with 9, 17, 33, 65 and 129 nodes, one after
    the other, until its estimate meets the tolerance. After 33 nodes there are two other ways. If
    the gradient seems to jump along the path, as it does in piecewise linear networks, rules of
    high order are of no use: then the intervals where the gradient changes most are halved. If most
    of the change lies next to an end of the path, as behind a layer norm with a baseline of zeros,
    the rules start again in a variable in which equal steps are equal steps in the logarithm of
    the distance from that end. It goes on until the estimate meets the tolerance, or
    `max_evaluations` are spent.

    The estimate comes from the gradients at the nodes. It is
    `J max(min(1, S / J)^(1 - sqrt(s)), s^(3/2))`: S is the error if the gradient is smooth, J the
    error if it jumps between nodes, and s is the share of J that the last refinement has confirmed,
    which tells the two apart. It is never less than the completeness gap proves: a score that
    changes where no node has seen a gradient does not converge. But a small gap proves nothing,
    since entries that are wrong with opposite signs leave none. `docs/tolerance.md` has the
    formulas, and how often they hold. An estimate is no bound.

    Examples that have converged cost nothing more. A few examples are in memory at a time, and when
    one is done the next one takes its place. Where a tolerance is not met, `converged` is False,
    and value and estimate are the best that was found. The same holds where a gradient on the path
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
        max_evaluations: the most gradients of one example, at least 9. Memory holds this many
            attributions (129 at least, if it is not smaller) of the examples that are being worked
            on, and three of each other example.
        batch_size: gradients evaluated at once, of all examples together. An eighth as many
            examples are worked on at once.

    Returns:
        A `Certified`: `value` like `xs`; the others `(N,)`. `evaluations` counts gradients, and
        `completeness_gap` is the sum of the attribution minus the difference of `fn` between both
        ends of the path. Not differentiable in reverse mode: the number of steps depends on values.
        For a loss use `attrax.integrated_gradients`.

    Raises:
        TypeError: when `xs` is not floating.
        ValueError: when leading axes differ, `baselines` or the points of the path do not match
            the shapes of `xs`, `fn` does not return a scalar, `max_evaluations` is below 9, or a
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

    def integrand(example: PyTree, t: Array) -> tuple[Array, PyTree]:
        x, baseline, others = example
        curve = path(widen(x), widen(baseline))
        place, velocity = jax.jvp(curve, (t,), (jnp.ones_like(t),))
        checked = _checks.scalar_valued(lambda x: fn(x, *others))
        value, slope = jax.value_and_grad(checked)(_checks.like(place, x, "path"))
        return value, jax.tree.map(jnp.multiply, widen(slope), widen(velocity))

    batch = _batch(xs, baselines, aux)
    like = jax.tree.map(lambda leaf: leaf[0], batch[0])
    settings = tolerance, max_evaluations, batch_size
    return _certified(integrand, batch, like, *settings, complete=True)


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

    Rules, estimate, cost and refusals are as in `attrax.certified_integrated_gradients`, with one
    exception: completeness proves nothing here, since a skip connection may go around the layer.
    So a score that switches between two nodes can go unseen. What the numbers mean is in
    `attrax.conductance`.

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

    def integrand(example: PyTree, t: Array) -> tuple[Array, PyTree]:
        x, baseline, others = example
        return flow(lambda x: split(x, *others), straight(x, baseline), jvp)(t)

    def layer(example: PyTree) -> PyTree:
        x, _, others = example
        return _checks.floating(split(x, *others)[0], "z")

    batch = _batch(xs, baselines, aux)
    like = jax.eval_shape(layer, jax.tree.map(lambda leaf: leaf[0], batch))
    settings = tolerance, max_evaluations, batch_size
    return _certified(integrand, batch, like, *settings, complete=False)


def _batch(xs: PyTree, baselines: PyTree | None, aux: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """Examples, baselines and further arguments, checked."""
    xs = _checks.floating(xs, "xs")
    baselines = _checks.baseline_like(baselines, xs)
    _leading(xs, (baselines, aux))
    return xs, baselines, jax.tree.map(jnp.asarray, aux)


def _certified(
    integrand: Callable[[PyTree, Array], tuple[Array, PyTree]],
    batch: tuple[PyTree, PyTree, PyTree],
    like: PyTree,
    tolerance: float | Array,
    max_evaluations: int,
    batch_size: int,
    complete: bool,
) -> Certified:
    """The integrals for examples `(x, baseline, aux)`, each like `like`."""
    xs = batch[0]
    dtype = tree_dtype((xs, like))
    coarsest = max(estimates.rounding(leaf.dtype) for leaf in jax.tree.leaves((xs, like)))
    tolerances = _tolerances(tolerance, _leading(xs, ()), 2 * coarsest, dtype)

    def flat(example: PyTree, t: Array) -> tuple[Array, Array]:
        value, parts = integrand(example, t)
        leaves = [leaf.astype(dtype).ravel() for leaf in jax.tree.leaves(parts)]
        return value.astype(dtype), jnp.concatenate(leaves)

    found = engine.integrate(
        flat,
        batch,
        tolerances,
        most=_checks.count(max_evaluations, "max_evaluations", least=LEVELS[0]),
        batch_size=_checks.count(batch_size, "batch_size"),
        complete=complete,
    )
    error = jnp.maximum(found.error, coarsest)
    return Certified(
        value=_unravelled(found.value, like),
        error_estimate=error,
        completeness_gap=found.gap,
        evaluations=found.evaluations,
        converged=(error <= tolerances) & (2 * coarsest <= tolerances) & jnp.isfinite(error),
    )


def _unravelled(values: Array, like: PyTree) -> PyTree:
    """`(N, D)` as a batch of pytrees."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = jnp.split(values, ends, axis=1)
    return jax.tree.unflatten(
        structure,
        [
            part.reshape(-1, *leaf.shape).astype(leaf.dtype)
            for part, leaf in zip(parts, leaves, strict=True)
        ],
    )


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
