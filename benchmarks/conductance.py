"""Conductance against Captum's LayerConductance: time, and the error at equal nodes.

The reference is attrax's with many nodes. Captum's is a sum of differences of neighbouring
activations times gradients, and first order, so that it gets other numbers.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

import attrax

from . import comparison, networks
from .comparison import CAPTUM, Side
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("mlp", "small_vit", "transformer")
CLAIMED = "mlp"  # smooth from end to end; behind a layer norm a black baseline is a singular point
MANY = 96


def program(
    subject: Subject, at: str, nodes: int
) -> Callable[[attrax.Model, jax.Array, jax.Array], jax.Array]:
    """The library's method."""
    rule = attrax.quadrature.gauss_legendre(nodes)

    def explain(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        def split(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
            z, tail = attrax.cut(model, x, at=at)
            return z, lambda z: attrax.scores.logit(target)(tail(z))

        return attrax.conductance(split, x, rule=rule, batch_size=subject.batch_size)

    return explain


def error(side: Side, reference: np.ndarray) -> float:
    """The sum of the magnitudes of all differences over that of the reference."""
    return float(np.abs(np.asarray(side.step(0)) - reference).sum() / np.abs(reference).sum())


def table(key: str, quick: bool) -> Table:
    """The comparison on one network, at the middle one of its layers."""
    subject = networks.load(key)
    at, mine = subject.layers[1], comparison.ours(subject)
    captum = comparison.captum(key, subject)
    reference = np.asarray(comparison.compiled(program(subject, at, MANY), subject).step(0))
    rows, raw, worst, ratios = [], {}, {}, {}
    for nodes in (16, 32):
        sides = {mine: comparison.by_attrax(program(subject, at, nodes), subject)}
        if captum:
            attribute = functools.partial(captum.layer_conductance, at, nodes)
            sides[CAPTUM] = comparison.called(attribute)
        errors = {name: error(side, reference) for name, side in sides.items()}
        timings = comparison.timed(sides, quick)
        worst[nodes] = errors[mine]
        if captum:
            ratios[nodes] = errors[CAPTUM] / errors[mine]
        for name, *figures in comparison.rows(sides, timings, nodes):
            rows.append([f"{nodes} nodes: {name}", errors.get(str(name)), *figures])
        raw[nodes] = {"errors": errors, "timings": comparison.raw(timings)}
    claims = []
    if key == CLAIMED:
        claims.append(Claim("error of attrax with 16 nodes", worst[16], at_most=1e-4))
    if key == CLAIMED and captum:
        text = "error of Captum / error of attrax, 16 nodes each"
        claims.append(Claim(text, ratios[16], at_least=1000))
    name, *columns = comparison.COLUMNS
    return Table(
        name=f"conductance_{key}",
        title=f"Conductance: {subject.name}",
        caption=(
            f"At {at}, Gauss-Legendre, chunks of {subject.batch_size}, float32. Error: to the "
            f"conductance with {MANY} nodes, in the sum of magnitudes; float32 rounds at about "
            "1e-6. Behind a layer norm a baseline of zeros is a singular point, and no rule is "
            "accurate. A node of attrax takes the exact derivative along the line besides, about "
            f"two forward passes in all. {comparison.CAPTION}"
        ),
        columns=[name, ("error", ".1e"), *columns],
        rows=rows,
        claims=claims,
        raw=raw,
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
