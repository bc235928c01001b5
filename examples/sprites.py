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
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import attrax
import pretrained
from attrax import visualise

MODEL = "efficientnet-lite0"
LAYERS = ("block2", "block6", "block10")
SIZE = 64
STEPS = 128
DECAY = 1.5
RATE = 0.025
BATCH_SIZE = 8


def prepare(image: jax.Array) -> jax.Array:
    """A picture in [0, 1] as the network takes it; see `pretrained.preprocess`."""
    return (255 * image - 127) / 128


@functools.cache
def draw(layer: str, size: int = SIZE, steps: int = STEPS) -> visualise.Draw:
    """How a channel of a layer is drawn.

    The outputs of blocks are linear, so that no channel is silent. With less high frequency than in
    photographs (`decay` above 1) shapes come out better than the grid of the strided convolutions.
    """
    return visualise.sprite(
        layer,
        prepare=prepare,
        parameterisation=visualise.fourier((size, size), decay=DECAY),
        steps=steps,
        optimiser=optax.adam(RATE),
    )


def number_of_channels(model: attrax.Model, layer: str) -> int:
    """The channels of a layer; nothing is computed."""
    x = jax.ShapeDtypeStruct((SIZE, SIZE, 3), jnp.float32)
    return next(found.shape[-1] for found in attrax.layers(model, x) if found.name == layer)


def spritemap(
    model: attrax.Model,
    layer: str,
    folder: Path,
    *,
    channels: int | None = None,
    size: int = SIZE,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> visualise.Spritemap:
    """The sprites of the first channels of a layer (None: of all), saved in the registry `folder`.

    A spritemap of these channels that is there already, made in this way, is read.
    """
    count = number_of_channels(model, layer) if channels is None else channels
    recipe = {"size": size, "steps": steps, "decay": DECAY, "rate": RATE, "seed": 0}
    if (MODEL, layer, "channel") in visualise.spritemaps(folder):
        found = visualise.load_spritemap(folder, MODEL, layer)
        if found.recipe == recipe and len(found.units) == count:
            return found
    unfinished = folder / f"{layer}-{count}-{size}-{steps}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    images = visualise.sprites(
        draw(layer, size, steps),
        model,
        jnp.arange(count),
        key=jax.random.key(recipe["seed"]),
        batch_size=BATCH_SIZE,
        file=unfinished,
        progress=progress,
    )
    made = visualise.Spritemap(images, MODEL, layer, recipe=recipe)
    made.save(folder)
    unfinished.unlink()
    return made


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
            channels=options.channels,
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
