"""Integrated gradients against the limit: what the passes through the network alone would take.

`eta = rows * 2 * (seconds of a forward pass, a row, at the best batch) / seconds`, with a row for
each node. 1 is no overhead at all, where a backward pass costs what a forward one does.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

import attrax

from . import comparison, input, networks, timing
from .networks import Subject
from .report import Claim, Table, main
from .timing import Step

KEYS = input.KEYS
GPU_GOAL = 0.85


class Forward(NamedTuple):
    """A forward pass of several rows."""

    step: Step
    rows: int


def forwards(subject: Subject) -> dict[str, Forward]:
    """Forward passes of one row and of more, up to all of the attribution; alone, and looped.

    On some devices one is much faster than the other, and a loop over chunks must not look good for
    that.
    """
    nodes = subject.nodes
    rewrite = attrax.for_cpu if subject.is_convolutional else lambda fn: fn
    # Neither zeros nor the same row many times: both can be faster than real data.
    noise = jax.random.uniform(jax.random.key(0), (nodes, *[1] * subject.xs[0].ndim))
    rows = subject.xs[:1] * noise

    def forward(program: Callable[..., Any], xs: jax.Array) -> Forward:
        executable, _ = timing.compiled(rewrite(program), subject.model, xs)
        return Forward(lambda _: executable(subject.model, xs), len(xs))

    def alone(model: Any, xs: jax.Array) -> jax.Array:
        return jax.vmap(model)(xs)

    def looped(size: int, model: Any, xs: jax.Array) -> jax.Array:
        return jax.lax.map(model, xs, batch_size=size)

    sizes = [1 << i for i in range(nodes.bit_length())]
    return {
        **{f"{size} alone": forward(alone, rows[:size]) for size in sizes},
        **{
            f"{size} in a loop": forward(functools.partial(looped, size), rows)
            for size in sizes
            if 1 < size < nodes
        },
    }


def row(key: str, quick: bool) -> tuple[list[Any], dict[str, Any]]:
    """The figures of one network, and all that was measured."""
    subject = networks.load(key)
    program = input.by_attrax(subject)
    if subject.is_convolutional:
        program = attrax.for_cpu(program)
    steps = {"attribution": comparison.compiled(program, subject).step}
    passes = forwards(subject)
    steps |= {form: found.step for form, found in passes.items()}
    timings = timing.in_turn(steps, timing.effort(quick))
    per_row = {form: timings[form].median / found.rows for form, found in passes.items()}
    form = min(per_row, key=lambda form: per_row[form])
    seconds = timings["attribution"].median
    eta = subject.nodes * 2 * per_row[form] / seconds
    figures = [subject.name, subject.nodes, seconds, 1000 * per_row[form], form, eta]
    return figures, comparison.raw(timings)


def table(key: str, quick: bool) -> Table:
    """The limit of one network."""
    figures, raw = row(key, quick)
    on_gpu = jax.default_backend() == "gpu"
    return Table(
        name=f"efficiency_{key}",
        title=f"Against the limit: {figures[0]}",
        caption=(
            "Integrated gradients at the input; on CPUs, convolutions are rewritten by `for_cpu`, "
            "in the forward passes, too. Seconds: median. Forward: a row of the best of batches of "
            "1, 2, 4, ... rows, at most the nodes, alone or in a loop. eta: rows x 2 x forward "
            "over the seconds: above 1 where a backward pass is faster than the forward one, below "
            "1 where it is slower."
        ),
        columns=[
            ("", ""),
            ("nodes", "d"),
            ("s", ".4f"),
            ("forward ms/row", ".3f"),
            ("best batch", ""),
            ("eta", ".2f"),
        ],
        rows=[figures],
        claims=[Claim("eta", figures[-1], at_least=GPU_GOAL)] if on_gpu else [],
        raw=raw,
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
