"""Random transforms of an image, each of one output shape.

A transform is a function `(key, image) -> image` of one image, `(H, W, C)`. Features that survive
small shifts, turns and changes of size are those that the network sees in the world; what does not
survive is noise that only this network sees. Amounts are drawn from `key` while the program runs,
and shapes never depend on them: one compiled program serves all steps.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array
from ._colours import NATURAL
from ._images import checked_size, fourier

Transform: TypeAlias = Callable[[Array, Array], Array]
"""`(key, image) -> image`."""


def compose(*transforms: Transform) -> Transform:
    """Transforms in the given order, each with a key of its own.

    Without arguments it is the identity.

    Example:
        >>> compose(pad(2), jitter(1))(jax.random.key(0), jnp.zeros((5, 5, 3))).shape
        (8, 8, 3)
    """

    def transform(key: Array, image: Array) -> Array:
        for i, one in enumerate(transforms):
            image = one(jax.random.fold_in(key, i), image)
        return image

    return transform


def pad(width: int, fill: float = 0.5) -> Transform:
    """A border of one value on all sides: `(H + 2 width, W + 2 width, C)`.

    Args:
        width: of the border.
        fill: its value.

    Raises:
        TypeError: when `width` is not an int.
        ValueError: when `width` is negative.

    Example:
        >>> pad(1)(jax.random.key(0), jnp.ones((1, 1, 1)))[..., 0].tolist()
        [[0.5, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 0.5]]
    """
    width = _checks.count(width, "width", least=0)
    sides = ((width, width), (width, width), (0, 0))
    return lambda key, image: jnp.pad(_one(image), sides, constant_values=fill)


def reflect(width: int) -> Transform:
    """A border that mirrors the image: `(H + 2 width, W + 2 width, C)`.

    Args:
        width: of the border, below both sides of the image.

    Raises:
        TypeError: when `width` is not an int.
        ValueError: when `width` is negative.

    Example:
        >>> reflect(1)(jax.random.key(0), jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]]))[0, :, 0]
        Array([4., 3., 4., 3.], dtype=float32)
    """
    width = _checks.count(width, "width", least=0)
    sides = ((width, width), (width, width), (0, 0))
    return lambda key, image: jnp.pad(_one(image), sides, mode="reflect")


def jitter(distance: int) -> Transform:
    """A window at a random place, smaller by `distance` in both directions.

    Args:
        distance: the number of pixels that the window can move by.

    Raises:
        TypeError: when `distance` is not an int.
        ValueError: when `distance` is negative; from the transform, when no image is left.

    Example:
        >>> jitter(2)(jax.random.key(0), jnp.ones((5, 6, 3))).shape
        (3, 4, 3)
    """
    distance = _checks.count(distance, "distance", least=0)

    def transform(key: Array, image: Array) -> Array:
        height, width, channels = _one(image).shape
        if min(height, width) <= distance:
            raise ValueError(
                f"`jitter({distance})` takes {distance} pixels off both sides; got an image of "
                f"shape {image.shape}. Put `pad` before it."
            )
        top, left = jax.random.randint(key, (2,), 0, distance + 1)
        sizes = (height - distance, width - distance, channels)
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), sizes)

    return transform


def crop_or_pad(size: tuple[int, int], fill: float = 0.0) -> Transform:
    """The middle of the image, or the image in the middle of a border of one value.

    Args:
        size: height and width of what comes out.
        fill: the value of the border.

    Raises:
        TypeError: when `size` is not two ints.
        ValueError: when a side is below 1.

    Example:
        >>> crop_or_pad((1, 4))(jax.random.key(0), jnp.ones((3, 2, 1)))[..., 0].tolist()
        [[0.0, 1.0, 1.0, 0.0]]
    """
    wanted = checked_size(size)

    def transform(key: Array, image: Array) -> Array:
        more = [new - old for new, old in zip(wanted, _one(image).shape[:2], strict=True)]
        # A crop is a border of negative width; of an odd difference the end takes one more.
        first = [m // 2 if m >= 0 else -(-m // 2) for m in more]
        sides = [(a, m - a, 0) for a, m in zip(first, more, strict=True)]
        return jax.lax.pad(image, jnp.asarray(fill, image.dtype), (*sides, (0, 0, 0)))

    return transform


def scale(factors: Sequence[float], *, order: int = 1, fill: float = 0.5) -> Transform:
    """The image enlarged about its middle by one of `factors`; its shape stays.

    See `affine`. Parts beyond the image are cut off, and missing parts are filled.

    Example:
        >>> image = jnp.arange(9.0).reshape(3, 3, 1)
        >>> jax.jit(scale([2.0]))(jax.random.key(0), image)[1, :, 0].tolist()
        [3.5, 4.0, 4.5]
    """
    return affine(factors, [0.0], order=order, fill=fill)


def rotate(degrees: Sequence[float], *, order: int = 1, fill: float = 0.5) -> Transform:
    """The image turned about its middle, counter-clockwise, by one of `degrees`; its shape stays.

    See `affine`.

    Example:
        >>> image = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])
        >>> jax.jit(rotate([90.0], order=0))(jax.random.key(0), image)[..., 0].tolist()
        [[2.0, 4.0], [1.0, 3.0]]
    """
    return affine([1.0], degrees, order=order, fill=fill)


def affine(
    factors: Sequence[float], degrees: Sequence[float], *, order: int = 1, fill: float = 0.5
) -> Transform:
    """The image enlarged and turned about its middle, sampled once; its shape stays.

    Args:
        factors: one is drawn; above 1 enlarges.
        degrees: one is drawn; positive turns counter-clockwise.
        order: 0 takes the nearest pixel, 1 interpolates between four.
        fill: the value beyond the image.

    Raises:
        ValueError: when nothing can be drawn, a factor is not positive, or `order` is neither 0
            nor 1.

    Example:
        >>> jax.jit(affine([1.0], [0.0]))(jax.random.key(0), jnp.ones((2, 3, 1))).min().item()
        1.0
    """
    sizes, turns = np.atleast_1d(np.asarray(factors, float)), np.radians(np.atleast_1d(degrees))
    if sizes.ndim != 1 or turns.ndim != 1 or not sizes.size or not turns.size:
        raise ValueError(f"`factors` and `degrees` must hold numbers; got {factors}, {degrees}.")
    if sizes.min() <= 0:
        raise ValueError(f"`factors` must be positive; got {sizes.min():g}.")
    _order(order)

    def transform(key: Array, image: Array) -> Array:
        first, second = jax.random.split(key)
        size = jax.random.choice(first, jnp.asarray(sizes, image.dtype))
        turn = jax.random.choice(second, jnp.asarray(turns, image.dtype))
        c, s = jnp.cos(turn) / size, jnp.sin(turn) / size
        return warp(image, jnp.array([[c, s], [-s, c]]), order=order, fill=fill)

    return transform


def warp(
    image: Array,
    matrix: Array,
    shift: Array | Sequence[float] = (0.0, 0.0),
    *,
    size: tuple[int, int] | None = None,
    order: int = 1,
    fill: float = 0.5,
) -> Array:
    r"""An image seen through an affine map.

    $$out_p = image(matrix (p - \text{middle of out}) + \text{middle of image} + shift)$$

    Args:
        image: `(H, W, C)`.
        matrix: `(2, 2)`, from rows and columns of what comes out to those of `image`. It may be
            traced.
        shift: rows and columns. It may be traced.
        size: of what comes out; None is that of `image`.
        order: 0 takes the nearest pixel, 1 interpolates between four.
        fill: the value beyond the image.

    Returns:
        `(*size, C)`, in the dtype of `image`. The derivative with respect to `image` is exact; that
        with respect to `matrix` is 0 for order 0.

    Raises:
        ValueError: when a shape is wrong, or `order` is neither 0 nor 1.

    Example:
        >>> image = jnp.array([[[1.0], [3.0]]])
        >>> jax.jit(warp)(image, jnp.eye(2), (0.0, 0.5))[0, :, 0].tolist()
        [2.0, 1.75]
    """
    height, width, _ = _one(image).shape
    rows, columns = (height, width) if size is None else checked_size(size)
    matrix, shift = jnp.asarray(matrix, image.dtype), jnp.asarray(shift, image.dtype)
    if matrix.shape != (2, 2) or shift.shape != (2,):
        raise ValueError(
            f"`matrix` and `shift` must have shapes (2, 2) and (2,); got {matrix.shape} and "
            f"{shift.shape}."
        )
    out_y = (jnp.arange(rows, dtype=image.dtype) - (rows - 1) / 2)[:, None]
    out_x = (jnp.arange(columns, dtype=image.dtype) - (columns - 1) / 2)[None]
    y = matrix[0, 0] * out_y + matrix[0, 1] * out_x + (height - 1) / 2 + shift[0]
    x = matrix[1, 0] * out_y + matrix[1, 1] * out_x + (width - 1) / 2 + shift[1]
    y, x = jnp.clip(y, -1, height), jnp.clip(x, -1, width)
    # A border of `fill`, where everything beyond the image is taken from.
    framed = jnp.pad(image - fill, ((1, 1), (1, 1), (0, 0)))
    if _order(order) == 0:
        return framed[jnp.round(y).astype(int) + 1, jnp.round(x).astype(int) + 1] + fill
    # Pixels bring their places along, and are weighed by how far away they are. A compiler may
    # compute `y` once for the places and once more for weights, rounded otherwise, so that a floor
    # taken in both would not be the same.
    places = jnp.meshgrid(
        jnp.arange(-1, height + 1, dtype=image.dtype),
        jnp.arange(-1, width + 1, dtype=image.dtype),
        indexing="ij",
    )
    placed = jnp.concatenate([framed, jnp.stack(places, axis=-1)], axis=-1)
    starts = jnp.stack([jnp.floor(y), jnp.floor(x)], axis=-1).astype(int) + 1
    windows = _windows(placed, starts)
    pixels, at = windows[..., :-2], windows[..., -2:]
    away = jnp.stack([y, x], axis=-1)[:, :, None, None] - at
    weights = jnp.prod(jnp.maximum(1 - jnp.abs(away), 0), axis=-1, keepdims=True)
    return jnp.sum(pixels * weights, axis=(2, 3)) + fill


def _windows(image: Array, starts: Array) -> Array:
    """The 2 x 2 pixels at each start, `(H, W, 2, 2, C)`; starts beyond are moved inside."""

    def window(start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (2, 2, image.shape[-1]))

    return jax.vmap(jax.vmap(window))(starts)


def over_random_background(
    sigma: float = 0.5, *, colour: Array | np.ndarray = NATURAL
) -> Transform:
    """A transparent image over a random one: `(H, W, C + 1)` to `(H, W, C)`.

    `a image + (1 - a) background`, the opacity a being the last channel

    Transparent parts show the network only the background, so the optimisation makes opaque what
    the feature consists of.

    Args:
        sigma: of the background, a random `fourier` image.
        colour: `(C, C)`, of the background.

    Raises:
        ValueError: when `colour` is not square; from the transform, when the image does not
            have one channel more than `colour`.

    Example:
        >>> jax.jit(over_random_background())(jax.random.key(0), jnp.ones((2, 2, 4))).min().item()
        1.0
    """
    channels = len(np.asarray(colour))

    def transform(key: Array, image: Array) -> Array:
        height, width, found = _one(image).shape
        if found != channels + 1:
            raise ValueError(
                f"`over_random_background` needs {channels} colours and an opacity; got an image "
                f"of shape {image.shape}. Make one with `transparent(parameterisation)`."
            )
        scene = fourier((height, width), colour=colour, sigma=sigma)
        background = scene.image(scene.init(key)).astype(image.dtype)
        opacity = image[..., -1:]
        return opacity * image[..., :-1] + (1 - opacity) * background

    return transform


def _one(image: Array) -> Array:
    if image.ndim != 3:
        raise ValueError(
            f"a transform takes one image, (H, W, C); got {image.shape}. Map over several with "
            "`jax.vmap`, each with a key of its own."
        )
    return image


def _order(order: int) -> int:
    if order not in (0, 1):
        raise ValueError(f"`order` must be 0 (nearest) or 1 (linear); got {order!r}.")
    return order


STANDARD = compose(
    pad(12),
    jitter(8),
    affine(
        [1 + (i - 5) / 50 for i in range(11)],
        [*range(-10, 11), *[0] * 5],
    ),
    jitter(4),
)
"""Lucid's usual transforms: an image of side n comes out with side n + 12.

The amounts are Lucid's. Differs: enlarging does not change the shape, and is done together with the
turn, by interpolation; beyond the turned image is grey, not black.
"""
