"""Objectives and penalties: plain functions of arrays, combined by ordinary arithmetic.

    def objective(image):
        z = attrax.capture(model, image, at="block3")
        return visualise.mean_channel(z, 7) - 0.1 * visualise.deep_dream(z)

A renderer makes them large, so penalties are subtracted. `attrax.scores` has more of them: the
logit of a class, a neuron, a channel, a direction. What asks for an activation takes `z`, of
positions and then channels, `(H, W, C)` or `(T, C)`; what asks for a picture takes an image,
`(H, W, C)`. Unless it says so, a function is of one example: map with `jax.vmap`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from .. import priors, scores
from .._core import _checks
from .._core._safe import absolute
from .._core._types import Array, wide_dtype
from ..scores import Index

_FLOOR = 0.1
"""Cosines below it count as this much, so that an image of the wrong direction has a gradient."""


def mean_channel(z: Array, i: Index) -> Array:
    r"""The mean of one channel over all positions.

    $$mean_p (z_{p,i})$$

    Args:
        z: `(..., C)`.
        i: the channel; it may be traced.

    Example:
        >>> mean_channel(jnp.array([[1.0, 2.0], [3.0, 4.0]]), 1).item()
        3.0
    """
    return scores.channel(i, reduce=jnp.mean)(z)


def centre_neuron(z: Array, i: Index) -> Array:
    r"""One channel at the middle position.

    $$z_{\lfloor H / 2 \rfloor, \lfloor W / 2 \rfloor, i}$$

    Of an even number of positions it is the one behind the middle.

    Args:
        z: `(..., C)`.
        i: the channel; it may be traced.

    Example:
        >>> centre_neuron(jnp.array([[1.0], [2.0], [4.0]]), 0).item()
        2.0
    """
    return scores.channel(i)(z[tuple(n // 2 for n in z.shape[:-1])])


def cosine_direction(z: Array, vector: Array, power: float = 0.0) -> Array:
    r"""A direction v of activations.

    $$mean_p (z_p \cdot v) \max(0.1, \cos_p)^{power}$$

    $\cos_p$ is the cosine between $z_p$ and the vector. With power 0 this is the mean product; a
    higher power asks for that direction and no other.

    Args:
        z: `(..., C)`.
        vector: `(C,)`, not normalised here; its product with `z` is not.
        power: of the cosine.

    Raises:
        ValueError: when the vector does not have one entry for each channel.

    Example:
        >>> round(float(cosine_direction(jnp.array([[3.0, 4.0]]), jnp.array([1.0, 0.0]), 1)), 3)
        1.8

    References:
        `direction` of Lucid, with its `cossim_pow`.
    """
    z, vector = _wide(z, "z"), _wide(vector, "vector")
    if vector.shape != z.shape[-1:]:
        raise ValueError(
            f"`vector` must have one entry for each channel of `z`; got {vector.shape} against "
            f"{z.shape}."
        )
    dots = jnp.tensordot(z, vector.astype(z.dtype), 1, precision=jax.lax.Precision.HIGHEST)
    if power == 0:
        return jnp.mean(dots)
    lengths = (_length(z, -1) + 1e-4) * (_length(vector, -1).astype(z.dtype) + 1e-4)
    return jnp.mean(dots * jnp.maximum(dots / lengths, _FLOOR) ** power)


def caricature(z: Array, target: Array, power: float = 0.0) -> Array:
    r"""How much of another image's activation t is present.

    $$(z \cdot t) \max(0.1, \cos(z, t))^{power}$$

    Rendered, it is the other image as this layer sees it, exaggerated.

    Args:
        z: of the image that is rendered, any shape.
        target: of the image that is shown, of the same shape.
        power: of the cosine, over everything.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> round(float(caricature(jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0]), 1)), 3)
        1.8

    References:
        Mordvintsev et al. (2018), doi:10.23915/distill.00012, section 6. Lucid divides the product
        by the length of the target only, which is not a cosine.
    """
    z, target = _wide(z, "z"), _wide(target, "target")
    if z.shape != target.shape:
        raise ValueError(f"`target` must have the shape of `z`; got {target.shape}, {z.shape}.")
    return cosine_direction(z.reshape(-1), target.reshape(-1), power)


def deep_dream(z: Array) -> Array:
    r"""Everything that is active, with either sign.

    $$mean (z^2)$$

    Example:
        >>> deep_dream(jnp.array([1.0, -3.0])).item()
        5.0
    """
    return jnp.mean(jnp.square(_wide(z, "z")))


def diversity(z: Array) -> Array:
    r"""How alike several images are in texture. Subtract it.

    $$\frac{1}{N} \sum_{i \ne j} G_i \cdot G_j
    \text{ with } G_i = \frac{z_i^T z_i}{\lVert z_i^T z_i \rVert}$$

    $G_i$ holds the products of channels over all positions.

    Args:
        z: of several images, `(N, ..., C)`.

    Raises:
        ValueError: when there are no positions, or fewer than two images.

    Example:
        >>> jax.jit(diversity)(jnp.ones((3, 4, 2))).item()  # all alike: N - 1
        2.0

    References:
        Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007, "Diversity".
    """
    z = _several(z, "diversity")
    flat = z.reshape(len(z), -1, z.shape[-1])
    highest = jax.lax.Precision.HIGHEST
    grams = jnp.einsum("npc,npd->ncd", flat, flat, precision=highest).reshape(len(z), -1)
    squares = jnp.sum(jnp.square(grams), axis=1, keepdims=True)
    grams = grams * jax.lax.rsqrt(jnp.maximum(squares, 1e-10))
    products = jnp.matmul(grams, grams.T, precision=highest)
    return (jnp.sum(products) - jnp.trace(products)) / len(z)


def alignment(z: Array, decay: float = 2.0) -> Array:
    r"""How far apart neighbours in a row of images are. Subtract it to render them as a sequence.

    $$\sum_{d=1}^4 \frac{1}{decay^d} \sum_i mean (z_i - z_{i+d})^2$$

    Args:
        z: of several images, or the images, `(N, ...)`.
        decay: how much less a pair counts for each place between its images.

    Raises:
        ValueError: when there are fewer than two images.

    Example:
        >>> alignment(jnp.array([[0.0, 0.0], [2.0, 2.0]])).item()
        2.0

    References:
        Mordvintsev et al. (2018), doi:10.23915/distill.00012, section 1.
    """
    z = _several(z, "alignment", 2)
    total = jnp.zeros((), z.dtype)
    for d in range(1, min(5, len(z))):
        pairs = jnp.square(z[:-d] - z[d:])
        total += jnp.sum(jnp.mean(pairs.reshape(len(pairs), -1), axis=1)) / decay**d
    return total


def interpolation(z: Array, i: Index, j: Index) -> Array:
    r"""From one channel to another along a row of images.

    $$\sum_n (1 - w_n) m_{n,i} + w_n m_{n,j} \text{ with } w_n = \frac{n}{N - 1}$$

    $m_n$ is the mean over the positions of image n.

    Args:
        z: of several images, `(N, ..., C)`.
        i: the channel of the first image.
        j: the channel of the last.

    Raises:
        ValueError: when there are fewer than two images.

    Example:
        >>> interpolation(jnp.array([[[5.0, 0.0]], [[0.0, 7.0]]]), 0, 1).item()
        12.0

    References:
        `channel_interpolate` of Lucid.
    """
    z = _several(z, "interpolation")
    weights = jnp.linspace(0, 1, len(z), dtype=z.dtype)
    first = jax.vmap(lambda one: mean_channel(one, i))(z)
    last = jax.vmap(lambda one: mean_channel(one, j))(z)
    return jnp.sum((1 - weights) * first + weights * last)


def total_variation(image: Array) -> Array:
    r"""The differences between neighbours, added up.

    $$\sum_{i,j} |x_{i+1,j} - x_{i,j}| + |x_{i,j+1} - x_{i,j}|$$

    Where two neighbours are equal, the derivative of their difference is 0: an image of one value
    is left as it is.

    Args:
        image: `(H, W, C)`; also an activation.

    Example:
        >>> total_variation(jnp.array([[[1.0], [3.0]]])).item()
        2.0

    References:
        Mahendran and Vedaldi (2015), arXiv:1412.0035, with power 1 and each direction by itself.
    """
    return priors.total_variation(_wide(image, "image"), axes=(-3, -2))


def l1(image: Array, centre: float = 0.0) -> Array:
    r"""The distance from `centre`. Where a value is equal to it, the derivative is 0.

    $$\sum |x - centre|$$

    Example:
        >>> l1(jnp.array([0.0, 2.0]), 0.5).item()
        2.0
    """
    image = _wide(image, "image")
    return jnp.sum(absolute(image - centre))


def l2(image: Array, centre: float = 0.0) -> Array:
    r"""The Euclidean distance from `centre`, smooth everywhere.

    $$\sqrt{10^{-6} + \sum (x - centre)^2}$$

    Example:
        >>> round(float(l2(jnp.array([3.0, 4.0]))), 3)
        5.0
    """
    image = _wide(image, "image")
    return jnp.sqrt(1e-6 + jnp.sum(jnp.square(image - centre)))


def detail(image: Array) -> Array:
    r"""What blurring removes. Subtracted, it blurs a little each step.

    $$\frac{1}{2} \sum (x - blur(x))^2$$

    The blurred image is not differentiated, so that the gradient is `x - blur(x)`. The blur weighs
    a pixel 1 and its eight neighbours 1/2.

    Args:
        image: `(H, W, C)`; of several images, `(N, H, W, C)`, the sum.

    Example:
        >>> jax.jit(detail)(jnp.zeros((4, 4, 3))).item()
        0.0

    References:
        `blur_input_each_step` of Lucid.
    """
    image = _wide(image, "image")
    return jnp.sum(jnp.square(image - jax.lax.stop_gradient(_blurred(image, 3)))) / 2


def opacity(image: Array) -> Array:
    """The mean of the last channel of a transparent image.

    Example:
        >>> opacity(jnp.array([[[0.3, 0.0], [0.3, 1.0]]])).item()
        0.5
    """
    return jnp.mean(_wide(image, "image")[..., -1])


def boundary_complexity(image: Array, width: int = 20, centre: float = 0.5) -> Array:
    r"""The detail near the edges. Subtract it.

    $$\sum_{edges} (blur(x) - x)^2 + 0.8 (x - centre)^2$$

    The blur weighs the 3 x 3 nearest pixels 1 and the 16 around them 1/2.

    Args:
        image: `(H, W, C)`; of several images, `(N, H, W, C)`, the sum.
        width: how far the edges reach inwards.
        centre: the value that pixels there should have.

    Raises:
        TypeError: when `width` is not an int.
        ValueError: when `width` is below 1.

    Example:
        >>> jax.jit(boundary_complexity, static_argnums=1)(jnp.zeros((8, 8, 3)), 2, 0.0).item()
        0.0

    References:
        `penalize_boundary_complexity` of Lucid, which is negative.
    """
    image, width = _wide(image, "image"), _checks.count(width, "width")
    height, across = image.shape[-3:-1]
    # With edges that meet, Lucid's slices are empty: all of the image counts.
    inside = jnp.zeros((height, across, 1), bool).at[width:-width, width:-width].set(True)
    costs = jnp.square(_blurred(image, 5) - image) + 0.8 * jnp.square(image - centre)
    mask = jnp.broadcast_to(inside, image.shape[-3:])
    return jnp.sum(jnp.where(jnp.broadcast_to(mask, image.shape), 0, costs))


def _blurred(image: Array, width: int) -> Array:
    """The mean over a square, its outermost ring counted half; beyond the image nothing counts."""

    def sums(values: Array, width: int) -> Array:
        ones = (1,) * (values.ndim - 3)
        window = (*ones, width, width, 1)
        zero = np.zeros((), values.dtype)  # Traced, it would not be known to be a sum.
        return jax.lax.reduce_window(values, zero, jax.lax.add, window, (1,) * values.ndim, "SAME")

    total = sums(image, width) + sums(image, width - 2)
    ones = jnp.ones_like(image)
    return total / (sums(ones, width) + sums(ones, width - 2))


def _length(values: Array, axis: int) -> Array:
    """The Euclidean norm, with derivative 0 at 0."""
    squares = jnp.sum(jnp.square(values), axis=axis)
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def _wide(values: Array, name: str) -> Array:
    values = _checks.floating(values, name)
    return values.astype(wide_dtype(values.dtype))


def _several(z: Array, owner: str, least: int = 3) -> Array:
    """Activations of two images at least."""
    z = _wide(z, "z")
    if z.ndim < least or len(z) < 2:
        raise ValueError(
            f"`{owner}` compares images: `z` must have a leading axis of two or more; got shape "
            f"{z.shape}. Render several with `stacked(parameterisation, n)`."
        )
    return z
