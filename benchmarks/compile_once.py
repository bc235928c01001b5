"""What compiling costs: weights closed over or passed, and a cache of programs on disk."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import jax

import attrax

from . import network
from .report import Claim, Table, main

MB = 1e6

# A fresh process: load the network, build the program, run it once. Weights and pictures are loaded
# before the clock starts.
_SCRIPT = """
import json, time
import jax
from benchmarks import compile_once, network
net = network.load()
jax.block_until_ready(jax.numpy.zeros(3) + 1)
fn = jax.jit(compile_once.explain)
clock = [time.perf_counter()]
lowered = fn.lower(net.model, net.pictures[0], net.targets[0])
clock.append(time.perf_counter())
program = lowered.compile()
clock.append(time.perf_counter())
jax.block_until_ready(program(net.model, net.pictures[0], net.targets[0]))
clock.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(clock, clock[1:])]))
"""


def explain(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
    """Integrated gradients with the rule and the chunks that are the defaults."""
    return attrax.integrated_gradients(lambda x: model(x)[target], x)


def fresh_process(cache: str | None) -> list[float]:
    """Seconds to trace and lower, to compile, and to run, in a process of its own."""
    settings = {
        "JAX_ENABLE_COMPILATION_CACHE": str(cache is not None).lower(),
        "JAX_COMPILATION_CACHE_DIR": cache or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def sizes(net: network.Network) -> Table:
    """The table of the two ways to give a program its weights."""
    x, target = net.pictures[0], net.targets[0]

    def text(lowered: Any) -> float:
        return len(lowered.as_text()) / MB

    passed = text(jax.jit(explain).lower(net.model, x, target))
    closed = text(jax.jit(lambda x, y: explain(net.model, x, y)).lower(x, target))
    return Table(
        name="program_size",
        title=f"Size of the program of integrated gradients, {network.NAME}",
        caption="The lowered program as text, in MB, before it is compiled.",
        columns=[("weights", ""), ("MB", ".2f")],
        rows=[["an argument", passed], ["closed over", closed]],
        claims=[Claim("MB with the model as an argument", passed, at_most=1.0)],
    )


def cache(quick: bool) -> Table:
    """The table of first calls."""
    runs = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        cold = [fresh_process(None) for _ in range(runs)]
        fresh_process(folder)  # fills it
        warm = [fresh_process(folder) for _ in range(runs)]
        stored = sum(file.stat().st_size for file in os.scandir(folder)) / MB

    def median(runs: list[list[float]], part: int) -> float:
        return sorted(run[part] for run in runs)[len(runs) // 2]

    rows = [
        [name, *(median(found, part) for part in range(3))]
        for name, found in (("no cache", cold), ("cache on disk", warm))
    ]
    return Table(
        name="compilation_cache",
        title=f"The first call in a new process, integrated gradients, {network.NAME}",
        caption=(
            f"Seconds, median of {runs} fresh processes; the network is loaded before. The cache "
            f"is one folder of {stored:.1f} MB, `jax_compilation_cache_dir`."
        ),
        columns=[("", ""), ("trace s", ".2f"), ("compile s", ".2f"), ("run s", ".2f")],
        rows=rows,
        claims=[
            Claim("compile time from the cache / without", rows[1][2] / rows[0][2], at_most=0.5)
        ],
    )


def run(quick: bool = False) -> list[Table]:
    """The tables of this benchmark."""
    return [sizes(network.load()), cache(quick)]


if __name__ == "__main__":
    main(run, __doc__)
