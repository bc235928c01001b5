"""Integrated gradients averaged over a set of baselines, by sampling."""

import jax

from .._core import _checks
from .._core._types import Array, Estimate, PyTree, ScalarFn, cast_like, tree_dtype
from ..distributions import gaussian
from ..paths import straight
from ._gradient import gradient, scaled
from ._noise import monte_carlo


def expected_gradients(
    fn: ScalarFn,
    x: PyTree,
    baselines: PyTree,
    *,
    key: Array,
    num_samples: int,
    sigma: float | Array = 0.0,
    batch_size: int = 8,
) -> Estimate:
    r"""Integrated gradients averaged over baselines, one node for each baseline drawn.

    $$\mathbb{E} [(x - b) \odot \nabla fn(b + t (x - b))]$$

    where b is drawn from `baselines` and t from [0, 1].

    Unbiased for the mean of `integrated_gradients(fn, x, b)` over all baselines, and so complete in
    expectation: the sum is `fn(x)` less the mean score of the baselines, up to the standard error.
    With few baselines, the mean of `integrated_gradients` over them (`jax.vmap`) is far more
    accurate for the same number of gradients: sampling pays when there are more baselines than
    gradients that one can afford.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baselines: like `x`, each array with a further leading axis of N baselines.
        key: a key of `jax.random`; each draw gets a key of its own.
        num_samples: how many gradients are taken; at least 2.
        sigma: the standard deviation of normal noise added to `x` anew in each draw, in the units
            of `x` (GradientSHAP). The sum is then `E[fn(x + sigma e)]` less the mean score of the
            baselines.
        batch_size: draws evaluated at once.

    Returns:
        `Estimate(value, standard_error)`, both with the structure, shapes and dtypes of `x`; units
        of `fn`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar, `baselines` does not match the shapes of `x`
            behind one leading axis, `sigma` is not a scalar or is negative, `num_samples` is below
            2, or there is no key.

    Example:
        >>> import jax.numpy as jnp
        >>> x, baselines = jnp.array([2.0, 3.0]), jnp.ones((1, 2))
        >>> value, error = expected_gradients(
        ...     jnp.sum, x, baselines, key=jax.random.key(0), num_samples=4)
        >>> value.tolist(), error.tolist()
        ([1.0, 2.0], [0.0, 0.0])

    References:
        Erion et al. (2021), arXiv:1906.10670, the definition of expected gradients; the noise is
        that of `GradientExplainer` of SHAP and of `GradientShap` of Captum.
    """
    x = _checks.floating(x)
    baselines, size = _rows(baselines, x)
    n = _checks.count(num_samples, "num_samples", least=2)
    keys = jax.random.split(_checks.random_key(key, "expected_gradients"), n)
    sampler, dtype = gaussian(sigma)(x), tree_dtype(x)

    def draw(key: Array) -> PyTree:
        for_row, for_node, for_noise = jax.random.split(key, 3)
        row = jax.random.randint(for_row, (), 0, size)
        t = jax.random.uniform(for_node, (), dtype)
        start = jax.tree.map(lambda leaf: leaf[row], baselines)
        end = sampler(t, for_noise)
        return scaled(gradient(fn, straight(end, start)(t)), end, start)

    return monte_carlo(draw, keys, batch_size=batch_size)


def _rows(baselines: PyTree, x: PyTree) -> tuple[PyTree, int]:
    """`baselines` with the dtypes of `x`, and how many there are."""
    _checks.same_structure(baselines, x, "baselines")
    baselines = _checks.floating(baselines, "baselines")
    size = _checks.leading_axis(baselines, "`baselines`")
    shapes = [leaf.shape for leaf in jax.tree.leaves(baselines)]
    wanted = [leaf.shape for leaf in jax.tree.leaves(x)]
    if [shape[1:] for shape in shapes] != wanted:
        raise ValueError(
            "`baselines` must have the shapes of `x` behind one leading axis, that of the "
            f"baselines; got {shapes} against {wanted}."
        )
    return cast_like(baselines, x), size
