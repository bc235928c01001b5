"""Pairwise interactions: second derivatives integrated along the line from a baseline."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._types import Array, PyTree, ScalarFn, cast_like, tree_dtype, widen
from ..paths import straight
from ..quadrature import Rule, gauss_logarithmic
from ..quadrature._tables import nodes_and_weights
from ._gradient import gradient


def integrated_hessian_product(
    fn: ScalarFn,
    x: PyTree,
    vector: PyTree,
    baseline: PyTree | None = None,
    *,
    rule: Rule = gauss_logarithmic(32),
    jvp: Callable[..., Any] = jax.jvp,
    batch_size: int = 8,
) -> PyTree:
    r"""How each feature interacts with a weighted group of features: integrated Hessians times it.

    $$out_i = \sum_j G_{i,j} v_j$$

    where G is the matrix of `attrax.integrated_hessians`, but without the matrix.

    - `v` one-hot at j: row j, how feature j interacts with each feature, and itself;
    - `v` one in a group and zero outside: how each feature interacts with the group;
    - `v` one everywhere: integrated gradients, up to the error of the rule.

    One Hessian-vector product a node, about two gradients, and the memory of a gradient. It is
    linear in `v` and in `fn`. All that is said of the matrix holds: see there for networks with
    ReLU, which have no second derivative to be integrated.

    Args:
        fn: `x -> scalar`, of one example, twice differentiable.
        x: any pytree of floating arrays.
        vector: v, the same structure and shapes: a weight for each feature.
        baseline: the same structure and shapes; None is zeros.
        rule: points on the line and their weights, of a rule for integrals against `-log t`:
            `attrax.quadrature.gauss_logarithmic(n)` is exact for polynomials of degree 2n.
        jvp: how the gradient is differentiated along v: `jax.jvp`, or
            `attrax.reverse_jvp` where `fn` has no forward derivative (`jax.custom_vjp`).
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn` times those of `vector`.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, `vector` or `baseline` does not match the
            shapes of `x`, or `rule` is one for an ordinary integral.

    Example:
        >>> fn = lambda x: x[0] * x[1] + x[2]
        >>> x, second = jnp.array([2.0, 6.0, 5.0]), jnp.array([0.0, 1.0, 0.0])
        >>> integrated_hessian_product(fn, x, second).round(4).tolist()  # a quarter of 12
        [3.0, 3.0, 0.0]

    References:
        Janizek, Sturmfels and Lee (2020), arXiv:2002.04138, section 3; as a product with a vector,
        and with one integral in place of two.
    """
    x = _checks.floating(x)
    vector = widen(_checks.fitting(vector, x, "vector"))
    baseline = _checks.baseline_like(baseline, x)
    line = straight(x, baseline)
    step = jax.tree.map(jnp.subtract, widen(x), widen(baseline))
    tangent = cast_like(jax.tree.map(jnp.multiply, step, vector), x)
    nodes, weights = nodes_and_weights(_logarithmic(rule), tree_dtype(x))

    def integrand(t: Array) -> PyTree:
        slope, bend = _forward(jvp, lambda x: gradient(fn, x), line(t), tangent)
        return jax.tree.map(
            lambda v, g, h: v * g + t.astype(h.dtype) * h, vector, widen(slope), widen(bend)
        )

    mean = weighted_sum(integrand, nodes, weights, batch_size=batch_size)
    return cast_like(jax.tree.map(jnp.multiply, step, mean), x)


def integrated_hessians(
    fn: ScalarFn,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    rule: Rule = gauss_logarithmic(32),
    jvp: Callable[..., Any] = jax.jvp,
    batch_size: int = 8,
) -> PyTree:
    r"""How much of the score's change each pair of features makes together.

    $$G_{i,j} = (x_i - b_i) (x_j - b_j) \int_0^1 -\log(t) \, t \, H_{i,j}(x_t) \, dt
    \text{ with } x_t = b + t (x - b)$$

    where H is the Hessian of `fn`. The diagonal, which is what a feature does alone and to itself,
    has another term, with the gradient g:

    $$(x_i - b_i) \int_0^1 -\log(t) \, g_i(x_t) \, dt$$

    These are the integrated gradients of the integrated gradients. Symmetric; each row sums to the
    integrated gradient of its feature and the whole to `fn(x) - fn(b)`, up to the error of the
    rule. Features that `fn` only adds up do not interact, and one that equals its baseline
    interacts with none. Entries off the diagonal come in pairs: `2 G_ij` is what i and j share.
    Not all that comes of a product stands off the diagonal: of `x_0 x_1` it is one half,
    and each feature keeps a quarter.

    **ReLU has no second derivative.** In a piecewise linear network H is zero wherever it exists.
    There all interactions are 0, only the diagonal is left, and the sum misses whatever
    bends at the kinks. The authors explain a copy of the network with softplus in place of ReLU:
    that is another function, and the caller's to make and to compare. GELU, SiLU, tanh and softmax
    need nothing.

    The matrix is as large as `x` squared, and every point of a chunk carries a tangent for each
    feature. Where that is too much take a row or a group by `attrax.integrated_hessian_product`,
    and all rows with `jax.lax.map`.

    Args:
        fn: `x -> scalar`, of one example, twice differentiable.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        rule: points on the line and their weights, of a rule for integrals against `-log t`:
            `attrax.quadrature.gauss_logarithmic(n)` is exact for polynomials of degree 2n.
        jvp: how the gradient is differentiated along each feature: `jax.jvp`, or
            `attrax.reverse_jvp` where `fn` has no forward derivative (`jax.custom_vjp`).
        batch_size: points evaluated at once.

    Returns:
        The structure of `x`, and at each of its leaves the structure of `x` again: shapes
        `(*leaf.shape, *other.shape)`; for an array `(*x.shape, *x.shape)`. Units of `fn`.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, `baseline` does not match the shapes of `x`,
            or `rule` is one for an ordinary integral.

    Example:
        >>> matrix = integrated_hessians(lambda x: x[0] ** 2 * x[1], jnp.array([3.0, 1.0]))
        >>> matrix.round(4).tolist()  # 4/9, 2/9, 2/9 and 1/9 of fn(x) = 9
        [[4.0, 2.0], [2.0, 1.0]]

    References:
        Janizek, Sturmfels and Lee (2020), arXiv:2002.04138, section 3. They sum over a grid of two
        times r and s; the integrand depends on their product alone, whose density is `-log t`, so
        that n Hessian-vector products do the work of n^2.
    """
    x = _checks.floating(x)
    flat, restore = ravel_pytree(x)

    def row(one_hot: Array) -> PyTree:
        return integrated_hessian_product(
            fn,
            x,
            restore(one_hot),
            baseline,
            rule=rule,
            jvp=jvp,
            batch_size=batch_size,
        )

    # What does not depend on the row, all of the gradient, is not mapped, and computed once.
    rows = jax.vmap(row)(jnp.eye(flat.size, dtype=flat.dtype))
    leaves, structure = jax.tree.flatten(x)
    ends = np.cumsum([leaf.size for leaf in leaves])
    blocks = [_block(rows, end - leaf.size, leaf) for leaf, end in zip(leaves, ends, strict=True)]
    return jax.tree.unflatten(structure, blocks)


def _forward(
    jvp: Callable[..., Any], slope_at: Callable[[PyTree], PyTree], x: PyTree, tangent: PyTree
) -> tuple[PyTree, PyTree]:
    """The gradient and its derivative along `tangent`, or an error that names the option."""
    try:
        return jvp(slope_at, (x,), (tangent,))
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "`fn` holds a function with a backward rule only (`jax.custom_vjp`), whose gradient "
            "`jax.jvp` cannot differentiate; pass `jvp=attrax.reverse_jvp`."
        ) from error


def _block(rows: PyTree, start: int, leaf: Array) -> PyTree:
    """The rows of the features of one leaf, with its axes in front."""

    def reshape(rows: Array) -> Array:
        return rows[start : start + leaf.size].reshape(*leaf.shape, *rows.shape[1:])

    return jax.tree.map(reshape, rows)


def _logarithmic(rule: Any) -> Any:
    """`rule`, unless its mean tells that it is one for an ordinary integral.

    Against `-log t` the mean of t is 1/4, in an ordinary integral 1/2. Both kinds have weights that
    sum to 1, and the wrong kind would give numbers that look right. Traced tables are not seen.
    """
    traced = isinstance(rule, Rule) and any(isinstance(t, Tracer) for t in jax.tree.leaves(rule))
    if isinstance(rule, Rule) and not traced:
        mean = float(np.asarray(rule.weights) @ np.asarray(rule.nodes))
        if abs(mean - 1 / 4) > 1 / 16:
            raise ValueError(
                "`rule` must be one for integrals against -log(t), where the mean of t is 1/4; got "
                f"the mean {mean:.3g}. Take `attrax.quadrature.gauss_logarithmic({rule.n})`."
            )
    return rule
