"""An image redrawn as what each position of a layer sees."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, PyTree
from ._sprites import Draw, as_bytes, sprites


class _Position(NamedTuple):
    """A unit of `sprites`: what is drawn, and the key that all positions have in common."""

    direction: Any
    start: Any


def activation_tiles(
    draw: Draw,
    model: PyTree,
    z: Array,
    *,
    key: Array,
    batch_size: int = 8,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """A picture of the activation at every position: `tiles[i, j] = draw(model, z[i, j], key)`.

    These are the sprites of `h w` directions, drawn from one start with the same transforms.
    Positions that see the same look alike, and differences between tiles come from their
    activations alone. A position where nothing is active has an empty picture.

        draw = visualise.sprite("block5", prepare=prepare, objective=visualise.cosine_direction)
        tiles = visualise.activation_tiles(draw, model, z, key=key)
        visualise.Spritemap(
            tiles.reshape(-1, *tiles.shape[2:]), "lite0", "block5", "position",
            columns=tiles.shape[1]).save(folder)  # as one PNG

    Args:
        draw: `(model, direction, key) -> image`, in [0, 1], such as `sprite(...)` with
            `cosine_direction` as objective. Keep it for the next image: it is compiled once.
        model: any pytree, such as an `attrax.Model`.
        z: an activation, `(h, w, C)`. Subtract its mean over positions to show what sets each one
            apart.
        key: a key of `jax.random`.
        batch_size: tiles drawn at once; memory grows with it.
        store: as in `sprites`.
        progress: as in `sprites`.

    Returns:
        `(h, w, H, W, C)`, uint8.

    Raises:
        TypeError: when `batch_size` is not an int, or `z` is not floating.
        ValueError: when `z` does not have three axes, and as in `sprites`.

    Example:
        >>> def flat(model, direction, key):
        ...     return jnp.full((2, 2, 1), model * direction.sum())
        >>> z = jnp.array([[[0.1, 0.1], [0.2, 0.2]]])
        >>> activation_tiles(flat, 1.0, z, key=jax.random.key(0))[0, :, 0, 0, 0]
        array([ 51, 102], dtype=uint8)

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "What Does the Network See?". The original
        shares parts of the start between positions of one neuron group, here all have one start.
    """
    values = np.asarray(_checks.floating(z, "z"))
    if values.ndim != 3:
        raise ValueError(f"`z` must have shape (h, w, C); got {values.shape}.")
    key = _checks.random_key(key, "activation_tiles")
    is_typed = jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key)
    start = np.asarray(jax.random.key_data(key) if is_typed else key)
    directions = values.reshape(-1, values.shape[-1])
    found = sprites(
        _from_one_start(draw, jax.random.key_impl(key) if is_typed else None),
        model,
        _Position(directions, np.broadcast_to(start, (len(directions), *start.shape))),
        key=key,
        batch_size=batch_size,
        store=store,
        progress=progress,
    )
    return found.reshape(*values.shape[:2], *found.shape[1:])


@functools.lru_cache(maxsize=16)
def _from_one_start(draw: Draw, kind: Any) -> Draw:
    def at_position(model: PyTree, unit: _Position, _: Array) -> Array:
        start = unit.start
        return draw(
            model,
            unit.direction,
            start if kind is None else jax.random.wrap_key_data(start, impl=kind),
        )

    return at_position


def with_strength(tiles: np.ndarray, z: Array) -> np.ndarray:
    r"""Tiles whose opacity is the strength of their position.

    $$\frac{\lVert z_{i,j} \rVert}{\max_{k,l} \lVert z_{k,l} \rVert}$$

    Args:
        tiles: `(h, w, H, W, C)`, uint8 or in [0, 1]; C is 1 or 3.
        z: the activation, `(h, w, N)`.

    Returns:
        `(h, w, H, W, 4)`, uint8; the last channel is the opacity.

    Raises:
        ValueError: when the shapes do not fit.

    Example:
        >>> z = np.array([[[3.0, 4.0], [0.0, 1.0]]])
        >>> with_strength(np.ones((1, 2, 8, 8, 3)), z)[0, :, 0, 0, 3]
        array([255,  51], dtype=uint8)
    """
    tiles, values = as_bytes("tiles", tiles), np.asarray(z, np.float32)
    if tiles.ndim != 5 or tiles.shape[-1] not in (1, 3) or values.ndim != 3:
        raise ValueError(
            "`tiles` must have shape (h, w, H, W, C), with 1 or 3 channels, and `z` (h, w, N); got "
            f"{tiles.shape} and {values.shape}."
        )
    if tiles.shape[:2] != values.shape[:2]:
        raise ValueError(
            f"`tiles` and `z` must have the same positions; got {tiles.shape} and {values.shape}."
        )
    strengths = np.linalg.norm(values, axis=-1)
    opacity = as_bytes("z", strengths / (strengths.max() or 1.0))[..., None, None, None]
    colours = np.broadcast_to(tiles, (*tiles.shape[:-1], 3))
    return np.concatenate([colours, np.broadcast_to(opacity, (*tiles.shape[:-1], 1))], axis=-1)
