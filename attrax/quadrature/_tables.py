"""The rules: tables of nodes and weights, built in float64 on the host."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from . import _kronrod, _legendre, _logarithmic
from ._rule import Rule


def _factory(build: Callable[[int], Rule]) -> Callable[[int], Rule]:
    """`build` with its argument checked and its tables kept."""
    cached = functools.lru_cache(maxsize=None)(build)

    @functools.wraps(build)
    def factory(n: int) -> Rule:
        return cached(_checks.count(n, "n"))

    return factory


@_factory
def riemann_left(n: int) -> Rule:
    r"""The left ends of n equal intervals, weight 1/n: what Lucid's path attribution uses.

    $$t_k = \frac{k}{n}, \; w_k = \frac{1}{n} \text{ for } k = 0, \dots, n - 1$$

    Example:
        >>> riemann_left(4).nodes.tolist()
        [0.0, 0.25, 0.5, 0.75]
    """
    return Rule(np.arange(n) / n, np.full(n, 1 / n))


@_factory
def riemann_right(n: int) -> Rule:
    r"""The right ends of n equal intervals, weight 1/n.

    $$t_k = \frac{k + 1}{n}, \; w_k = \frac{1}{n} \text{ for } k = 0, \dots, n - 1$$

    Example:
        >>> riemann_right(4).nodes.tolist()
        [0.25, 0.5, 0.75, 1.0]
    """
    return Rule(np.arange(1, n + 1) / n, np.full(n, 1 / n))


@_factory
def midpoint(n: int) -> Rule:
    r"""The middles of n equal intervals, weight 1/n: exact to degree 1.

    $$t_k = \frac{k + 1/2}{n}, \; w_k = \frac{1}{n} \text{ for } k = 0, \dots, n - 1$$

    Example:
        >>> midpoint(2).nodes.tolist()
        [0.25, 0.75]
    """
    return Rule((np.arange(n) + 0.5) / n, np.full(n, 1 / n))


@_factory
def trapezoid(n: int) -> Rule:
    r"""n >= 2 equally spaced nodes with both ends: exact to degree 1.

    $$t_k = \frac{k}{n - 1}, \; w_k = \frac{1}{n - 1} \text{, half of it at the ends}$$

    The weights are 1/(n - 1), halved at the ends, and sum to 1. `riemann_trapezoid` of Captum and
    Alibi weighs the same nodes by 1/n and sums to (n - 1)/n.

    Example:
        >>> trapezoid(3).weights.tolist()
        [0.25, 0.5, 0.25]
    """
    _checks.count(n, "n", least=2)
    weights = np.full(n, 1 / (n - 1))
    weights[[0, -1]] /= 2
    return Rule(np.linspace(0, 1, n), weights)


@_factory
def simpson(n: int) -> Rule:
    r"""n >= 3, odd, equally spaced nodes with both ends: exact to degree 3.

    $$t_k = \frac{k}{n - 1}, \; w_k = \frac{1, 4, 2, 4, \dots, 2, 4, 1}{3 (n - 1)}$$

    Example:
        >>> (6 * simpson(3).weights).round(12).tolist()
        [1.0, 4.0, 1.0]
    """
    _odd(n)
    weights = np.full(n, 2.0)
    weights[1::2] = 4
    weights[[0, -1]] = 1
    return Rule(np.linspace(0, 1, n), weights / (3 * (n - 1)))


@_factory
def gauss_legendre(n: int) -> Rule:
    r"""The n nodes that are exact to degree 2n - 1; none at an end.

    $$P_n(2 t_k - 1) = 0 \text{ with the Legendre polynomial } P_n$$

    Example:
        >>> rule = gauss_legendre(2)
        >>> round(float(rule.weights @ rule.nodes**3), 12)
        0.25
    """
    return Rule(*_legendre.nodes_and_weights(n))


@_factory
def clenshaw_curtis(n: int) -> Rule:
    r"""n >= 2 Chebyshev nodes with both ends: exact to degree n - 1.

    $$t_k = \frac{1}{2} \left( 1 - \cos \frac{\pi k}{n - 1} \right)
    \text{ for } k = 0, \dots, n - 1$$

    Every other node of `clenshaw_curtis(2 * n - 1)` is one of these: 5, 9, 17, 33, ... nest, and a
    finer rule can reuse every evaluation of a coarser one.

    Example:
        >>> rule = clenshaw_curtis(5)
        >>> round(float(rule.weights @ rule.nodes**4), 12)
        0.2

    References:
        Clenshaw and Curtis (1960), doi:10.1007/BF01386223.
    """
    _checks.count(n, "n", least=2)
    # sin^2 instead of (1 - cos)/2: no cancellation near 0, and nested nodes agree to the last bit.
    nodes = np.sin(np.pi * np.arange(n) / (2 * (n - 1))) ** 2
    return Rule(nodes, _clenshaw_curtis_weights(n))


def _clenshaw_curtis_weights(n: int) -> np.ndarray:
    """The integrals over [0, 1] of the n cosine interpolation functions."""
    # The integral of the k-th Chebyshev polynomial is 1 / (1 - k^2) for even k and 0 for odd ones.
    even = np.arange(0, n, 2)
    integrals = np.zeros(n)
    integrals[::2] = 1 / (1.0 - even**2)
    weights = np.fft.irfft(integrals, 2 * (n - 1))[:n]
    weights[1:-1] *= 2
    return weights / weights.sum()


@_factory
def gauss_kronrod(n: int) -> Rule:
    r"""n = 2m + 1 nodes: the m of `gauss_legendre(m)`, and m + 1 between and around them.

    $$P_m(2 t_k - 1) E_{m+1}(2 t_k - 1) = 0 \text{ with the Legendre polynomial } P
    \text{ and the Stieltjes polynomial } E$$

    Exact to degree 3m + 1. `gauss_kronrod(15)` is the G7K15 pair and `gauss_kronrod(21)` G10K21.

    Example:
        >>> rule = gauss_kronrod(3)
        >>> (18 * rule.weights).round(12).tolist()
        [5.0, 8.0, 5.0]

    References:
        Laurie (1997), doi:10.1090/S0025-5718-97-00861-2, specialised to the Legendre weight.
    """
    _odd(n)
    nodes, weights = _kronrod.nodes_and_weights(n // 2)
    nodes[1::2] = gauss_legendre(n // 2).nodes
    return Rule(nodes, weights)


@_factory
def gauss_logarithmic(n: int) -> Rule:
    r"""The n nodes for an integral against `-log t`, exact to degree 2n - 1; none at an end.

    $$\int_0^1 -\log(t) f(t) \, dt = \int_0^1 \int_0^1 f(r s) \, dr \, ds
    \approx \sum_k w_k f(t_k)$$

    The product of two times that are uniform on [0, 1] has the density `-log t`: n nodes do what
    a double integral would do with n^2. It is no rule for an ordinary integral over the path.

    Example:
        >>> rule = gauss_logarithmic(2)
        >>> round(float(rule.weights @ rule.nodes**3), 12)  # 1/4 of 1/4
        0.0625

    References:
        Gautschi (1982), doi:10.1137/0903018, the modified Chebyshev algorithm, from the moments of
        Legendre polynomials.
    """
    return Rule(*_logarithmic.nodes_and_weights(n))


@_factory
def endpoint_mean(n: int) -> Rule:
    r"""n >= 2 equally spaced nodes with both ends, weight 1/n: the mean that some peers take.

    $$t_k = \frac{k}{n - 1}, \; w_k = \frac{1}{n}$$

    For comparison with them only. The ends weigh twice too much, and the error falls as 1/n.

    Example:
        >>> endpoint_mean(2).weights.tolist()
        [0.5, 0.5]
    """
    _checks.count(n, "n", least=2)
    return Rule(np.linspace(0, 1, n), np.full(n, 1 / n))


def _odd(n: int) -> None:
    if n < 3 or n % 2 == 0:
        raise ValueError(f"`n` must be odd and at least 3; got {n}.")


def nodes_and_weights(rule: Any, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """The tables of `rule` as arrays of `dtype`."""
    rule = _checks.instance(rule, Rule, "rule", "such as `attrax.quadrature.gauss_legendre(32)`")
    return jnp.asarray(rule.nodes, dtype), jnp.asarray(rule.weights, dtype)
