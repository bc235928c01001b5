"""What the channels of a network look for: a picture of each, a spritemap for each layer.

    python examples/sprites.py
    python examples/sprites.py --layers block10 --channels 16

Renders the channels of three layers of EfficientNet-Lite0: edges and colours, textures, parts.
All channels of a layer are one compiled program, run in chunks. Writes PNG and JSON files into
`out/sprites`, the registry that `attrax.visualise.load_spritemap` reads. A run that is broken off
goes on where it stopped.
"""

import argparse
import functools
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import attrax
import pretrained
from attrax import visualise

MODEL = "efficientnet-lite0"
LAYERS = ("block2", "block6", "block10")
SIZE = 96
STEPS = 64
DECAY = 1.5
RATE = 0.035
# Sprites drawn at once: a CPU has its hands full with few, an accelerator not.
BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 8, 64


def prepare(image: jax.Array) -> jax.Array:
    """A picture in [0, 1] as the network takes it; see `pretrained.preprocess`."""
    return (255 * image - 127) / 128


@functools.cache
def draw(
    layer: str,
    size: int = SIZE,
    steps: int = STEPS,
    objective: Callable[[jax.Array, Any], jax.Array] = visualise.mean_channel,
) -> visualise.Draw:
    """How a unit of a layer is drawn, a channel unless another objective is given.

    The outputs of blocks are linear, so that no channel is silent. With less high frequency than in
    photographs (`decay` above 1) shapes come out better than the grid of the strided convolutions.
    """
    return attrax.for_cpu(
        visualise.sprite(
            layer,
            prepare=prepare,
            objective=objective,
            parameterisation=visualise.fourier((size, size), decay=DECAY),
            steps=steps,
            optimiser=optax.adam(RATE),
        )
    )


def number_of_channels(model: attrax.Model, layer: str) -> int:
    """The channels of a layer; nothing is computed."""
    x = jax.ShapeDtypeStruct((SIZE, SIZE, 3), jnp.float32)
    return next(found.shape[-1] for found in attrax.layers(model, x) if found.name == layer)


def registered(
    layer: str, folder: Path, *, size: int = SIZE, steps: int = STEPS
) -> visualise.Spritemap | None:
    """The spritemap of a layer in the registry `folder`, if one made in this way is there."""
    if (MODEL, layer, "channel") not in visualise.spritemaps(folder):
        return None
    found = visualise.load_spritemap(folder, MODEL, layer)
    return found if found.recipe == _recipe(size, steps) else None


def spritemap(
    model: attrax.Model,
    layer: str,
    folder: Path,
    *,
    channels: Collection[int] | None = None,
    size: int = SIZE,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> visualise.Spritemap:
    """The sprites of some channels of a layer (None: of all), kept in the registry `folder`.

    What is there already, made in this way, is read and not drawn again; so more channels than were
    asked for may come back.
    """
    wanted = range(number_of_channels(model, layer)) if channels is None else sorted(channels)
    kept = registered(layer, folder, size=size, steps=steps)
    missing = [channel for channel in wanted if kept is None or channel not in kept.units]
    if kept is not None and not missing:
        return kept
    recipe = _recipe(size, steps)
    file = visualise.spritemap_file(folder, MODEL, layer)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Of these channels only: a call for others begins anew.
    which = zlib.crc32(json.dumps([layer, recipe, missing]).encode())
    unfinished = file.parent / f"unfinished-{which:08x}.zarr"
    images = visualise.sprites(
        draw(layer, size, steps),
        model,
        jnp.asarray(missing),
        key=jax.random.key(recipe["seed"]),
        batch_size=BATCH_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_BATCH_SIZE,
        store=unfinished,
        progress=progress,
    )
    tiles = dict(zip(missing, images, strict=True))
    if kept is not None:
        tiles |= dict(zip(kept.units, kept.sprites, strict=True))
    units = sorted(tiles)
    made = visualise.Spritemap(
        np.stack([tiles[unit] for unit in units]), MODEL, layer, units=units, recipe=recipe
    )
    made.save(folder)
    shutil.rmtree(unfinished)
    return made


def _recipe(size: int, steps: int) -> dict[str, Any]:
    return {"size": size, "steps": steps, "decay": DECAY, "rate": RATE, "seed": 0}


def main() -> None:
    """Render, save, and say how long it took."""
    parser = argparse.ArgumentParser(description="Pictures of the channels of a network.")
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="LAYER")
    parser.add_argument("--channels", type=int, help="the first channels of each layer only")
    parser.add_argument("--size", type=int, default=SIZE, help=f"of a sprite ({SIZE})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the optimiser ({STEPS})")
    parser.add_argument("--out", type=Path, default=Path("out") / "sprites")
    options = parser.parse_args()
    model = attrax.from_linen(*pretrained.efficientnet_lite0())

    for layer in options.layers:
        start = time.perf_counter()

        def show(done: int, n: int, layer: str = layer, start: float = start) -> None:
            print(f"{layer}: {done}/{n}, {time.perf_counter() - start:.0f} s", flush=True)

        spritemap(
            model,
            layer,
            options.out,
            channels=None if options.channels is None else range(options.channels),
            size=options.size,
            steps=options.steps,
            progress=show,
        )
        print(visualise.spritemap_file(options.out, MODEL, layer))


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"sprites: {error}", file=sys.stderr)
        sys.exit(2)
