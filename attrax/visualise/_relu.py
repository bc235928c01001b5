"""ReLUs that pass a gradient on when they are silent everywhere."""

import functools

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._types import Array


def redirected_relu(x: Array, *, active: bool | Array = True) -> Array:
    r"""A ReLU with a gradient even where everything is silent.

    $$\max(x, 0)$$

    An objective after a ReLU that is silent at every position has no gradient, so an optimiser has
    no direction and the image stays grey. Take the activation before the ReLU and put this in its
    place: `redirected_relu(attrax.capture(model, image, at="block3/expand_bn"))`. The value is that
    of a ReLU. So is the gradient, unless it is zero in all of `x`; then it is the incoming one,
    except where that would make a negative entry more negative. This assumes that the objective is
    to be made large, as in `render`; for a loss to be made small, change the sign afterwards.

    Or leave the ReLU out, and ask for the activation before it: that has a gradient everywhere.

    Args:
        x: the activation of one example before the ReLU. Examples can be told apart by `jax.vmap`.
        active: False gives the gradient of a ReLU. It may be traced, as in `step <= 16`.

    Returns:
        Like `x`.

    Raises:
        TypeError: when `x` is not floating.

    Example:
        >>> jax.grad(lambda x: redirected_relu(x).sum())(jnp.array([-1.0, -2.0])).tolist()
        [1.0, 1.0]
        >>> jax.grad(lambda x: redirected_relu(x).sum())(jnp.array([1.0, -2.0])).tolist()
        [1.0, 0.0]

    References:
        `redirected_relu_grad` of Lucid, which redirects in the steps up to 16 of an optimisation.
    """
    return _clipped(_checks.floating(x), jnp.asarray(active), float("inf"))


def redirected_relu6(x: Array, *, active: bool | Array = True) -> Array:
    r"""A ReLU6 with a gradient even where everything is silent or saturated.

    $$\min(\max(x, 0), 6)$$

    Like `redirected_relu`: where the gradient would be zero in all of `x`, the incoming gradient is
    kept, except where it would make a negative entry more negative, or one above 6 larger.

    Args:
        x: the activation of one example before the ReLU6.
        active: False gives the gradient of a ReLU6. It may be traced.

    Returns:
        Like `x`.

    Raises:
        TypeError: when `x` is not floating.

    Example:
        >>> jax.grad(lambda x: -redirected_relu6(x).sum())(jnp.array([-1.0, 7.0])).tolist()
        [0.0, -1.0]

    References:
        `redirected_relu6_grad` of Lucid.
    """
    return _clipped(_checks.floating(x), jnp.asarray(active), 6.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _clipped(x: Array, active: Array, top: float) -> Array:
    return jnp.clip(x, 0, top)


def _forward(x: Array, active: Array, top: float) -> tuple[Array, tuple[Array, Array]]:
    return _clipped(x, active, top), (x, active)


def _backward(top: float, kept: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    x, active = kept
    ordinary = jnp.where((x > 0) & (x < top), g, 0)
    is_outward = ((x < 0) & (g < 0)) | ((x > top) & (g > 0))
    redirected = jnp.where(is_outward, 0, g)
    return jnp.where(active & jnp.all(ordinary == 0), redirected, ordinary), None


_clipped.defvjp(_forward, _backward)
