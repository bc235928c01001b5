"""Integrated gradients at the input, beside a loop by hand and Captum, eager and compiled.

All sides take the same rule, nodes, chunks, baseline and dtype, on the same threads. For one of the
networks: `python -m benchmarks input:resnet18`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import attrax

from . import comparison, networks, peers
from .comparison import CAPTUM, Side
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("mlp", "transformer", "efficientnet", "resnet18", "resnet50", "vit_b16")
BY_HAND, COMPILED = "by hand", "Captum, torch.compile"
# What is promised against Captum, eager, on a CPU.
CPU_GOALS = {"efficientnet": 1.0, "resnet18": 1.0}

Program = Callable[[attrax.Model, jax.Array, jax.Array], jax.Array]


def by_attrax(subject: Subject) -> Program:
    """The library's method."""
    rule = attrax.quadrature.gauss_legendre(subject.nodes)

    def program(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.logit(target)
        return attrax.integrated_gradients(
            lambda x: score(model(x)), x, rule=rule, batch_size=subject.batch_size
        )

    return program


def by_hand(subject: Subject) -> Program:
    """The shortest loop that does it: a scan over chunks of a vmap, and nothing else."""
    rule = attrax.quadrature.gauss_legendre(subject.nodes)

    def program(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        nodes = jnp.asarray(rule.nodes, x.dtype).reshape(-1, subject.batch_size)
        weights = jnp.asarray(rule.weights, x.dtype).reshape(-1, subject.batch_size)

        def step(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            t, w = chunk
            gradients = jax.vmap(lambda t: jax.grad(lambda x: model(x)[target])(t * x))(t)
            return total + jnp.tensordot(w, gradients, axes=1), None

        return x * jax.lax.scan(step, jnp.zeros_like(x), (nodes, weights))[0]

    return program


def sides(key: str, subject: Subject, reason: str | None) -> dict[str, Side]:
    """All ways, compiled, by name; Captum on a compiled module unless there is a reason not to."""
    found = {comparison.ATTRAX: comparison.compiled(by_attrax(subject), subject)}
    if comparison.ours(subject) == comparison.FOR_CPU:
        found[comparison.FOR_CPU] = comparison.by_attrax(by_attrax(subject), subject)
    found[BY_HAND] = comparison.compiled(by_hand(subject), subject)
    if captum := comparison.captum(key, subject):
        attribute = functools.partial(captum.integrated_gradients, nodes=subject.nodes)
        found[CAPTUM] = comparison.called(lambda k: attribute(captum.module, k=k))
        if reason is None:
            module = captum.compiled()
            found[COMPILED] = comparison.called(lambda k: attribute(module, k=k))
    return found


def table(key: str, quick: bool) -> Table:
    """The comparison on one network."""
    subject = networks.load(key)
    reason = "left out of a quick run" if quick else peers.cannot_compile()
    found = sides(key, subject, reason)
    comparison.check_equal(found, f"{subject.name}, input")
    timings = comparison.timed(found, quick)
    mine = comparison.ours(subject)
    claims = [
        Claim(
            "time of the loop by hand / attrax",
            timings[BY_HAND].median / timings[comparison.ATTRAX].median,
            at_least=0.97,
        )
    ]
    if CAPTUM in timings and (goal := _goal(key, subject)):
        ratio = timings[CAPTUM].median / timings[mine].median
        claims.append(Claim(f"time of Captum / {mine}", ratio, at_least=goal))
    rows = comparison.rows(found, timings, subject.nodes)
    if CAPTUM in timings and reason:
        rows.append(comparison.absent(COMPILED, reason))
    return Table(
        name=f"input_{key}",
        title=f"Integrated gradients at the input: {subject.name}",
        caption=(
            f"One example, Gauss-Legendre, {subject.nodes} nodes, chunks of {subject.batch_size}, "
            f"float32, baseline zero; equal to {comparison.TOLERANCE:.0e} of the norm. By hand: a "
            f"scan of a vmap, as it stands. {comparison.CAPTION}"
        ),
        columns=comparison.COLUMNS,
        rows=rows,
        claims=claims,
        raw={"nodes": subject.nodes, "timings": comparison.raw(timings)},
    )


def _goal(key: str, subject: Subject) -> float | None:
    if jax.default_backend() == "cpu":
        return CPU_GOALS.get(key)
    return 1.3 if subject.is_large else 2.0


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
