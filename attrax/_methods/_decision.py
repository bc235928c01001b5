"""Gradients integrated along a line, weighted by how fast the score changes there."""

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._types import Array, PyTree, ScalarFn, tree_dtype, widen
from ..paths import straight
from ..quadrature import Rule, gauss_legendre
from ..quadrature._tables import nodes_and_weights
from ._gradient import gradient, scaled


def integrated_decision_gradients(
    fn: ScalarFn,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    rule: Rule = gauss_legendre(32),
    batch_size: int = 8,
) -> PyTree:
    r"""Integrated gradients weighted by how fast the score changes along the line.

    $$(x - b) \odot \int_0^1 \nabla fn(p) F'(t) \, dt$$

    $$\text{with } p = b + t (x - b), \; F(t) = fn(p),
    \; F'(t) = \sum_i (x - b)_i (\nabla fn(p))_i$$

    Gradients count little where the score has saturated, and much where it is decided. Completeness
    does not hold: the sum is `integral_0^1 F'(t)^2 dt`, which is at least `(fn(x) - fn(b))^2` and
    equal to it when the score changes evenly. A feature that `fn` ignores, or that equals its
    baseline, gets 0. The method is quadratic in `fn`: `2 fn` gets four times as much, and `-fn` the
    same. So where the score falls along the line, a feature that raises it gets a negative number.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        rule: where gradients are taken on the line, and their weights. A decision within a short
            part of the line asks for nodes there: `quadrature.composite(rule, panels)`.
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn` squared.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, or `baseline` does not match the shapes of
            `x`.

    Example:
        >>> fn = lambda x: x[0] ** 2 + x[1]  # F' = 2 t x[0]^2 + x[1] from zero
        >>> integrated_decision_gradients(fn, jnp.array([3.0, 1.0])).round().tolist()
        [117.0, 10.0]

    References:
        Walker et al. (2024), arXiv:2305.20052. They take F' by differences between neighbouring
        nodes, and choose the nodes after a first pass over the line; here F' follows exactly from
        the gradient at the same node, and the nodes are those of `rule`.
    """
    x = _checks.floating(x)
    baseline = _checks.baseline_like(baseline, x)
    line = straight(x, baseline)
    dtype = tree_dtype(x)
    nodes, weights = nodes_and_weights(rule, dtype)

    def integrand(t: Array) -> PyTree:
        slope = gradient(fn, line(t))
        shares = jax.tree.leaves(scaled(widen(slope), widen(x), baseline))
        speed = sum((jnp.sum(share).astype(dtype) for share in shares), jnp.zeros((), dtype))
        return jax.tree.map(lambda g: g * speed.astype(g.dtype), widen(slope))

    mean = weighted_sum(integrand, nodes, weights, batch_size=batch_size)
    return scaled(mean, x, baseline)
