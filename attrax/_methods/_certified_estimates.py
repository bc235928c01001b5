"""What is known of the error of an integral from the values at its nodes."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import Array, PyTree
from ..quadrature import clenshaw_curtis

SPECTRAL_SAFETY = 2.0
JUMP_SAFETY = 1.6
"""Chosen on small networks, and held on others by `benchmarks/certified.py`."""


class Assessed(NamedTuple):
    """An integral of each example, and the two models of its error, in its units, `(N,)`.

    `spectral` is the error if the integrand is smooth, `jumps` that if it jumps. `size` is the
    integral of the integrand's own size, below which rounding hides everything. Norms are sums of
    magnitudes over all entries.
    """

    value: PyTree
    spectral: Array
    jumps: Array
    size: Array


def assessed(rows: PyTree) -> Assessed:
    """The Clenshaw-Curtis rule on values at its nodes, with both models of its error.

    Args:
        rows: each leaf `(N, n, ...)`: values of N integrands at the n nodes, in order.
    """
    n = jax.tree.leaves(rows)[0].shape[1]
    rule = clenshaw_curtis(n)
    sums = weighted(rows, np.concatenate([rule.weights[None], _coefficients(n)]))
    sizes = magnitude(jax.tree.map(lambda leaf: leaf[:, 1:], sums), 2)
    return Assessed(
        value=jax.tree.map(lambda leaf: leaf[:, 0], sums),
        spectral=_spectral_error(sizes, n),
        jumps=jump_error(jnp.asarray(rule.nodes, sizes.dtype)[None], rows),
        size=magnitude(rows, 2) @ jnp.asarray(rule.weights, sizes.dtype),
    )


def weighted(rows: PyTree, weights: np.ndarray) -> PyTree:
    """Weighted sums over the nodes: each leaf `(N, n, ...)` to `(N, sums, ...)`."""

    def contract(leaf: Array) -> Array:
        table = jnp.asarray(weights, leaf.dtype)
        total = jnp.tensordot(leaf, table, ((1,), (1,)), precision=jax.lax.Precision.HIGHEST)
        return jnp.moveaxis(total, -1, 1)

    return jax.tree.map(contract, rows)


def magnitude(tree: PyTree, axes: int = 1) -> Array:
    """The sum of magnitudes over all axes behind the first `axes`."""
    parts = [jnp.sum(jnp.abs(leaf), range(axes, leaf.ndim)) for leaf in jax.tree.leaves(tree)]
    return sum(parts[1:], parts[0])


def jump_error(times: Array, rows: PyTree) -> Array:
    """How far the integral is off where the integrand jumps between its nodes.

    `1.6 sqrt(2 / pi) sum_i sqrt(sum_j (h_j (f_ji - f_(j-1)i))^2 / 12)`

    A jump at an unknown place of an interval of length h is missed by a uniform share of it:
    the standard deviation is that of a uniform variable, h/sqrt(12), times the jump. Intervals are
    independent, and the mean magnitude of a normal variable is sqrt(2/pi) standard deviations.

    Args:
        times: the nodes, `(N, n)` or `(1, n)`, in order; infinite where there are no more.
        rows: each leaf `(N, n, ...)`.
    """
    moves = jump_moves(times, rows)
    parts = [
        jnp.sum(jnp.sqrt(jnp.sum(leaf**2, 1)), range(1, leaf.ndim - 1))
        for leaf in jax.tree.leaves(moves)
    ]
    return JUMP_SAFETY * math.sqrt(2 / math.pi / 12) * sum(parts[1:], parts[0])


def jump_moves(times: Array, rows: PyTree) -> PyTree:
    """`h_j (f_j - f_(j-1))` of each interval: each leaf `(N, n, ...)` to `(N, n - 1, ...)`."""
    lengths = jnp.where(jnp.isfinite(times[:, 1:]), times[:, 1:] - times[:, :-1], 0)

    def move(leaf: Array) -> Array:
        length = lengths.astype(leaf.dtype).reshape(*lengths.shape, *[1] * (leaf.ndim - 2))
        return length * (leaf[:, 1:] - leaf[:, :-1])

    return jax.tree.map(move, rows)


def combined(fine: Assessed, coarse: Assessed) -> Array:
    """The error of the finer of two nested rules, relative to the size of its value.

    `J max(min(1, S / J)^(1 - sqrt(s)), s^(3/2)) / ||A||_1` with `s = min(1, ||A - A'||_1 / J')`

    S and J are the two models, primes belong to the coarser rule. s says how much of the error that
    jumps would have made there was really made: near 1 where there are jumps, and the error is J;
    small where the coarser rule was already much better than the model of jumps would have it, and
    the error is S. Between the two it is their weighted geometric mean. `s^(3/2)` of J is left in
    any case, for integrands that are neither: continuous, with kinks.
    """
    apart = magnitude(jax.tree.map(jnp.subtract, fine.value, coarse.value))
    unguarded = coarse.jumps / JUMP_SAFETY
    share = jnp.minimum(1, jnp.where(apart == 0, 0, apart / _not_zero(unguarded, apart)))
    smooth = jnp.minimum(1, fine.spectral / _not_zero(fine.jumps, 1.0))
    error = fine.jumps * jnp.maximum(smooth ** (1 - jnp.sqrt(share)), share ** (3 / 2))
    return relative(error, fine.value, fine.size)


def relative(error: Array, value: PyTree, size: Array) -> Array:
    """An error over the size of the value, at least the rounding of its dtype; inf if not finite.

    What is rounded are the values of the integrand, of `size` in the mean: where they cancel, more
    of the integral is lost. Of nothing but zeros there is no relative error; they are exact.
    """
    least = rounding(error.dtype)
    error = jnp.maximum(error, least * size)
    whole = magnitude(value)
    error = jnp.where(error == 0, 0, error / jnp.where(error == 0, 1, whole))
    error = jnp.where(jnp.isfinite(error) & jnp.isfinite(whole), error, jnp.inf)
    return jnp.maximum(error, least)


def rounding(dtype: Any) -> float:
    """What the dtype of the sums can hold."""
    return 4 * float(jnp.finfo(dtype).eps)


def _not_zero(values: Array, otherwise: Array | float) -> Array:
    return jnp.where(values == 0, otherwise, values)


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
    """The error of the rule, if the coefficients go on to fall as they do.

    `2 c sum_(k > N) |I(T_k) - Q(T_k)| r^(k - N)`, k even: what the rule Q makes of the Chebyshev
    polynomials that it does not hold, each of the size that the last coefficients c foretell. r is
    the slower of the decays over the last four and over the last N/2 degrees, and at most 1.
    """
    largest = jnp.max(sizes.reshape(-1, 3, 2), axis=2)
    last, before, middle = largest[:, 0], largest[:, 1], largest[:, 2]
    near = _root(last, before, 2)  # over two degrees
    far = _root(last, middle, (n - 1) / 4)
    decay = jnp.minimum(1, jnp.maximum(near, far))
    factors = jnp.asarray(_aliases(n), sizes.dtype)
    powers = decay[:, None] ** jnp.arange(1, factors.shape[0] + 1)[None]
    foretold = jnp.matmul(powers, factors, precision=jax.lax.Precision.HIGHEST)
    return SPECTRAL_SAFETY * last * foretold


def _root(last: Array, before: Array, degree: float) -> Array:
    """`(last / before)^(1 / degree)`, 0 where nothing is left."""
    ratio = jnp.where(last > 0, last / _not_zero(before, last), 0)
    return jnp.where(ratio > 0, jnp.where(ratio > 0, ratio, 1) ** (1 / degree), 0)


@functools.cache
def _aliases(n: int) -> np.ndarray:
    """`|I(T_k) - Q(T_k)|` of the even k from N + 2 to 4N."""
    last = n - 1
    k = np.arange(last + 2, 4 * last, 2)
    angles = np.pi * np.arange(n) / last
    return np.abs(1 / (1.0 - k**2) - np.cos(np.outer(k, angles)) @ clenshaw_curtis(n).weights)
