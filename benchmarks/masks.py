"""Insertion curves, which evaluate masked examples: all in one program, and one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attrax

from . import comparison, networks
from .comparison import Side
from .networks import Subject
from .peers import missing
from .report import Table, main

KEYS = ("transformer", "efficientnet")
STEPS = 31
"""32 masked examples."""
IN_TURN, TORCH = "by hand, one after another", "PyTorch, by hand"

COLUMNS = [
    ("", ""),
    ("s", ".4f"),
    ("least", ".4f"),
    ("IQR %", ".0f"),
    ("ms/mask", ".2f"),
    ("first call s", ".1f"),
    ("faster than one after another by", ".2f"),
]


def ranking(subject: Subject) -> jax.Array:
    """One number for each position, all different: what is inserted first."""
    shape = subject.xs[0].shape[:-1]
    return jnp.asarray(np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape), "f4")


def program(subject: Subject) -> Callable[..., jax.Array]:
    """`(model, x, target) -> (32,)`."""
    values = ranking(subject)

    def curve(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.probability(target)
        return attrax.metrics.insertion_curve(
            lambda x: score(model(x)), values, x, steps=STEPS, batch_size=subject.batch_size
        )

    return curve


def masked(x: Any, values: Any, step: Any) -> Any:
    """The example with the best `step` of 31 parts of its positions, of arrays of any library."""
    rank = values.size - 1 - values
    return x * (rank < step * values.size // STEPS)[..., None]


def in_turn(subject: Subject) -> Side:
    """What a loop in a notebook does: one compiled forward pass, 32 calls."""
    values = ranking(subject)

    def probability(
        model: attrax.Model, x: jax.Array, target: jax.Array, step: jax.Array
    ) -> jax.Array:
        return jax.nn.softmax(model(masked(x, values, step)))[target]

    rewritten = comparison.ours(subject) == comparison.FOR_CPU
    one = jax.jit(attrax.for_cpu(probability) if rewritten else probability)
    steps = [jnp.asarray(k) for k in range(STEPS + 1)]
    arguments = [subject.args(k) for k in range(2)]
    return comparison.called(lambda k: jnp.stack([one(*arguments[k % 2], step) for step in steps]))


def in_pytorch(key: str, subject: Subject) -> Side | None:
    """The twin in PyTorch on batches of masked examples of the same size, without gradients."""
    if not (peer := comparison.captum(key, subject)):
        return None
    values = np.asarray(ranking(subject))

    def curve(k: int) -> np.ndarray:
        _, x, target = subject.args(k % 2)
        rows = np.stack([masked(np.asarray(x), values, step) for step in range(STEPS + 1)])
        parts = np.split(rows, range(subject.batch_size, len(rows), subject.batch_size))
        return np.concatenate([peer.probabilities(part)[:, int(target)] for part in parts])

    return comparison.called(curve)


def table(key: str, quick: bool) -> Table:
    """The comparison on one network."""
    subject = networks.load(key)
    mine = comparison.ours(subject)
    sides = {
        mine: comparison.by_attrax(program(subject), subject),
        IN_TURN: in_turn(subject),
    }
    if peer := in_pytorch(key, subject):
        sides[TORCH] = peer
    comparison.check_equal(sides, subject.name)
    timings = comparison.timed(sides, quick)
    alone = timings[IN_TURN].median
    rows: list[list[Any]] = [
        [
            name,
            t.median,
            t.least,
            100 * t.spread,
            1000 * t.median / (STEPS + 1),
            sides[name].first,
            alone / t.median,
        ]
        for name, t in timings.items()
    ]
    if peer is None:
        rows.append([f"{TORCH}: {missing()}", *[None] * (len(COLUMNS) - 1)])
    return Table(
        name=f"masks_{key}",
        title=f"Insertion curve: {subject.name}",
        caption=(
            f"{STEPS + 1} masked examples, in batches of {subject.batch_size}, float32; the "
            "probability of one class; no gradients. One after another: a compiled forward pass "
            f"called {STEPS + 1} times. Equal to {comparison.TOLERANCE:.0e} of the norm. Seconds: "
            "median, least, and the distance of the quartiles; the sides run in turn. First call: "
            "to trace and compile, once."
        ),
        columns=COLUMNS,
        rows=rows,
        raw={"steps": STEPS, "timings": comparison.raw(timings)},
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
