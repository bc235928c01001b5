"""Memory of integrated gradients against the number of nodes, by XLA's own account."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import attrax

from . import networks, timing
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("vit", "transformer", "efficientnet")
EXAMPLES, BATCH_SIZE = 4, 4
FEWEST, MOST_AT_ONCE = 32, 128
MIB = 2**20


def temporary_memory(fn: Callable[..., Any], *args: Any) -> tuple[float, float]:
    """MiB of temporary memory of the compiled program, and the seconds to compile it.

    Inputs (the weights) and outputs are not counted. Nothing runs.
    """
    program, seconds = timing.compiled(fn, *args)
    return program.memory_analysis().temp_size_in_bytes / MIB, seconds


Explain = Callable[[attrax.Model, jax.Array, jax.Array], jax.Array]


def chunked(nodes: int) -> Explain:
    """The library's method: `BATCH_SIZE` points of each example at once."""
    rule = attrax.quadrature.gauss_legendre(nodes)

    def explain(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.logit(target)
        return attrax.integrated_gradients(
            lambda x: score(model(x)), x, rule=rule, batch_size=BATCH_SIZE
        )

    return explain


def all_at_once(nodes: int) -> Explain:
    """A vmap over all nodes: the shortest way to write it."""
    rule = attrax.quadrature.gauss_legendre(nodes)

    def explain(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.logit(target)
        t, w = jnp.asarray(rule.nodes, x.dtype), jnp.asarray(rule.weights, x.dtype)
        gradients = jax.vmap(lambda t: jax.grad(lambda x: score(model(x)))(t * x))(t)
        return x * jnp.tensordot(w, gradients, axes=1)

    return explain


def of_examples(explain: Explain, subject: Subject) -> tuple[float, float]:
    """The memory of a program that explains several examples, and the seconds to compile it."""
    model, *one = subject.args(0)
    like = [jax.ShapeDtypeStruct((EXAMPLES, *leaf.shape), leaf.dtype) for leaf in one]
    return temporary_memory(jax.vmap(explain, in_axes=(None, 0, 0)), model, *like)


def table(key: str, quick: bool) -> Table:
    """The memory of one network."""
    subject = networks.load(key)
    rows: list[list[Any]] = []
    for nodes in (FEWEST, 512) if quick else (FEWEST, 64, 128, 256, 512):
        mine, seconds = of_examples(chunked(nodes), subject)
        rows.append([str(nodes), mine, seconds, None, None, None])
        if nodes <= MOST_AT_ONCE:
            naive, naive_seconds = of_examples(all_at_once(nodes), subject)
            rows[-1][3:] = naive, naive_seconds, naive / mine
    memories = [row[1] for row in rows]
    return Table(
        name=f"memory_{key}",
        title=f"Memory of integrated gradients: {subject.name}",
        caption=(
            f"Temporary memory of the compiled program for {EXAMPLES} examples at "
            f"batch_size={BATCH_SIZE}, and of a vmap over all nodes: XLA's plan for this device, "
            "nothing is run. Weights, input and output are not in it. Ratio: the vmap's memory "
            f"over attrax's; it has {FEWEST // BATCH_SIZE} times the rows at {FEWEST} nodes."
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
                f"memory at the most over memory at the fewest of {FEWEST} to {rows[-1][0]} nodes",
                max(memories) / min(memories),
                at_most=1.05,
            ),
            Claim(
                f"memory / the vmap's memory at {FEWEST} nodes, {BATCH_SIZE} at once",
                memories[0] / rows[0][3],
                at_most=0.1,
            ),
        ],
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
