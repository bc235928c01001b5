"""Pictures of many units of a layer, in chunks of one compiled program."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._core import _checks
from .._core._types import Array, PyTree
from .._models._cuts import capture
from ._images import Parameterisation, fourier
from ._objectives import mean_channel
from ._render import ADAM, Objective, render
from ._transforms import STANDARD, Transform

Draw: TypeAlias = Callable[[Any, PyTree, Array], Array]
"""`(model, unit, key) -> image`: how one sprite is made."""


def sprite(
    at: str,
    *,
    prepare: Callable[[Array], Array],
    objective: Callable[[Array, Any], Array] = mean_channel,
    parameterisation: Parameterisation | None = None,
    steps: int = 128,
    transform: Transform = STANDARD,
    prior: Objective | None = None,
    optimiser: optax.GradientTransformation = ADAM,
) -> Draw:
    """How one unit of a layer is drawn, for `sprites`.

    `draw(model, unit, key)` renders `objective(capture(model, prepare(image), at=at), unit)`.

    Args:
        at: the layer. Behind a ReLU many channels are silent at the start: ask for the activation
            before it.
        prepare: from an image in [0, 1] to what the model takes.
        objective: `(activation, unit) -> scalar`: `mean_channel`, `centre_neuron`, or
            `cosine_direction` with directions as units.
        parameterisation: of the image; None is `fourier((64, 64))`.
        steps: as in `render`.
        transform: as in `render`.
        prior: as in `render`.
        optimiser: as in `render`.

    Returns:
        `(model, unit, key) -> image`. Keep it: `sprites` compiles anew for another one.

    Example:
        >>> import attrax
        >>> from attrax import visualise
        >>> draw = visualise.sprite(
        ...     "layer", prepare=lambda image: image, steps=2, transform=visualise.compose(),
        ...     parameterisation=visualise.fourier((4, 4)))
        >>> draw(lambda x: attrax.tap("layer", x), 1, jax.random.key(0)).shape
        (4, 4, 3)
    """
    parameterisation = fourier((64, 64)) if parameterisation is None else parameterisation

    def draw(model: Any, unit: Any, key: Array) -> Array:
        def wanted(image: Array) -> Array:
            return objective(capture(model, prepare(image), at=at), unit)

        return render(
            wanted,
            parameterisation,
            key=key,
            steps=steps,
            transform=transform,
            prior=prior,
            optimiser=optimiser,
        ).image

    return draw


def sprites(
    draw: Draw,
    model: PyTree,
    units: PyTree,
    *,
    key: Array,
    batch_size: int = 8,
    file: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """A picture of each of many units, `draw(model, units[i], key_i)`.

    One program for `batch_size` units at once, compiled once and run for chunk after chunk; memory
    is set by `batch_size`, not by the number of units. `key_i` is folded in from i: which units
    stand in a chunk together changes nothing but rounding.

    This runs on the host, between compiled chunks: it cannot itself be jitted.

    Args:
        draw: `(model, unit, key) -> image`, in [0, 1], such as `sprite(...)`. Its program is kept
            for the next call with the same function.
        model: any pytree, such as an `attrax.Model`.
        units: channels, `jnp.arange(n)`; or any pytree of arrays with a leading axis of n, such as
            directions, `(n, C)`.
        key: a key of `jax.random`.
        batch_size: units drawn at once.
        file: where finished chunks are kept (`.npz`). If it is there from a call that was broken
            off, that call is resumed. Delete it when the result has been saved, and give another
            name for another `draw` or model: those cannot be compared.
        progress: `(done, n) -> None`, called after each chunk.

    Returns:
        `(n, H, W, C)`, uint8.

    Raises:
        TypeError: when `batch_size` is not an int.
        ValueError: when there are no units or no key, units have different lengths, `batch_size` is
            below 1, or `file` holds the sprites of other units or of another key.

    Example:
        >>> def flat(model, level, key):
        ...     return jnp.full((2, 2, 1), model * level)
        >>> sprites(flat, 0.1, jnp.arange(3.0), key=jax.random.key(0), batch_size=2)[:, 0, 0, 0]
        array([ 0, 26, 51], dtype=uint8)
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(units)}
    if len(lengths) != 1 or not max(lengths):
        raise ValueError(
            f"`units` must have one leading axis, of 1 or more; got lengths {sorted(lengths)}."
        )
    (n,) = lengths
    size = min(_checks.count(batch_size, "batch_size"), n)
    key = _checks.random_key(key, "sprites")
    finished = _finished(file, units, key)
    run = _program(draw)
    while sum(map(len, finished)) < n:
        done = sum(map(len, finished))
        # The last chunk is filled up by repeating the last unit.
        index = np.minimum(np.arange(done, done + size), n - 1)
        chunk = jax.tree.map(lambda leaf, index=index: jnp.asarray(leaf)[index], units)
        images = np.asarray(run(model, chunk, key, jnp.asarray(index, jnp.int32)))
        finished.append(as_bytes(images[: n - done]))
        if file is not None:
            _keep(Path(file), np.concatenate(finished), units, key)
        if progress is not None:
            progress(min(done + size, n), n)
    return np.concatenate(finished)


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8; those that are uint8 as they are."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(255 * np.clip(images.astype(np.float32), 0, 1)).astype(np.uint8)


@functools.lru_cache(maxsize=16)
def _program(draw: Draw) -> Callable[..., Array]:
    def one(model: PyTree, unit: PyTree, key: Array, i: Array) -> Array:
        return draw(model, unit, jax.random.fold_in(key, i))

    return jax.jit(jax.vmap(one, in_axes=(None, 0, None, 0)))


def _identity(units: PyTree, key: Array) -> dict[str, Any]:
    """What the sprites of a file belong to."""
    kept: dict[str, Any] = {
        f"unit{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(units))
    }
    is_typed = jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key)
    return kept | {"key": np.asarray(jax.random.key_data(key) if is_typed else key)}


def _finished(file: str | Path | None, units: PyTree, key: Array) -> list[np.ndarray]:
    if file is None or not Path(file).exists():
        return []
    identity = _identity(units, key)
    with np.load(file) as kept:
        found = {name: kept[name] for name in kept.files if name != "sprites"}
        if found.keys() != identity.keys() or any(
            not np.array_equal(found[name], identity[name]) for name in found
        ):
            raise ValueError(
                f"`file` must hold sprites of the same units and key; {str(file)!r} holds others. "
                "Delete it, or give another name."
            )
        return [kept["sprites"]]


def _keep(file: Path, images: np.ndarray, units: PyTree, key: Array) -> None:
    """Write everything to a new file and put it in place: what is there is always whole."""
    new = file.with_name(file.name + ".new")
    with new.open("wb") as stream:
        np.savez(stream, sprites=images, **_identity(units, key))
    os.replace(new, file)
