"""All channels of a layer in one program against the same renders one after another; memory."""

import importlib

import jax
import jax.numpy as jnp

from . import network, timing
from .report import Claim, Table, main

LAYER = "block6"
STEPS = 8
CHUNKS = (1, 4, 8, 16)
MIB = 2**20


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    net = network.load()
    recipe = importlib.import_module("sprites")
    draw = recipe.draw(LAYER, recipe.SIZE, STEPS)

    def chunk(model, channels, keys):
        return jax.vmap(draw, in_axes=(None, 0, 0))(model, channels, keys)

    count = recipe.number_of_channels(net.model, LAYER)
    sizes = (1, recipe.BATCH_SIZE, count) if quick else (*CHUNKS, count)
    programs, memory, compiling, inputs = {}, {}, {}, {}
    for size in sizes:
        args = jnp.arange(size), jax.random.split(jax.random.key(0), size)
        program, compiling[size] = timing.compiled(chunk, net.model, *args)
        programs[size], inputs[size] = program, args
        memory[size] = program.memory_analysis().temp_size_in_bytes / MIB
    steps = {
        str(size): lambda _, size=size: programs[size](net.model, *inputs[size]) for size in sizes
    }
    times = timing.in_turn(steps, timing.effort(quick))
    each = {size: times[str(size)].median / size for size in sizes}
    full = recipe.STEPS / STEPS
    rows = []
    for size in sizes:
        layer = compiling[size] + count * full * each[size]
        speed = [1e3 * each[size] / STEPS, 1 / (full * each[size]), each[1] / each[size], layer]
        rows.append([size, *speed, memory[size], memory[size] / size, compiling[size]])
    largest = max(memory[size] / (size * memory[1]) for size in sizes)
    return [
        Table(
            name="sprites",
            title=f"Sprites of {LAYER}, EfficientNet-Lite0, {recipe.SIZE} pixels",
            caption=(
                f"Programs that draw a chunk of channels at once, {STEPS} steps each, run in turn: "
                f"a chunk of 1 is one sprite after another, one of {count} all channels of the "
                f"layer in one call. Sprites a second, and the whole layer with its compilation, "
                f"are for {recipe.STEPS} steps. Memory is what the program needs beside weights "
                "and result: it is that of the chunk, the number of channels does not enter."
            ),
            columns=[
                ("chunk", "d"),
                ("ms a step and sprite", ".2f"),
                ("sprites a second", ".2f"),
                ("times faster than 1", ".2f"),
                ("whole layer, s", ".0f"),
                ("memory, MiB", ".1f"),
                ("MiB a sprite", ".2f"),
                ("compile, s", ".1f"),
            ],
            rows=rows,
            claims=[
                Claim(
                    "largest memory of a chunk of n / n times that of a chunk of 1",
                    largest,
                    at_most=1.1,
                ),
                Claim(
                    f"one sprite after another / all {count} channels at once, time",
                    each[1] / each[count],
                    at_least=1.0,
                ),
            ],
            notes=[
                f"A program for each channel, compiled {count} times, would take "
                f"{(count - 1) * compiling[1]:.0f} s more than one after another."
            ],
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
