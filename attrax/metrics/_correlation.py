"""Correlations: of an attribution with what removing features does, and of two attributions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._loops import mapped
from .._core._safe import quotient, root, unless_nan
from .._core._types import Array, Estimate, PyTree, ScalarFn, wide_dtype
from ._features import chosen, operands, ravel


def mufidelity(
    fn: ScalarFn,
    attribution: PyTree,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    key: Array,
    subset_size: int,
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""Does a random subset of the features matter as much as the attribution says?

    $$corr_S \left( \sum_{i \in S} attribution_i, \; fn(x) - fn(x
    \text{ with } S \text{ from the baseline}) \right)$$

    The Pearson correlation over subsets S of one size, drawn uniformly. 1 for every attribution
    that is complete on a function without interactions. It ignores the scale of the attribution,
    and nearly ignores its sum. Where either side does not vary it is NaN.

    Args:
        fn: `x -> scalar`, of one example.
        attribution: one number for each feature, in units of `fn`. Like `x`, or with its leading
            axes only: `(H, W)` for an image `(H, W, C)` removes whole pixels.
        x: any pytree of arrays; integers, such as token ids, are welcome.
        baseline: like `x`; None is zeros.
        key: each subset gets a key of its own.
        subset_size: features in a subset, fewer than there are.
        num_samples: how many subsets, at least 3; some hundreds are usual.
        batch_size: subsets evaluated at once.

    Returns:
        An `Estimate` of two scalars in float32 or wider, between -1 and 1. The standard error is
        that of the delta method, without an assumption on the distribution.

    Raises:
        TypeError: when `attribution` is not floating, or `subset_size` is not an int.
        ValueError: when `fn` does not return a scalar, shapes do not fit, or the subsets are too
            large.

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0])
        >>> key = jax.random.key(0)
        >>> found = mufidelity(jnp.sum, x, x, key=key, subset_size=2, num_samples=20)
        >>> found.value.round(4).item()
        1.0

    References:
        Bhatt, Weller and Moura (2020), arXiv:2005.00631, the definition of faithfulness.
    """
    each = sensitivity_n(
        fn,
        attribution,
        x,
        baseline,
        key=key,
        sizes=(subset_size,),
        num_samples=num_samples,
        batch_size=batch_size,
    )
    return Estimate(each.value[0], each.standard_error[0])


def sensitivity_n(
    fn: ScalarFn,
    attribution: PyTree,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    key: Array,
    sizes: Sequence[int],
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""Up to how many features at once does the attribution foretell what removing them does?

    $$out_j = corr_S \left( \sum_{i \in S} attribution_i, \;
    fn(x) - fn(x \text{ with } S \text{ from the baseline}) \right)$$

    over subsets S of `sizes[j]` features

    `mufidelity` for one size after the other, with fresh subsets for each. A method is said to
    satisfy sensitivity-n where the two sides are equal; a correlation of 1 also allows a factor and
    a constant. Occlusion satisfies it for n = 1, complete methods for n = N.

    Args:
        fn: `x -> scalar`, of one example.
        attribution: one number for each feature, in units of `fn`; like `x`, or with its leading
            axes only.
        x: any pytree of arrays.
        baseline: like `x`; None is zeros.
        key: each subset gets a key of its own.
        sizes: features in a subset, each at least 1 and fewer than there are.
        num_samples: how many subsets of each size, at least 3; the authors take 100.
        batch_size: subsets evaluated at once.

    Returns:
        An `Estimate` of two arrays `(len(sizes),)` in float32 or wider, between -1 and 1.

    Raises:
        TypeError: when `attribution` is not floating, or a size is not an int.
        ValueError: when `fn` does not return a scalar, shapes do not fit, or there are no sizes or
            too large ones.

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0])
        >>> key = jax.random.key(0)
        >>> found = sensitivity_n(jnp.sum, x, x, key=key, sizes=(1, 2), num_samples=20)
        >>> found.value.round(4).tolist()
        [1.0, 1.0]

    References:
        Ancona et al. (2018), arXiv:1711.06104, sensitivity-n, measured by its correlation; the
        baseline there is zero.
    """
    attribution, x, baseline = operands(attribution, x, baseline)
    scalar, shares = _checks.scalar_valued(fn), ravel(attribution)
    sizes = [_checks.count(size, "subset_size", most=len(shares) - 1) for size in sizes]
    if not sizes:
        raise ValueError("`sizes` must hold at least one size.")
    n = _checks.count(num_samples, "num_samples", least=3)
    key = _checks.random_key(key, "sensitivity_n")
    score = scalar(x)
    dtype = wide_dtype(score.dtype, shares.dtype)

    def pair(where: tuple[Array, Array]) -> tuple[Array, Array]:
        key, size = where
        # The order of random bits is a random permutation: one sort, where shuffling takes two.
        removed = jnp.argsort(jax.random.bits(key, shares.shape)) < size
        value = scalar(chosen(~removed, attribution, x, baseline))
        said = jnp.sum(jnp.where(removed, shares, 0))
        return said.astype(dtype), score.astype(dtype) - value.astype(dtype)

    points = jax.random.split(key, len(sizes) * n), jnp.asarray(np.repeat(sizes, n))
    said, done = mapped(pair, points, batch_size=batch_size)
    found = jax.vmap(_correlation)(said.reshape(-1, n), done.reshape(-1, n))
    # A feature that is not finite counts, though it may be in no subset.
    return Estimate(*(unless_nan(part, 0 * shares) for part in found))


def rank_correlation(a: PyTree, b: PyTree) -> Array:
    r"""Spearman's correlation of two attributions: do they rank the features alike?

    $$corr(rank(a), rank(b))$$

    where equal entries share the mean of their ranks

    1 for the same order, -1 for the reverse, near 0 for independent ones. It is NaN where either is
    constant or holds NaN. Changing the sign of everything gives -1: compare absolute values as
    well, with `jnp.abs`.

    Args:
        a: any pytree of floating arrays.
        b: the same structure and shapes.

    Returns:
        A scalar between -1 and 1, in float32 or wider.

    Raises:
        TypeError: when `a` is not floating.
        ValueError: when `b` does not match the shapes of `a`.

    Example:
        >>> rank_correlation(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 9.0, 5.0])).round(4).item()
        0.5

    References:
        Adebayo et al. (2018), arXiv:1810.03292, for comparing explanations.
    """
    a = _checks.floating(a, "a")
    _checks.same_structure(b, a, "b", "a")
    b = _checks.floating(b, "b")
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if left.shape != right.shape:
            raise ValueError(
                f"`b` must have the shapes of `a`; got {right.shape} against {left.shape}."
            )
    a, b = ravel(a), ravel(b)
    return unless_nan(_correlation(_mean_ranks(a), _mean_ranks(b)).value, a, b)


@jax.jit
def _mean_ranks(values: Array) -> Array:
    """The ranks of a vector from 0 up; equal entries share the mean of theirs."""
    order, n = jnp.argsort(values), len(values)
    ordered, place = values[order], jnp.arange(n, dtype=order.dtype)
    jump = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1], jnp.ones(1, bool)])
    first = jax.lax.cummax(jnp.where(jump[:-1], place, 0))
    last = jax.lax.cummin(jnp.where(jump[1:], place, n - 1), reverse=True)
    return jnp.zeros_like(values).at[order].set((first + last).astype(values.dtype) / 2)


@jax.jit
def _correlation(a: Array, b: Array) -> Estimate:
    """Pearson's correlation of two vectors, and its standard error by the delta method.

    The influence of one pair of standardised values (u, v) on the correlation r is
    `u v - r (u^2 + v^2) / 2`; the error is that of the mean of the influences.
    """
    n = len(a)
    u, v = _standardised(a), _standardised(b)
    r = jnp.mean(u * v)
    influence = u * v - r * (u * u + v * v) / 2
    return Estimate(jnp.clip(r, -1, 1), root(jnp.sum(influence**2) / n / (n - 1)))


def _standardised(values: Array) -> Array:
    """Mean 0 and mean square 1; NaN where all values are equal."""
    # Differences from the first one, so that equal values give exactly 0, and a scale of 1, so that
    # squares neither overflow nor vanish.
    shifted = values - values[:1]
    shifted = quotient(shifted, jnp.max(jnp.abs(shifted), keepdims=True), 0)
    centred = shifted - jnp.mean(shifted, keepdims=True)
    return quotient(centred, root(jnp.mean(centred**2, keepdims=True)), jnp.nan)
