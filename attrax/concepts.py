"""Testing with concept activation vectors (TCAV): how a score changes along a concept's direction.

A concept is given by examples. A linear classifier, such as the logistic regression of
scikit-learn, learns to tell their activations at a layer from those of other examples. The normal
of its plane, on the side of the concept, is the direction of the concept. Every function here takes
that direction as an array.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._core import _checks
from ._core._names import shown
from ._core._safe import absolute, quotient
from ._core._types import Array, PyTree, ScalarFn, tree_dtype

__all__ = [
    "SignificanceTest",
    "concept_sensitivity",
    "tcav_magnitude",
    "tcav_score",
    "tcav_significance",
]
__dir__ = shown(__name__)


class SignificanceTest(NamedTuple):
    """Whether two samples have different means: Welch's two-sided t-test."""

    statistic: Array
    """The difference of the means over its standard error."""

    degrees_of_freedom: Array

    p_value: Array
    """How probable a statistic at least as far from 0 is where the means are equal."""


def concept_sensitivity(fn: ScalarFn, x: PyTree, direction: PyTree) -> Array:
    r"""How fast the score grows when the activation moves along a concept's direction.

    $$\frac{d}{ds} fn(x + s v) \text{ at } s = 0 \text{, which is } \nabla fn(x) \cdot v$$

    Exact, by one gradient. Local: it says nothing about a step of the size of the concept. The
    direction is used as it is: its length scales the result, and leaves only the sign alone. For
    many directions at one activation take `attrax.gradient(fn, x)` once, and its product with each
    of them.

    Args:
        fn: `x -> scalar`, normally the tail of a cut with a score:
            `z, tail = attrax.cut(model, image, at=...)`, `lambda z: score(tail(z))`.
        x: one activation, any pytree of floating arrays.
        direction: v, the same structure and shapes, pointing towards the concept. A direction of
            channels, `(C,)`, at all positions alike: `jnp.broadcast_to(direction, x.shape)`; then
            it is also `attrax.scores.direction(direction)(attrax.gradient(fn, x))`.

    Returns:
        A scalar in float32 or wider; units of `fn` per length of `direction`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar, or `direction` does not match the shapes of
            `x`.

    Example:
        >>> concept_sensitivity(lambda z: z[0] * z[1], jnp.array([2.0, 3.0]), jnp.array([1.0, 1.0]))
        Array(5., dtype=float32)

    References:
        Kim et al. (2018), arXiv:1711.11279, equation 1 (conceptual sensitivity), with the
        derivative itself.
    """
    x = _checks.floating(x)
    direction = _checks.fitting(direction, x, "direction")
    slope = jax.grad(_checks.scalar_valued(fn))(x)
    dtype = tree_dtype((slope, direction))
    products = jax.tree.map(
        lambda g, v: jnp.sum(g.astype(dtype) * v.astype(dtype)), slope, direction
    )
    return sum(jax.tree.leaves(products), jnp.zeros((), dtype))


def tcav_score(sensitivities: Array) -> Array:
    r"""For which fraction of the examples of a class a concept raises the score.

    $$mean_n [S_n > 0]$$

    where S are the sensitivities.

    1 and 0 both say that the concept matters, for the class or against it. Random directions give a
    half on average, but a single one can give anything, since the gradients of one class are alike.
    So one score is no evidence; `tcav_significance` compares several. The size of a sensitivity
    does not count, and the derivative is zero.

    Args:
        sensitivities: `(N,)`, one for each example of the class.

    Returns:
        A scalar in float32 or wider, from 0 to 1.

    Raises:
        TypeError: when `sensitivities` are not floating.
        ValueError: when they are not one-dimensional, or none.

    Example:
        >>> tcav_score(jnp.array([2.0, 1.0, 5.0, -4.0])).item()
        0.75

    References:
        Kim et al. (2018), arXiv:1711.11279, equation 2.
    """
    values = _sample(sensitivities, "sensitivities")
    # NaN stays NaN: it is not an example that speaks against the class.
    counts = jnp.where(jnp.isnan(values), values, (values > 0).astype(values.dtype))
    return jnp.mean(jax.lax.stop_gradient(counts))


def tcav_magnitude(sensitivities: Array) -> Array:
    r"""Which share of all sensitivity is in favour of the class.

    $$\frac{\sum_n \max(S_n, 0)}{\sum_n |S_n|}$$

    where S are the sensitivities.

    The TCAV score with each example weighed by the size of its sensitivity. Where all are zero it
    is 0, with derivative 0.

    Args:
        sensitivities: `(N,)`, one for each example of the class.

    Returns:
        A scalar in float32 or wider, from 0 to 1.

    Raises:
        TypeError: when `sensitivities` are not floating.
        ValueError: when they are not one-dimensional, or none.

    Example:
        >>> tcav_magnitude(jnp.array([2.0, 1.0, 5.0, -8.0])).item()
        0.5

    References:
        The magnitude score as the documentation of Captum 0.9 defines it; what its code returns is
        the mean of the sensitivities.
    """
    values = _sample(sensitivities, "sensitivities")
    return quotient(jnp.sum(jax.nn.relu(values)), jnp.sum(absolute(values)), 0)


def tcav_significance(scores: Array, random_scores: Array) -> SignificanceTest:
    r"""Whether the scores of a concept differ from those of random concepts: Welch's t-test.

    $$t = \frac{mean(a) - mean(b)}{\sqrt{var(a) / n + var(b) / m}} \text{ and } p = P(|T| \ge |t|)$$

    where T has Student's distribution of Welch's degrees of freedom

    Each score of the concept belongs to one fit, against another random set of examples; each
    random score belongs to a fit of one random set against another. The test is two-sided, since a
    concept may speak against a class. It is not paired, since fits share at most their negative
    set. It does not assume equal variances: a real concept gives nearly the same score at every
    fit, while random directions scatter, and a test that pools the two variances would be
    overconfident where there are fewer random fits.

    The test assumes that fits are independent. Fits that share the examples of the concept are not:
    they agree about accidents of these examples, and a meaningless concept is found significant far
    more often than the p-value says. Give each fit its own examples where there are enough. The
    examples of the class are taken as given. With enough fits any difference becomes significant,
    and with m tests at once each p-value must be multiplied by m (Bonferroni). A small p-value says
    that the examples have a direction that is not random, not that the network uses what they were
    chosen for.

    Where neither sample varies there is nothing to estimate an error from: p is 1 for equal means
    and 0 for different ones. The statistic can be differentiated; the p-value is a constant to
    derivatives.

    Args:
        scores: `(n,)`, of the concept: `tcav_score`, `tcav_magnitude`, or any other; n >= 2.
        random_scores: `(m,)`, of random concepts; m >= 2.

    Returns:
        `SignificanceTest(statistic, degrees_of_freedom, p_value)`, scalars in float32 or wider. The
        statistic is positive where the concept's scores are larger.

    Raises:
        TypeError: when a sample is not floating.
        ValueError: when a sample is not one-dimensional, or has less than two entries.

    Example:
        >>> scores, random_scores = jnp.array([0.9, 1.0, 0.8]), jnp.array([0.4, 0.6, 0.5, 0.5])
        >>> test = tcav_significance(scores, random_scores)
        >>> round(test.statistic.item(), 3), round(test.p_value.item(), 4)
        (5.657, 0.0054)

    References:
        Kim et al. (2018), arXiv:1711.11279, section 3.5, test against the fixed score 0.5; their
        code against random concepts with pooled variances. Welch (1947), doi:10.2307/2332510.
    """
    first = _sample(scores, "scores", least=2)
    second = _sample(random_scores, "random_scores", least=2)
    dtype = tree_dtype((first, second))
    first, second = first.astype(dtype), second.astype(dtype)
    (mean, share), (other_mean, other_share) = _moments(first), _moments(second)
    difference, shares = mean - other_mean, jnp.stack([share, other_share])
    freedom = jnp.asarray([first.size - 1, second.size - 1], dtype)
    total = jnp.sum(shares)
    # Where nothing varies: the degrees of freedom of two equal variances, so that nothing is 0 / 0.
    still = total == 0
    shares = jnp.where(still, 0.5, shares / jnp.where(still, 1, total))
    degrees = 1 / jnp.sum(shares**2 / freedom)
    certain = jnp.where(difference == 0, 0, jnp.copysign(jnp.inf, difference))
    statistic = jnp.where(still, certain, difference / jnp.sqrt(jnp.where(still, 1, total)))
    # The incomplete beta function has no derivative with respect to the degrees of freedom.
    p_value = _two_sided(*jax.lax.stop_gradient((statistic, degrees)))
    return SignificanceTest(statistic, degrees, p_value)


def _two_sided(statistic: Array, degrees: Array) -> Array:
    """The probability of a statistic at least as large, of Student's distribution."""
    square, half = statistic**2, degrees / 2
    # Where the statistic is small, 1 - t^2 / (...) has no digits left for it, and t^2 / (...) has.
    small = square < degrees
    share = jnp.where(small, square, 0) / (degrees + jnp.where(small, square, 0))
    body = jax.scipy.special.betainc(0.5, half, share)
    tail = jax.scipy.special.betainc(half, 0.5, degrees / (degrees + square))
    return jnp.where(small, 1 - body, tail)


def _moments(sample: Array) -> tuple[Array, Array]:
    """The mean and its squared standard error, about the first entry: exact for equal entries."""
    away = sample - sample[0]
    return sample[0] + jnp.mean(away), jnp.var(away, ddof=1) / sample.size


def _sample(values: Array, name: str, least: int = 1) -> Array:
    """`values` as one sample in float32 or wider."""
    values = _checks.wide(values, name)
    if values.ndim != 1 or values.size < least:
        raise ValueError(
            f"`{name}` must be one-dimensional with at least {least} entries; got shape "
            f"{values.shape}. Map over several samples with `jax.vmap`."
        )
    return values
