"""Gradients integrated along a path from a baseline to the example."""

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._types import Array, Path, PyTree, ScalarFn, cast_like, tree_dtype, widen
from ..paths import straight
from ..quadrature import Rule, gauss_legendre
from ..quadrature._tables import nodes_and_weights
from ._gradient import gradient, scaled


def integrated_gradients(
    fn: ScalarFn,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    rule: Rule = gauss_legendre(32),
    batch_size: int = 8,
) -> PyTree:
    r"""The gradient averaged over the straight line from the baseline, times its length.

    $$(x - b) \odot \int_0^1 \nabla fn(b + t (x - b)) \, dt$$

    Complete up to the error of the rule: the sum is `fn(x) - fn(b)`, and
    `attrax.metrics.completeness_gap` measures by how much it is not. A small gap does not bound
    the error of the single entries. A feature that `fn` ignores, or that equals its baseline, gets
    0. Functions that agree everywhere get equal attributions, whatever their code. It is not
    a property of `x` alone: another baseline asks another question.

    A score that chooses, such as `scores.max_logit()`, chooses anew at every point of the line. To
    explain the class predicted at `x`, fix it: `scores.logit(logits.argmax())`.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        rule: where gradients are taken on the line, and their weights. On smooth networks 16 to
            32 nodes of Gauss-Legendre reach the rounding error of float32; with ReLU the error
            falls as 1/n.
        batch_size: points evaluated at once. Memory grows with it, and not with the rule.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn`.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, or `baseline` does not match the shapes of
            `x`.

    Example:
        >>> attribution = integrated_gradients(lambda x: x[0] ** 3 * x[1], jnp.array([1.0, 8.0]))
        >>> attribution.round(4).tolist()  # 3/4 and 1/4 of fn(x) = 8
        [6.0, 2.0]

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, equation 1; equation 3 with any
        quadrature rule in place of the right Riemann sum.
    """
    x = _checks.floating(x)
    baseline = _checks.baseline_like(baseline, x)
    line = straight(x, baseline)
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))
    mean = weighted_sum(lambda t: gradient(fn, line(t)), nodes, weights, batch_size=batch_size)
    return scaled(mean, x, baseline)


def path_integrated_gradients(
    fn: ScalarFn,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    path: Path,
    rule: Rule = gauss_legendre(32),
    batch_size: int = 8,
) -> PyTree:
    r"""The gradient integrated along any path from the baseline to `x`.

    $$\int_0^1 \nabla fn(c(t)) \odot c'(t) \, dt \text{ with } c = path(x, baseline)$$

    Complete up to the error of the rule, for every path with `c(0) = b` and `c(1) = x`. Which
    feature gets how much depends on the path. The derivative of the path is exact (`jax.jvp`), not
    a difference; `attrax.paths.straight` gives `integrated_gradients`.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        path: `path(x, baseline) -> (t -> point)`. It is called with arrays of float32 or wider.
        rule: where gradients are taken on the path, and their weights.
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn`.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, or `baseline` or the points of the path do
            not match the shapes of `x`.

    Example:
        >>> first_feature_first = lambda x, b: lambda t: b + (x - b) * jnp.stack([
        ...     jnp.minimum(2 * t, 1), jnp.maximum(2 * t - 1, 0)])
        >>> attribution = path_integrated_gradients(
        ...     lambda x: x[0] * x[1], jnp.array([2.0, 3.0]), path=first_feature_first)
        >>> attribution.round(4).tolist()
        [0.0, 6.0]

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, section 5.2 (path methods).
    """
    x = _checks.floating(x)
    curve = path(widen(x), widen(_checks.baseline_like(baseline, x)))
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))

    def integrand(t: Array) -> PyTree:
        place, velocity = jax.jvp(curve, (t,), (jnp.ones_like(t),))
        slope = gradient(fn, _checks.like(place, x, "path"))
        return jax.tree.map(jnp.multiply, widen(slope), widen(velocity))

    return cast_like(weighted_sum(integrand, nodes, weights, batch_size=batch_size), x)
