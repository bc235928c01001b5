"""How much of an attribution has to be read."""

import jax.numpy as jnp

from .._core import _checks
from .._core._safe import absolute, quotient
from .._core._types import Array, PyTree
from ._features import ravel


def gini(attribution: PyTree) -> Array:
    r"""The Gini index of the absolute values: 0 when all are equal, near 1 when one has everything.

    $$1 - 2 \sum_{k=1}^d \frac{v_k}{\lVert v \rVert_1} \frac{d - k + 1/2}{d}
    \text{ with } v = sort(|attribution|)$$

    It does not change with the scale of the attribution. The largest value is `1 - 1/d`. Zero
    attributions count as equal. At an entry of 0 the derivative is taken as 0.

    Args:
        attribution: any pytree of floating arrays, d entries in all.

    Returns:
        A scalar in float32 or wider, without units.

    Raises:
        TypeError: when `attribution` is not floating.

    Example:
        >>> gini(jnp.array([0.0, 0.0, 0.0, -2.0])).item()
        0.75

    References:
        Chalasani et al. (2020), arXiv:1810.06583, for attributions; Hurley and Rickard (2009),
        arXiv:0811.4706, for the formula.
    """
    values = jnp.sort(absolute(ravel(_checks.floating(attribution, "attribution"))))
    d = len(values)
    shares = (d - jnp.arange(d, dtype=values.dtype) - 0.5) / d
    return jnp.maximum(0, 1 - 2 * jnp.sum(_proportions(values) * shares))


def complexity(attribution: PyTree) -> Array:
    r"""The entropy of the absolute values: 0 when one has everything, log d when all are equal.

    $$-\sum_i p_i \log p_i \text{ with } p = \frac{|attribution|}{\sum_i |attribution_i|}$$

    It does not change with the scale of the attribution. `exp` of it is a number of features: k
    equal ones among zeros give k. Zero attributions count as equal. At an entry of 0 the derivative
    is taken as 0.

    Args:
        attribution: any pytree of floating arrays, d entries in all.

    Returns:
        A scalar in float32 or wider, in nats.

    Raises:
        TypeError: when `attribution` is not floating.

    Example:
        >>> jnp.exp(complexity(jnp.array([1.0, -1.0, 0.0, 0.0]))).item()
        2.0

    References:
        Bhatt, Weller and Moura (2020), arXiv:2005.00631, the definition of complexity.
    """
    shares = _proportions(absolute(ravel(_checks.floating(attribution, "attribution"))))
    # At a share of 0 the derivative is taken as 0; the true one is infinite.
    none = shares == 0
    return jnp.sum(jnp.where(none, 0, -shares * jnp.log(jnp.where(none, 1, shares))))


def _proportions(values: Array) -> Array:
    """Values that are not negative, over their sum; equal shares where all are 0."""
    largest = quotient(values, jnp.max(values, keepdims=True), 1)  # Their sum cannot overflow.
    return largest / jnp.sum(largest, keepdims=True)
