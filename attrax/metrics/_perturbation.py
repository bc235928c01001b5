"""What small and large perturbations do to the score, and to the explanation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._loops import mapped
from .._core._safe import norm, quotient
from .._core._types import (
    Array,
    Distribution,
    Estimate,
    PyTree,
    ScalarFn,
    tree_dtype,
    wide_dtype,
    widen,
)
from ._samples import mean_of


def infidelity(
    fn: ScalarFn,
    attribution: PyTree,
    x: PyTree,
    distribution: Distribution,
    *,
    key: Array,
    num_samples: int,
    batch_size: int = 8,
) -> Estimate:
    r"""How badly the attribution, as a linear model, predicts what a perturbation does.

    $$\mathbb{E} [((x - p) \cdot attribution - (fn(x) - fn(p)))^2]
    \text{ with } p \sim distribution(x)$$

    Zero exactly where the attribution explains every perturbation that has been drawn; for a
    linear `fn` that is its gradient. It is a property of the distribution as much as of the
    attribution, and changes with the scale of both.

    The attribution has to be in units of `fn` per unit of `x`, as a gradient is. An attribution
    in units of `fn`, such as integrated gradients, is divided by `x - b` first, and then meant
    for perturbations towards the baseline b.

    Args:
        fn: `x -> scalar`, of one example.
        attribution: like `x`.
        x: any pytree of floating arrays.
        distribution: the perturbed examples, `distribution(x) -> ((t, key) -> p)`:
            `attrax.distributions.gaussian(sigma)`, `square_removal(size)`, or any other
            distribution of interest. t is uniform on [0, 1].
        key: each sample gets a key of its own.
        num_samples: how many perturbations, at least 2.
        batch_size: perturbations evaluated at once.

    Returns:
        An `Estimate` of two scalars in float32 or wider; units of `fn`, squared.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar, or `attribution` or the perturbed examples
            do not match the shapes of `x`.

    Example:
        >>> shifted = lambda x: lambda t, key: x - 0.5
        >>> infidelity(lambda x: x @ x, jnp.array([2.0, 4.0]), jnp.array([1.0, 2.0]), shifted,
        ...            key=jax.random.key(0), num_samples=2).value.item()  # (2 * 0.5^2)^2
        0.25

    References:
        Yeh et al. (2019), arXiv:1901.09392, definition 2.1, with `I = x - p`.
    """
    x = _checks.floating(x)
    scalar = _checks.scalar_valued(fn)
    attribution = widen(_checks.fitting(attribution, x, "attribution"))
    sampler, wide_x, score = distribution(widen(x)), widen(x), widen(scalar(x))

    def squared_error(where: tuple[Array, Array]) -> Array:
        point = _checks.like(sampler(*where), x, "distribution")
        step = jax.tree.map(jnp.subtract, wide_x, widen(point))
        drop = score - widen(scalar(point))
        predicted = _total(jax.tree.map(jnp.multiply, step, attribution))
        dtype = wide_dtype(predicted.dtype, drop.dtype)
        return (predicted.astype(dtype) - drop.astype(dtype)) ** 2

    draws = _draws(x, key, num_samples, "infidelity")
    return mean_of(mapped(squared_error, draws, batch_size=batch_size))


def max_sensitivity(
    explain: Callable[[PyTree], PyTree],
    x: PyTree,
    distribution: Distribution,
    *,
    key: Array,
    num_samples: int,
    batch_size: int = 8,
) -> Array:
    r"""How far the explanation moves when the example hardly does, relative to its size.

    $$\max_p \frac{\lVert explain(p) - explain(x) \rVert}{\lVert explain(x) \rVert}
    \text{ with } p \sim distribution(x)$$

    The norm is the root of the sum of squares of all entries. What comes back is the largest of
    finitely many samples: a lower bound of the supremum over the whole neighbourhood, which it
    approaches from below as the samples grow in number. It has no standard error: the largest
    sample is a biased estimate, and what no sample has met is not in it. Low is not good by itself:
    a constant explanation has 0. Where `explain(x)` is zero the result is infinite, unless no
    sample differs.

    Args:
        explain: `x -> attribution`, any method as a function of the example.
        x: any pytree of floating arrays.
        distribution: the neighbours, `distribution(x) -> ((t, key) -> p)`, such as
            `attrax.distributions.uniform_noise(radius)`. t is uniform on [0, 1].
        key: each sample gets a key of its own.
        num_samples: how many neighbours, at least 1.
        batch_size: neighbours explained at once.

    Returns:
        A scalar in float32 or wider, without units.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when the neighbours do not match the shapes of `x`.

    Example:
        >>> shifted = lambda x: lambda t, key: x + 0.5
        >>> max_sensitivity(lambda x: x * x, jnp.array([1.0]), shifted,
        ...                 key=jax.random.key(0), num_samples=1).item()  # 1.5^2 - 1
        1.25

    References:
        Yeh et al. (2019), arXiv:1901.09392, section 3 (max-sensitivity), divided by the norm of
        the explanation so that methods can be compared.
    """
    x = _checks.floating(x)
    sampler = distribution(widen(x))
    center = widen(_checks.floating(explain(x), "explain"))
    scale = norm(center)

    def change(where: tuple[Array, Array]) -> Array:
        there = widen(explain(_checks.like(sampler(*where), x, "distribution")))
        return norm(jax.tree.map(jnp.subtract, there, center))

    draws = _draws(x, key, num_samples, "max_sensitivity", least=1)
    changes = mapped(change, draws, batch_size=batch_size)
    # Where the explanation is zero: 0 and NaN stay, anything else is infinitely larger.
    return jnp.max(quotient(changes, scale[None], jnp.where(changes > 0, jnp.inf, changes)))


def _draws(
    x: PyTree, key: Array, num_samples: int, owner: str, least: int = 2
) -> tuple[Array, Array]:
    """For each sample a t, uniform on [0, 1], and a key."""
    n = _checks.count(num_samples, "num_samples", least=least)
    times, noise = jax.random.split(_checks.random_key(key, owner))
    return jax.random.uniform(times, (n,), tree_dtype(x)), jax.random.split(noise, n)


def _total(tree: PyTree) -> Array:
    dtype = tree_dtype(tree)
    parts = (jnp.sum(leaf.astype(dtype)) for leaf in jax.tree.leaves(tree))
    return sum(parts, jnp.zeros((), dtype))
