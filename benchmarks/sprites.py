"""All channels of a layer in one program: sprites a second, and memory, against the chunk."""

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

    programs, memory, compiling, inputs = {}, {}, {}, {}
    sizes = CHUNKS[:3] if quick else CHUNKS
    for size in sizes:
        args = jnp.arange(size), jax.random.split(jax.random.key(0), size)
        program, compiling[size] = timing.compiled(chunk, net.model, *args)
        programs[str(size)], inputs[str(size)] = program, args
        memory[size] = program.memory_analysis().temp_size_in_bytes / MIB
    steps = {
        name: lambda _, name=name: programs[name](net.model, *inputs[name]) for name in programs
    }
    times = timing.in_turn(steps, timing.effort(quick))
    each = {size: times[str(size)].median / size for size in sizes}
    full = recipe.STEPS / STEPS
    rows = []
    for size in sizes:
        speed = [1e3 * each[size] / STEPS, 1 / (full * each[size]), each[1] / each[size]]
        rows.append([size, *speed, memory[size], memory[size] / size, compiling[size]])
    last = sizes[-1]
    return [
        Table(
            name="sprites",
            title=f"Sprites of {LAYER}, EfficientNet-Lite0, {recipe.SIZE} pixels",
            caption=(
                f"Programs that draw a chunk of channels at once, {STEPS} steps each, run in turn. "
                "A chunk of 1 is one sprite after another. Sprites a second are for "
                f"{recipe.STEPS} steps. Memory is what the program needs beside weights and "
                "result; the number of channels does not enter."
            ),
            columns=[
                ("chunk", "d"),
                ("ms a step and sprite", ".2f"),
                ("sprites a second", ".2f"),
                ("times faster", ".2f"),
                ("memory, MiB", ".1f"),
                ("MiB a sprite", ".2f"),
                ("compile, s", ".1f"),
            ],
            rows=rows,
            claims=[
                Claim(
                    f"memory of a chunk of {last} / {last} times that of a chunk of 1",
                    memory[last] / (last * memory[1]),
                    at_most=1.1,
                )
            ],
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
