"""Explanations averaged over noise, and how sure the average is."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._safe import root
from .._core._types import Array, Estimate, PyTree, cast_like, widen
from ..distributions import gaussian

Explain: TypeAlias = Callable[[PyTree], PyTree]
"""`x -> attribution`: any method with its function filled in."""


def smoothgrad(
    explain: Explain,
    x: PyTree,
    *,
    key: Array,
    sigma: float | Array,
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""An explanation averaged over normal noise around `x`.

    $$\mathbb{E} [explain(x + \sigma e)] \text{ with } e \sim N(0, 1)$$

    as the mean of `num_samples` draws.

    Unbiased. Of the gradient, it is exactly the gradient of `fn` blurred by the noise: kinks and
    fluctuations narrower than `sigma` disappear. Completeness does not hold: the average of a
    complete method sums to `E[fn(x + sigma e)]` minus the score of the baseline. The standard error
    tells sampling noise from structure; it falls as one over the square root of `num_samples`.

    Args:
        explain: `x -> attribution` of one example, such as
            `lambda x: attrax.integrated_gradients(fn, x)`. What it returns is usually like `x`, but
            need not be: reduced to channels inside, the standard error is that of the channels.
        x: any pytree of floating arrays.
        key: a key of `jax.random`; each draw gets a key of its own.
        sigma: the standard deviation of the noise, in the units of `x`. It may be traced.
        num_samples: how often `explain` is evaluated; at least 2.
        batch_size: draws evaluated at once.

    Returns:
        `Estimate(value, standard_error)`, both like what `explain` returns, in its units.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `sigma` is not a scalar or is negative, `num_samples` is below 2, or there
            is no key.

    Example:
        >>> value, error = smoothgrad(
        ...     jnp.square, jnp.array([2.0]), key=jax.random.key(0), sigma=0.0, num_samples=4)
        >>> value.tolist(), error.tolist()
        ([4.0], [0.0])

    References:
        Smilkov et al. (2017), arXiv:1706.03825, section 3. Their noise level is a share of the
        range of the image, `sigma / (x.max() - x.min())`; 0.1 to 0.2 is what they recommend.
    """
    draw = _noisy(explain, x, sigma)
    return monte_carlo(draw, _keys(key, num_samples, "smoothgrad"), batch_size=batch_size)


def smoothgrad_squared(
    explain: Explain,
    x: PyTree,
    *,
    key: Array,
    sigma: float | Array,
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""The square of an explanation averaged over normal noise around `x`.

    $$\mathbb{E} [explain(x + \sigma e)^2] \text{ with } e \sim N(0, 1) \text{, entry by entry}$$

    Unbiased. Signs are lost before they can cancel; in expectation it is the square of `smoothgrad`
    plus `vargrad`. Completeness does not hold.

    Args:
        explain: `x -> attribution` of one example.
        x: any pytree of floating arrays.
        key: a key of `jax.random`; each draw gets a key of its own.
        sigma: the standard deviation of the noise, in the units of `x`. It may be traced.
        num_samples: how often `explain` is evaluated; at least 2.
        batch_size: draws evaluated at once.

    Returns:
        `Estimate(value, standard_error)`, both like what `explain` returns; its units squared.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `sigma` is not a scalar or is negative, `num_samples` is below 2, or there
            is no key.

    Example:
        >>> value, error = smoothgrad_squared(
        ...     jnp.square, jnp.array([2.0]), key=jax.random.key(0), sigma=0.0, num_samples=4)
        >>> value.tolist(), error.tolist()
        ([16.0], [0.0])

    References:
        Hooker et al. (2019), arXiv:1806.10758, section 3 (SmoothGrad-Squared).
    """

    def squared(x: PyTree) -> PyTree:
        attribution = explain(x)
        return cast_like(jax.tree.map(jnp.square, widen(attribution)), attribution)

    draw = _noisy(squared, x, sigma)
    return monte_carlo(draw, _keys(key, num_samples, "smoothgrad_squared"), batch_size=batch_size)


def vargrad(
    explain: Explain,
    x: PyTree,
    *,
    key: Array,
    sigma: float | Array,
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""The variance of an explanation under normal noise around `x`.

    $$Var [explain(x + \sigma e)] \text{ with } e \sim N(0, 1) \text{, entry by entry}$$

    Unbiased: the sum of squares is divided by `num_samples - 1`. It shows where an explanation is
    unsteady, not what the score is made of. The standard error is that of the variance, from the
    fourth moment, and is itself rough below about 30 samples.

    Args:
        explain: `x -> attribution` of one example.
        x: any pytree of floating arrays.
        key: a key of `jax.random`; each draw gets a key of its own.
        sigma: the standard deviation of the noise, in the units of `x`. It may be traced.
        num_samples: how often `explain` is evaluated; at least 2.
        batch_size: draws evaluated at once.

    Returns:
        `Estimate(value, standard_error)`, both like what `explain` returns; its units squared.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `sigma` is not a scalar or is negative, `num_samples` is below 2, or there
            is no key.

    Example:
        >>> value, error = vargrad(
        ...     jnp.square, jnp.array([2.0]), key=jax.random.key(0), sigma=0.0, num_samples=4)
        >>> value.tolist(), error.tolist()
        ([0.0], [0.0])

    References:
        Adebayo et al. (2018), arXiv:1810.03292, appendix (VarGrad). Captum divides by
        `num_samples`.
    """
    n = num_samples
    keys = _keys(key, n, "vargrad")
    first, moments = _moments(_noisy(explain, x, sigma), keys, 4, batch_size)

    def about_the_mean(m1: Array, m2: Array, m3: Array, m4: Array) -> tuple[Array, Array]:
        variance = jnp.maximum(m2 - m1 * m1, 0) * n / (n - 1)
        fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
        return variance, root((fourth - variance * variance * (n - 3) / (n - 1)) / n)

    return _estimate(jax.tree.map(about_the_mean, *moments), first)


def monte_carlo(draw: Explain, keys: Array, *, batch_size: int) -> Estimate:
    """The mean of `draw(key)` over independent keys, two at least, with its standard error."""
    n = keys.shape[0]
    first, moments = _moments(draw, keys, 2, batch_size)

    def mean(start: Array, m1: Array, m2: Array) -> tuple[Array, Array]:
        return start + m1, root((m2 - m1 * m1) / (n - 1))

    return _estimate(jax.tree.map(mean, widen(first), *moments), first)


def _noisy(explain: Explain, x: PyTree, sigma: float | Array) -> Explain:
    """One draw: `key -> explain(x + noise)`."""
    sampler = gaussian(sigma)(_checks.floating(x))
    return lambda key: explain(sampler(jnp.zeros(()), key))


def _keys(key: Array, num_samples: int, owner: str) -> Array:
    n = _checks.count(num_samples, "num_samples", least=2)
    return jax.random.split(_checks.random_key(key, owner), n)


def _moments(draw: Explain, keys: Array, order: int, batch_size: int) -> tuple[PyTree, list]:
    """The first draw, and the mean powers of all draws' distances from it.

    About zero, the moments of draws whose mean is large against their spread would cancel to
    nothing in float32. The first draw is as near to the mean as any other, and is evaluated anyway.
    """
    n = keys.shape[0]
    first = draw(keys[0])
    start = widen(first)

    def powers(key: Array) -> list:
        away = jax.tree.map(jnp.subtract, widen(draw(key)), start)
        return [jax.tree.map(lambda d, k=k: d**k, away) for k in range(1, order + 1)]

    weights = jnp.full(n - 1, 1 / n)
    return first, weighted_sum(powers, keys[1:], weights, batch_size=batch_size)


def _estimate(pairs: PyTree, like: PyTree) -> Estimate:
    """Pairs of value and standard error at the leaves of `like`, in its dtypes."""
    structure = jax.tree.structure(like)
    value, error = jax.tree.transpose(structure, jax.tree.structure((0, 0)), pairs)
    return Estimate(cast_like(value, like), cast_like(error, like))
