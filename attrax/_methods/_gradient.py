"""Methods of one backward pass."""

import jax

from .._core import _checks
from .._core._types import PyTree, ScalarFn, cast_like, widen


def gradient(fn: ScalarFn, x: PyTree) -> PyTree:
    r"""The gradient of `fn` at `x`; its absolute value is a saliency map.

    $$\nabla fn(x)$$

    Exact. It says what an infinitely small change would do: where `fn` is saturated it is near
    zero, however much the input matters. Completeness does not hold, and its sum means nothing. A
    ReLU exactly at 0 counts as off.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn` per unit of `x`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient(lambda x: x[0] * x[1], jnp.array([2.0, 3.0])).tolist()
        [3.0, 2.0]

    References:
        Simonyan et al. (2014), arXiv:1312.6034, section 3; they take the largest absolute value
        over colour channels, which is left to the caller.
    """
    return jax.grad(_checks.scalar_valued(fn))(_checks.floating(x))


def gradient_times_input(fn: ScalarFn, x: PyTree, baseline: PyTree | None = None) -> PyTree:
    r"""The gradient times the distance from the baseline: a first-order share of the score.

    $$(x - b) \odot \nabla fn(x)$$

    Complete, and equal to integrated gradients from zero, for functions with
    `fn(c x) = c fn(x)` for c > 0, such as ReLU networks without biases; in general not complete.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar, or `baseline` does not match the shapes of
            `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient_times_input(lambda x: x[0] * x[1], jnp.array([2.0, 3.0])).tolist()
        [6.0, 6.0]

    References:
        Shrikumar et al. (2016), arXiv:1605.01713, with a baseline added.
    """
    x = _checks.floating(x)
    return scaled(gradient(fn, x), x, _checks.baseline_like(baseline, x))


def scaled(slope: PyTree, x: PyTree, baseline: PyTree) -> PyTree:
    """`(x - baseline) * slope`, computed in float32 or wider, with the dtypes of `x`."""

    def product(g: jax.Array, x: jax.Array, b: jax.Array) -> jax.Array:
        return (x - b) * g

    return cast_like(jax.tree.map(product, widen(slope), widen(x), widen(baseline)), x)
