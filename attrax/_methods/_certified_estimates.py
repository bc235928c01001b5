"""What the values of an integrand at its nodes say about the error of its integral."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core._safe import quotient
from .._core._types import Array
from ..quadrature import clenshaw_curtis

SPECTRAL_SAFETY = 2.0
JUMP_SAFETY = 1.6
"""Chosen on small networks, and tried on others by `benchmarks/certified.py`."""

HIGHEST = jax.lax.Precision.HIGHEST


class Assessed(NamedTuple):
    """An integral `(D,)`, and two models of its error, in its units.

    `spectral` is the error if the integrand is smooth, `jumps` the error if it jumps. `size` is the
    integral of the integrand's own size, which says how much rounding hides. Norms are sums of
    magnitudes over all entries.
    """

    value: Array
    spectral: Array
    jumps: Array
    size: Array


def assessed(rows: Array) -> Assessed:
    """The Clenshaw-Curtis rule on values `(n, D)` at its nodes, with both models of its error."""
    n = rows.shape[0]
    rule = clenshaw_curtis(n)
    table = jnp.asarray(np.concatenate([rule.weights[None], _coefficients(n)]), rows.dtype)
    sums = jnp.matmul(table, rows, precision=HIGHEST)
    moves = jump_moves(jnp.asarray(rule.nodes, rows.dtype), rows)
    return Assessed(
        value=sums[0],
        spectral=_spectral_error(magnitude(sums[1:]), n),
        jumps=jump_error(jnp.sum(moves**2, 0)),
        size=table[0] @ magnitude(rows),
    )


def magnitude(values: Array) -> Array:
    """The sum of magnitudes over the last axis."""
    return jnp.sum(jnp.abs(values), -1)


def jump_moves(times: Array, rows: Array) -> Array:
    """`h_j (f_j - f_(j-1))` of each interval between nodes in order: `(n, D)` to `(n - 1, D)`."""
    return jnp.diff(times)[:, None] * jnp.diff(rows, axis=0)


def jump_error(squares: Array) -> Array:
    """How far the integral is off where the integrand jumps between its nodes.

    `1.6 sqrt(2 / pi) sum_i sqrt(sum_j (h_j (f_ji - f_(j-1)i))^2 / 12)`

    A jump at an unknown place in an interval of length h is missed by a uniform share of it:
    the standard deviation is that of a uniform variable, h/sqrt(12), times the jump. Intervals are
    independent, and the mean magnitude of a normal variable is sqrt(2/pi) standard deviations.

    Args:
        squares: the sums of squares over j, `(D,)`.
    """
    return JUMP_SAFETY * math.sqrt(2 / math.pi / 12) * jnp.sum(jnp.sqrt(squares))


def combined(fine: Assessed, coarse: Assessed) -> Array:
    """The error of the finer of two nested rules, relative to the size of its value.

    `J max(min(1, S / J)^(1 - sqrt(s)), s^(3/2)) / ||A||_1` with `s = min(1, ||A - A'||_1 / J')`

    S and J are the two models, and primes belong to the coarser rule. s says how much of the error
    that jumps would have caused there was really found. Near 1 there are jumps, and the error is J.
    It is small where the coarser rule was already much better than the model of jumps foretold,
    and there the error is S. In between it is their weighted geometric mean. `s^(3/2)` of J is
    always kept, for integrands that are neither: continuous, with kinks.
    """
    share = jnp.minimum(1, quotient(apart(fine, coarse), coarse.jumps / JUMP_SAFETY, _UNFORETOLD))
    share = jnp.where(apart(fine, coarse) == 0, 0, share)
    smooth = jnp.minimum(1, quotient(fine.spectral, fine.jumps, fine.spectral))
    error = fine.jumps * jnp.maximum(smooth ** (1 - jnp.sqrt(share)), share ** (3 / 2))
    return relative(error, fine.value, fine.size)


_UNFORETOLD = 1.0
"""The share of an error where the model of jumps foretold none."""


def apart(fine: Assessed, coarse: Assessed) -> Array:
    """How far the values of two rules differ."""
    return magnitude(fine.value - coarse.value)


def relative(error: Array, value: Array, size: Array) -> Array:
    """An error over the size of the value, at least the rounding of its dtype; inf if not finite.

    What is rounded are the values of the integrand, whose mean size is `size`: where they cancel,
    more of the integral is lost. An integral of nothing but zeros is exact.
    """
    least = rounding(error.dtype)
    error = jnp.maximum(error, least * size)
    whole = magnitude(value)
    error = jnp.where(error == 0, 0, quotient(error, whole, jnp.inf))
    error = jnp.where(jnp.isfinite(error) & jnp.isfinite(whole), error, jnp.inf)
    return jnp.maximum(error, least)


def rounding(dtype: Any) -> float:
    """What the dtype of the sums can hold."""
    return 4 * float(jnp.finfo(dtype).eps)


@functools.cache
def _coefficients(n: int) -> np.ndarray:
    """Weights of six Chebyshev coefficients of the interpolant, `(6, n)`.

    Two each of the last degrees N = n - 1, of those four below, and of those at N/2.
    """
    last = n - 1
    degrees = np.array([k - i for k in (last, last - 4, last // 2) for i in (0, 1)])
    table = 2 / last * np.cos(np.pi * np.outer(degrees, np.arange(n)) / last)
    table[:, [0, -1]] /= 2
    return table


def _spectral_error(sizes: Array, n: int) -> Array:
    """The error of the rule, if the coefficients, of these `sizes`, keep falling as they do.

    `2 c sum_(k > N) |I(T_k) - Q(T_k)| r^(k - N)`, k even: what the rule Q makes of the Chebyshev
    polynomials that it does not hold, each of the size that the last coefficients c foretell. r is
    the slower of the decays over the last four and over the last N/2 degrees, and at most 1.
    """
    last, before, middle = jnp.max(sizes.reshape(3, 2), axis=1)
    near = _root(last, before, 2)  # over two degrees
    far = _root(last, middle, (n - 1) / 4)
    decay = jnp.minimum(1, jnp.maximum(near, far))
    factors = jnp.asarray(_aliases(n), sizes.dtype)
    powers = decay ** jnp.arange(1, factors.shape[0] + 1, dtype=sizes.dtype)
    return SPECTRAL_SAFETY * last * jnp.dot(powers, factors, precision=HIGHEST)


def _root(last: Array, before: Array, degree: float) -> Array:
    """`(last / before)^(1 / degree)`, 0 where nothing is left."""
    ratio = jnp.where(last > 0, quotient(last, before, 1), 0)
    return jnp.where(ratio > 0, jnp.where(ratio > 0, ratio, 1) ** (1 / degree), 0)


@functools.cache
def _aliases(n: int) -> np.ndarray:
    """`|I(T_k) - Q(T_k)|` of the even k from N + 2 to 4N."""
    last = n - 1
    k = np.arange(last + 2, 4 * last, 2)
    angles = np.pi * np.arange(n) / last
    return np.abs(1 / (1.0 - k**2) - np.cos(np.outer(k, angles)) @ clenshaw_curtis(n).weights)
