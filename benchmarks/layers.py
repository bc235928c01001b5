"""Integrated gradients at a layer against Captum's: what is before the layer is not run again.

Depth: the share of the forward pass's operations that lie before the layer. For one of the
networks: `python -m benchmarks layers:resnet18`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import attrax

from . import comparison, networks
from .comparison import CAPTUM
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("transformer", "efficientnet", "resnet18")
NODES = 48
"""Six chunks of eight, near the fifty that Captum takes unless told."""
# The least that is promised at 0.75 and at 0.875.
GOALS = {"cpu": {0.75: 2.0, 0.875: 4.0}, "gpu": {0.75: 3.0, 0.875: 5.0}}


def program(subject: Subject, at: str) -> Callable[[attrax.Model, jax.Array, jax.Array], jax.Array]:
    """The cut and the attribution of what lies behind it.

    The baseline is the layer's activation for an input of zeros, as in Captum, so that two passes
    to the layer are part of it.
    """
    rule = attrax.quadrature.gauss_legendre(NODES)

    def explain(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.logit(target)
        z, tail = attrax.cut(model, x, at=at)
        baseline = attrax.capture(model, jnp.zeros_like(x), at=at)
        return attrax.integrated_gradients(
            lambda z: score(tail(z)), z, baseline, rule=rule, batch_size=subject.batch_size
        )

    return explain


def table(key: str, quick: bool) -> Table:
    """The comparison on one network, at all of its layers."""
    subject = networks.load(key)
    mine, captum = comparison.ours(subject), comparison.captum(key, subject)
    rows, claims, raw = [], [], {}
    for at, nominal in zip(subject.layers, (0.5, 0.75, 0.875), strict=False):
        sides = {mine: comparison.by_attrax(program(subject, at), subject)}
        if captum:
            attribute = functools.partial(captum.layer_integrated_gradients, at, NODES)
            sides[CAPTUM] = comparison.called(attribute)
        comparison.check_equal(sides, f"{subject.name}, {at}")
        timings = comparison.timed(sides, quick)
        depth = subject.depth(at)
        rows += [
            [f"{at}: {name}", depth, *figures]
            for name, *figures in comparison.rows(sides, timings, NODES)
        ]
        raw[at] = {"depth": depth, "timings": comparison.raw(timings)}
        goals = GOALS.get(jax.default_backend(), {})
        if captum and nominal in goals:
            claims.append(
                Claim(
                    f"time of Captum / {mine} at depth {depth:.2f}",
                    timings[CAPTUM].median / timings[mine].median,
                    at_least=goals[nominal],
                )
            )
    name, *columns = comparison.COLUMNS
    return Table(
        name=f"layers_{key}",
        title=f"Integrated gradients at a layer: {subject.name}",
        caption=(
            f"Against LayerIntegratedGradients. One example, Gauss-Legendre, {NODES} "
            f"nodes, chunks of {subject.batch_size}, float32; the two passes to the layer, of "
            f"example and baseline, are counted in; equal to {comparison.TOLERANCE:.0e} of the "
            "norm. Depth: the share of the forward pass's operations before the layer. "
            f"{comparison.CAPTION}"
        ),
        columns=[name, ("depth", ".3f"), *columns],
        rows=rows,
        claims=claims,
        raw={"nodes": NODES, "layers": raw},
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
