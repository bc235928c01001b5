"""Memory of integrated gradients against the number of nodes, by XLA's own account."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import attrax

from . import network, timing
from .report import Claim, Table, main

BATCH_SIZE = 8
MIB = 2**20


def temporary_memory(fn: Callable[..., Any], *args: Any) -> tuple[float, float]:
    """MiB of temporary memory of the compiled program, and the seconds to compile it.

    Inputs (the weights) and outputs are not counted. Nothing runs.
    """
    program, seconds = timing.compiled(fn, *args)
    return program.memory_analysis().temp_size_in_bytes / MIB, seconds


def chunked(model: attrax.Model, x: jax.Array, target: jax.Array, *, nodes: int) -> jax.Array:
    """The library's method: `BATCH_SIZE` points at once."""
    score = attrax.scores.logit(target)
    rule = attrax.quadrature.gauss_legendre(nodes)
    return attrax.integrated_gradients(
        lambda x: score(model(x)), x, rule=rule, batch_size=BATCH_SIZE
    )


def all_at_once(model: attrax.Model, x: jax.Array, target: jax.Array, *, nodes: int) -> jax.Array:
    """A vmap over all nodes: the shortest way to write it."""
    score = attrax.scores.logit(target)
    rule = attrax.quadrature.gauss_legendre(nodes)
    t, w = jnp.asarray(rule.nodes, x.dtype), jnp.asarray(rule.weights, x.dtype)
    gradients = jax.vmap(lambda t: jax.grad(lambda x: score(model(x)))(t * x))(t)
    return x * jnp.tensordot(w, gradients, axes=1)


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    net = network.load()
    args = net.model, net.pictures[0], net.targets[0]
    rows = []
    for nodes in (16, 64) if quick else (16, 32, 64, 128, 256):
        mine, seconds = temporary_memory(functools.partial(chunked, nodes=nodes), *args)
        naive, naive_seconds = temporary_memory(functools.partial(all_at_once, nodes=nodes), *args)
        rows.append([str(nodes), mine, seconds, naive, naive_seconds, naive / mine])
    memories = [row[1] for row in rows]
    share = BATCH_SIZE / int(rows[-1][0])
    return [
        Table(
            name="memory",
            title=f"Memory of integrated gradients, {network.NAME}",
            caption=(
                f"Temporary memory of the compiled program for one picture at batch_size="
                f"{BATCH_SIZE}, and of a vmap over all nodes: XLA's plan for this device, nothing "
                "is run. Weights, input and output are not in it. Ratio: the vmap's memory over "
                "attrax's."
            ),
            columns=[
                ("nodes", ""),
                ("attrax MiB", ".1f"),
                ("compile s", ".1f"),
                ("vmap MiB", ".1f"),
                ("compile s", ".1f"),
                ("ratio", ".1f"),
            ],
            rows=rows,
            claims=[
                Claim(
                    f"memory at the most over memory at the fewest of {rows[0][0]} to "
                    f"{rows[-1][0]} nodes",
                    max(memories) / min(memories),
                    at_most=1.05,
                ),
                Claim(
                    f"memory / (vmap's memory x {BATCH_SIZE}/{rows[-1][0]}) at {rows[-1][0]} nodes",
                    memories[-1] / (rows[-1][3] * share),
                    at_most=1.1,
                ),
            ],
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
