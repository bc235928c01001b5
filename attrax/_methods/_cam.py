"""Class activation maps: which positions of a convolutional layer count towards the score.

Maps have the resolution of the layer, and are **signed**. Most of the papers end with a ReLU, which
shows only what speaks for the class: that is `jax.nn.relu(map)`. Without it nothing is lost: what
speaks against the class stays visible, and maps can be added, compared and summed. `upsample`
brings a map to the size of the input.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._loops import mapped
from .._core._safe import quotient
from .._core._types import Array, ScalarFn, wide_dtype, widen
from ._gradient import gradient, gradient_times_input


def cam(z: Array, weights: Array) -> Array:
    r"""The class activation map: activations weighed by the weights of a class.

    $$out_p = \sum_c weights_c z_{p,c}$$

    For networks that end in a mean over positions and one dense layer. There it is exact: the mean
    of the map, plus the bias of the class, is the logit.

    Args:
        z: the activation before the mean, positions and then channels: `(H, W, C)`.
        weights: `(C,)`, the column of the class in the kernel of the dense layer. For several
            classes use `jax.vmap` over the columns.

    Returns:
        The positions of `z`, `(H, W)`, signed, in its dtype; units of the logit.

    Raises:
        TypeError: when `z` or `weights` is not floating.
        ValueError: when `z` is not one array with positions and channels, or `weights` does not
            hold one number for each channel.

    Example:
        >>> z = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> cam(z, jnp.array([1.0, -1.0])).tolist()
        [[-1.0, -1.0]]

    References:
        Zhou et al. (2016), arXiv:1512.04150, equation 2.
    """
    z = _activation(z)
    weights = _checks.one_array(weights, "weights")
    if weights.shape != z.shape[-1:]:
        raise ValueError(
            f"`weights` must hold one number for each channel of `z`; got {weights.shape} against "
            f"{z.shape}. Choose the class first, as in `kernel[:, i]`."
        )
    return _weighed(z, weights)


def grad_cam(fn: ScalarFn, z: Array, *, positions: int | None = None) -> Array:
    r"""Grad-CAM: activations weighed by the mean gradient of their channel.

    $$out_p = \sum_c w_c z_{p,c} \text{ with } w_c = mean_q (\nabla fn(z))_{q,c}$$

    Where the network ends in a mean over positions and a dense layer it is `cam` divided by the
    number of positions. Elsewhere the mean forgets where the gradient is large: the map can show
    positions that do not matter, and its sum means nothing. `hires_cam` keeps both.

    Args:
        fn: `z -> scalar`, such as `lambda z: attrax.scores.logit(i)(tail(z))`. Scores before the
            softmax are meant.
        z: an activation of one example, positions and then channels: `(H, W, C)`, or `(T, C)`, or
            `(D, H, W, C)`. With `z, tail = attrax.cut(model, x, at=...)` it is the layer's.
        positions: how many axes of positions `z` has. It need only be said of a volume,
            `positions=3`: four axes are otherwise taken for a batch, and refused.

    Returns:
        The positions of `z`, `(H, W)`, in its dtype; units of `fn`. Signed: the paper's map is
        `jax.nn.relu` of it.

    Raises:
        TypeError: when `z` is not floating.
        ValueError: when `fn` does not return a scalar, or `z` is not one array with positions and
            channels, or looks like a batch.

    Example:
        >>> z = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> grad_cam(lambda z: z[0, 0, 0] - z[0, 1, 1], z).tolist()  # weights 1/2 and -1/2
        [[-0.5, -0.5]]

    References:
        Selvaraju et al. (2017), arXiv:1610.02391, equations 1 and 2 without the ReLU, as
        `LayerGradCam` of Captum.
    """
    z = _example(z, positions)
    return _weighed(z, jnp.mean(widen(gradient(fn, z)), axis=_positions(z)))


def grad_cam_plus_plus(fn: ScalarFn, z: Array, *, positions: int | None = None) -> Array:
    r"""Grad-CAM++: activations weighed by positive gradients, which saturate in their number.

    $$out_p = \sum_c w_c z_{p,c} \text{ with } g = \nabla fn(z)
    \text{ and } w_c = \sum_q \frac{relu(g_{q,c})}{2 + relu(g_{q,c}) \sum_r z_{r,c}}$$

    Exact for the score `exp(fn)`, up to the positive factor `exp(fn(z))`, where `fn` is piecewise
    linear in z: then the higher derivatives in the definition are powers of the gradient. It is
    made for activations after a ReLU. Where the sum of a channel is negative, the denominator can
    come close to 0, and the map then means nothing; at exactly 0 the position counts 0. The sum of
    the map means nothing.

    Args:
        fn: `z -> scalar`, the score before the exponential: a logit. Unlike the other maps it
            depends on the scale of `fn`.
        z: an activation of one example, positions and then channels: `(H, W, C)`.
        positions: how many axes of positions `z` has. It need only be said of a volume,
            `positions=3`: four axes are otherwise taken for a batch, and refused.

    Returns:
        The positions of `z`, `(H, W)`, in its dtype. Weights are not negative; the paper's map is
        `jax.nn.relu` of it, the same where `z` is not negative.

    Raises:
        TypeError: when `z` is not floating.
        ValueError: when `fn` does not return a scalar, or `z` is not one array with positions and
            channels, or looks like a batch.

    Example:
        >>> z = jnp.array([[[1.0], [5.0]]])
        >>> grad_cam_plus_plus(jnp.sum, z).tolist()  # a weight of 1/(2 + 6), twice
        [[0.25, 1.25]]

    References:
        Chattopadhyay et al. (2018), arXiv:1710.11063, equations 7 and 19. Where the gradient is
        not positive the summand is 0; elsewhere the fraction of equation 19 is reduced by the
        square of the gradient, which leaves no 0/0.
    """
    z = _example(z, positions)
    slope = jax.nn.relu(widen(gradient(fn, z)))
    under = 2 + slope * jnp.sum(widen(z), axis=_positions(z), keepdims=True)
    share = quotient(slope, under, 0)
    return _weighed(z, jnp.sum(share, axis=_positions(z)))


def hires_cam(fn: ScalarFn, z: Array) -> Array:
    r"""HiResCAM: gradient times activation, summed over channels.

    $$out_p = \sum_c z_{p,c} (\nabla fn(z))_{p,c}$$

    Each position has its own gradient. Complete where `fn` is linear in z up to a constant: the
    sum is `fn(z) - fn(0)` for networks that end in one dense layer behind `z`, with or without a
    mean. In general it is the first-order share of each position.

    Args:
        fn: `z -> scalar`, such as `lambda z: attrax.scores.logit(i)(tail(z))`.
        z: an activation of one example, positions and then channels: `(H, W, C)`.

    Returns:
        The positions of `z`, `(H, W)`, signed, in its dtype; units of `fn`.

    Raises:
        TypeError: when `z` is not floating.
        ValueError: when `fn` does not return a scalar, or `z` is not one array with positions and
            channels.

    Example:
        >>> z = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> hires_cam(lambda z: z[0, 0, 0] - z[0, 1, 1], z).tolist()
        [[1.0, -4.0]]

    References:
        Draelos and Carin (2020), arXiv:2011.08891, the definition of HiResCAM, which has no ReLU.
        It is `attrax.positions(attrax.gradient_times_input(fn, z))`.
    """
    z = _activation(z)
    # In the precision of sums: the products are not rounded to the dtype of z first.
    product = gradient_times_input(lambda wide: fn(wide.astype(z.dtype)), widen(z))
    return jnp.sum(product, axis=-1).astype(z.dtype)


def layer_cam(fn: ScalarFn, z: Array) -> Array:
    r"""LayerCAM: positive gradients times activation, summed over channels.

    $$out_p = \sum_c relu((\nabla fn(z))_{p,c}) z_{p,c}$$

    A channel that would lower the score counts 0, not as evidence against it: the method is made
    for early layers, whose gradients are noisy. Completeness does not hold.

    Args:
        fn: `z -> scalar`, such as `lambda z: attrax.scores.logit(i)(tail(z))`.
        z: an activation of one example, positions and then channels: `(H, W, C)`.

    Returns:
        The positions of `z`, `(H, W)`, in its dtype; units of `fn`. The paper's map is
        `jax.nn.relu` of it, the same where `z` is not negative.

    Raises:
        TypeError: when `z` is not floating.
        ValueError: when `fn` does not return a scalar, or `z` is not one array with positions and
            channels.

    Example:
        >>> z = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> layer_cam(lambda z: z[0, 0, 0] - z[0, 1, 1], z).tolist()
        [[1.0, 0.0]]

    References:
        Jiang et al. (2021), "LayerCAM: exploring hierarchical class activation maps for
        localization", IEEE Transactions on Image Processing 30, section III, without the last ReLU.
    """
    z = _activation(z)
    product = jax.nn.relu(widen(gradient(fn, z))) * widen(z)
    return jnp.sum(product, axis=-1).astype(z.dtype)


def score_cam(
    fn: ScalarFn,
    x: Array,
    z: Array,
    *,
    baseline: Array | None = None,
    positions: int | None = None,
    batch_size: int = 8,
) -> Array:
    r"""Score-CAM: activations weighed by the score of the input seen through each of them.

    $$out_p = \sum_c w_c z_{p,c} \text{ with } w = softmax_c fn(b + m_c (x - b))$$

    where the mask $m_c$ is channel c, upsampled to the input and stretched to [0, 1].

    It takes only forward passes, one for each channel: `fn` needs no gradient. The weights are
    positive and sum to 1, so the map says nothing about the size of the score. A channel that is
    the same at all positions masks nothing and is left out. Completeness does not hold.

    Args:
        fn: `x -> scalar`, of the *input*: `lambda x: attrax.scores.logit(i)(model(x))`. The softmax
            runs over channels; with `attrax.scores.log_probability(i)` the weights are
            proportional to the probability of class i.
        x: the input of one example, `(H, W, ...)`: as many leading axes as `z` has positions.
        z: an activation of the same example, positions and then channels: `(h, w, C)`, such as
            `attrax.capture(model, x, at=...)`.
        baseline: like `x`, what is seen where a mask is 0; None is zeros.
        positions: how many axes of positions `z` has. It need only be said of a volume,
            `positions=3`: four axes are otherwise taken for a batch, and refused.
        batch_size: channels evaluated at once.

    Returns:
        The positions of `z`, `(h, w)`, in its dtype; units of `z`. The paper's map is `jax.nn.relu`
        of it, the same where `z` is not negative.

    Raises:
        TypeError: when `x` or `z` is not floating.
        ValueError: when `fn` does not return a scalar, `z` is not one array with positions and
            channels, `x` has fewer axes than `z` has positions, or `baseline` does not match the
            shape of `x`.

    Example:
        >>> x = jnp.array([1.0, 3.0])
        >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # each channel sees one of two positions
        >>> score_cam(lambda x: jnp.log(jnp.sum(x)), x, z).round(4).tolist()
        [0.25, 0.75]

    References:
        Wang et al. (2020), arXiv:1910.01279, algorithm 1 without the ReLU. The score of the
        baseline, which it subtracts, cancels in the softmax. The authors' code has probabilities as
        weights: that is `log_probability`, up to a positive factor.
    """
    z = _example(z, positions)
    x = _checks.one_array(x, "x")
    size = x.shape[: z.ndim - 1]
    if len(size) < z.ndim - 1:
        raise ValueError(
            "`x` must begin with as many axes as `z` has positions; got "
            f"{x.shape} against {z.shape}."
        )
    start = widen(_checks.baseline_like(baseline, x))
    span, score = widen(x) - start, _checks.scalar_valued(fn)

    def masked(channel: Array) -> Array:
        """The score of what is seen through one channel."""
        mask = stretched(upsample(channel, size)).astype(span.dtype)
        mask = mask.reshape(*size, *[1] * (x.ndim - len(size)))
        return widen(score((start + mask * span).astype(x.dtype)))

    found = mapped(masked, jnp.moveaxis(widen(z), -1, 0), batch_size=batch_size)
    varying = jnp.max(z, axis=_positions(z)) > jnp.min(z, axis=_positions(z))
    # With no channel left the softmax would be 0/0.
    weights = jax.nn.softmax(found, where=varying | ~jnp.any(varying, keepdims=True))
    return _weighed(z, jnp.where(varying, weights, 0))


def upsample(
    values: Array,
    shape: Sequence[int],
    *,
    method: jax.image.ResizeMethod = jax.image.ResizeMethod.LINEAR,
) -> Array:
    """A map brought to the height and width of the input, by interpolation.

    Interpolation preserves values, not sums: sum a map before upsampling it. Pixels are squares, so
    the corners of both pictures coincide, not the centres of their corner pixels.

    Args:
        values: `(h, w)`, or with further axes, such as `(h, w, C)`, which stay as they are.
        shape: of the leading axes: `x.shape[:2]` for an image.
        method: a `jax.image.ResizeMethod`. NEAREST shows the cells of the layer as they are.

    Returns:
        `(*shape, ...)`, in the dtype and units of `values`; computed in float32 or wider.

    Raises:
        TypeError: when `values` is not floating, or `shape` is not a tuple of ints.
        ValueError: when `shape` has more axes than `values`, or a size below 1.

    Example:
        >>> upsample(jnp.array([[0.0, 4.0]]), (1, 4)).tolist()
        [[0.0, 1.0, 3.0, 4.0]]
    """
    values = _checks.one_array(values, "values")
    size = _size(shape)
    if len(size) > values.ndim:
        raise ValueError(
            f"`shape` must not have more axes than `values`; got {size} against {values.shape}. "
            "For the height and width of an image pass `x.shape[:2]`."
        )
    resized = jax.image.resize(widen(values), (*size, *values.shape[len(size) :]), method)
    return resized.astype(values.dtype)


def _size(shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple of ints."""
    if isinstance(shape, str) or not np.iterable(shape):
        raise TypeError(
            "`shape` must be a tuple with one int for each axis, such as `x.shape[:2]`; got "
            f"{shape!r}."
        )
    return tuple(_checks.count(n, "shape") for n in shape)


def _weighed(z: Array, weights: Array) -> Array:
    """`sum_c weights[c] z[..., c]`, in float32 or wider and in full precision."""
    dtype, highest = wide_dtype(z.dtype), jax.lax.Precision.HIGHEST
    total = jnp.tensordot(z.astype(dtype), weights.astype(dtype), 1, precision=highest)
    return total.astype(z.dtype)


def stretched(values: Array) -> Array:
    """`values` stretched to [0, 1] as a whole; zeros where they are all the same."""
    low = jnp.min(values)
    return quotient(values - low, jnp.max(values) - low, 0)


def _activation(z: Any) -> Array:
    """`z` as one floating array that has positions and channels."""
    z = _checks.one_array(z, "z")
    if z.ndim < 2:
        raise ValueError(
            "`z` must have positions and channels, such as (H, W, C); got shape "
            f"{z.shape}. Where there are no positions there is no map: use "
            "`attrax.gradient_times_input`."
        )
    return z


def _example(z: Any, positions: int | None) -> Array:
    """`z` as the activation of one example: what is pooled over positions must not mix examples."""
    z = _activation(z)
    if positions is not None and z.ndim != _checks.count(positions, "positions") + 1:
        raise ValueError(
            f"`z` must have {positions} axes of positions, as `positions` says, and one of "
            f"channels; got shape {z.shape}. Map over a batch with `jax.vmap`."
        )
    if positions is None and z.ndim > 3:
        raise ValueError(
            f"`z` must be the activation of one example, such as (H, W, C); got shape {z.shape}. "
            "What is pooled over a batch explains no example: map over the batch with `jax.vmap`. "
            "For a volume (D, H, W, C) pass `positions=3`."
        )
    return z


def _positions(z: Array) -> tuple[int, ...]:
    return tuple(range(z.ndim - 1))
