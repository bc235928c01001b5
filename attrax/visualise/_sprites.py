"""Pictures of many units of a layer, in chunks of one compiled program."""

import functools
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
        at: the layer. After a ReLU many channels are silent at the start: choose the activation
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
        `(model, unit, key) -> image`. Keep it: `sprites` compiles again for another one.

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
    store: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """A picture of each of many units, `draw(model, units[i], fold_in(key, i))`.

    One program for `batch_size` units at once, compiled once and run for chunk after chunk; memory
    is set by `batch_size`, not by the number of units. Which units stand in a chunk together
    changes nothing but rounding.

    This runs on the host, between compiled chunks: it cannot itself be jitted.

    Args:
        draw: `(model, unit, key) -> image`, in [0, 1], such as `sprite(...)`. Its program is kept
            for the next call with the same function.
        model: any pytree, such as an `attrax.Model`.
        units: channels, `jnp.arange(n)`; or any pytree of arrays with a leading axis of n, such as
            directions, `(n, C)`.
        key: a key of `jax.random`.
        batch_size: units drawn at once.
        store: a folder where finished chunks are kept, a store of `attrax.datasets`. The same call
            after a stop of any kind goes on where it was. A store of another `draw`, model, units,
            key or `batch_size`, or of other versions of JAX, is refused. Delete it when the result
            has been saved.
        progress: `(done, n) -> None`, called after each chunk.

    Returns:
        `(n, H, W, C)`, uint8.

    Raises:
        ImportError: when there is a `store` and tensorstore is not installed.
        TypeError: when `batch_size` is not an int.
        ValueError: when there are no units or no key, units have different lengths, `batch_size` is
            below 1, a picture is not finite, or `store` holds other sprites.

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
    drawn = _drawn if store is None else functools.partial(_stored, store=store)
    images, is_finite = drawn(
        _program(draw), model, jax.tree.map(np.asarray, units), key, n, size, progress
    )
    if not is_finite.all():
        wrong = np.flatnonzero(~is_finite).tolist()
        raise ValueError(
            f"`draw` must give finite pictures; those of the units at {wrong} are not. Leave these "
            "units out, or look for what makes their objective infinite."
        )
    return images


Progress: TypeAlias = Callable[[int, int], None]


def _drawn(
    program: Callable[..., dict[str, Array]],
    model: PyTree,
    units: PyTree,
    key: Array,
    n: int,
    size: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, chunk after chunk, and whether each is finite."""
    chunks = []
    for first in range(0, n, size):
        # The last chunk is filled up by repeating the last unit.
        index = np.minimum(np.arange(first, first + size), n - 1)
        chunk = jax.tree.map(lambda leaf, index=index: leaf[index], units)
        drawn = program(model, chunk, key=_keys(key, index))
        chunks.append((np.asarray(drawn["image"]), np.asarray(drawn["finite"])))
        if progress is not None:
            progress(min(first + size, n), n)
    images, is_finite = zip(*chunks, strict=True)
    return np.concatenate(images)[:n], np.concatenate(is_finite)[:n]


def _stored(
    program: Callable[..., dict[str, Array]],
    model: PyTree,
    units: PyTree,
    key: Array,
    n: int,
    size: int,
    progress: Progress | None,
    *,
    store: str | Path,
) -> tuple[np.ndarray, np.ndarray]:
    """The same, by way of a store: the results of a dataset whose examples are the units."""
    from ..datasets import Batch, open
    from ..datasets._explain import run
    from ..datasets._plan import plan

    chunks = [
        Batch((jax.tree.map(lambda leaf, i=i: leaf[i : i + size], units),))
        for i in range(0, n, size)
    ]
    planned = plan(program, model, chunks, store, key=key)
    done = sum(min(size, n - size * number) for number in planned.store.finished)

    def advance(drawn: int) -> None:
        nonlocal done
        done += drawn
        if progress is not None:
            progress(done, n)

    run(planned, 0, advance, ahead=0)
    results = open(store)
    return results["image"][:], results["finite"][:]


def as_bytes(name: str, images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8; those that are uint8 as they are."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    values = images.astype(np.float32)
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(f"`{name}` must be finite; {wrong} of its {values.size} values are not.")
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


_keys = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))


@functools.lru_cache(maxsize=16)
def _program(draw: Draw) -> Callable[..., dict[str, Array]]:
    def one(model: PyTree, unit: PyTree, *, key: Array) -> dict[str, Array]:
        image = draw(model, unit, key)
        if image.dtype != jnp.uint8:
            levels = 255 * jnp.clip(image.astype(jnp.float32), 0, 1)
            return {
                "image": jnp.round(levels).astype(jnp.uint8),
                "finite": jnp.isfinite(image).all(),
            }
        return {"image": image, "finite": jnp.array(True)}

    return jax.jit(jax.vmap(one, in_axes=(None, 0)))
