"""Gradients averaged over a distribution of interest."""

import jax

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._types import Array, Distribution, PyTree, ScalarFn, cast_like, tree_dtype, widen
from ..quadrature import Rule
from ..quadrature._tables import nodes_and_weights
from ._gradient import gradient


def influence(
    fn: ScalarFn,
    x: PyTree,
    distribution: Distribution,
    *,
    rule: Rule,
    key: Array | None = None,
    batch_size: int = 8,
) -> PyTree:
    r"""The gradient averaged over a distribution of interest, multiplied by nothing.

    $$\sum_k w_k \nabla fn(p(t_k, key_k)) \text{ with } p = distribution(x)$$

    With `attrax.distributions.linear(b)`, `x - b` times it is integrated gradients. Otherwise
    completeness does not hold.

    A fixed rule of nodes gives an array. So it does where the distribution is random: this is one
    draw of `rule.n` points, without an error estimate. Methods that take `num_samples` return an
    `attrax.Estimate` with a standard error: for normal noise, `attrax.smoothgrad` of
    `attrax.gradient` is such an average.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        distribution: `distribution(x) -> ((t, key) -> point)`, one of `attrax.distributions`
            (`point`, `linear()`, `gaussian(sigma)`, `stochastic_channels()`) or your own. It is
            called with arrays of float32 or wider.
        rule: the nodes t and their weights. Weights that are equal, as those of
            `attrax.quadrature.midpoint(n)`, waste none of the points of a random distribution.
        key: where the distribution is random; each node gets a key of its own.
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn` per unit of `x`.

    Raises:
        TypeError: when `x` is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, the points do not match the shapes of `x`,
            or the distribution needs a key and there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> from attrax.distributions import linear
        >>> from attrax.quadrature import midpoint
        >>> influence(lambda x: x @ x, jnp.array([1.0, 3.0]), linear(), rule=midpoint(4)).tolist()
        [1.0, 3.0]

    References:
        Leino et al. (2018), arXiv:1802.03788, definition 1; the expectation is a weighted sum.
    """
    x = _checks.floating(x)
    sampler = distribution(widen(x))
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))
    keys = None if key is None else jax.random.split(key, nodes.shape[0])

    def integrand(where: tuple[Array, Array | None]) -> PyTree:
        return gradient(fn, _checks.like(sampler(*where), x, "distribution"))

    total = weighted_sum(integrand, (nodes, keys), weights, batch_size=batch_size)
    return cast_like(total, x)
