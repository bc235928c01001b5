"""Ten and a hundred targets in one program, which share every forward pass, against one by one."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import attrax

from . import comparison, networks
from .comparison import CAPTUM, Side
from .cut_flops import flops
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("transformer", "efficientnet", "resnet18")
NODES = {10: 8, 100: 4}
# What is promised in time against Captum.
GOALS = {"cpu": 1.5, "gpu": 3.0}
FEWER = 1.75


def program(subject: Subject, nodes: int) -> Callable[..., jax.Array]:
    """`(model, x, targets) -> one attribution for each target`; the points one at a time.

    The class index is mapped inside of the program, so that nothing but the backward passes depends
    on it. The targets fill the chunk: points at once besides would cost memory and gain nothing.
    """
    rule = attrax.quadrature.gauss_legendre(nodes)

    def explain(model: attrax.Model, x: jax.Array, targets: jax.Array) -> jax.Array:
        def one(target: jax.Array) -> jax.Array:
            score = attrax.scores.logit(target)
            return attrax.integrated_gradients(
                lambda x: score(model(x)), x, rule=rule, batch_size=1
            )

        return jax.vmap(one)(targets)

    return explain


def sides(key: str, subject: Subject, targets: jax.Array, nodes: int) -> dict[str, Side]:
    """All ways, compiled, by name."""
    together = subject._replace(targets=jnp.stack([targets] * len(subject.xs)))
    found = {comparison.ours(subject): comparison.by_attrax(program(subject, nodes), together)}
    if captum := comparison.captum(key, subject):
        attribute = functools.partial(captum.targets_in_turn, np.asarray(targets), nodes)
        found[CAPTUM] = comparison.called(attribute)
    return found


def fewer_operations(subject: Subject, targets: jax.Array) -> float:
    """The operations of separate gradients over those of gradients that share the forward pass.

    The body of a scan over layers is counted once on both sides, which leaves the ratio.
    """

    def gradients(model: attrax.Model, x: jax.Array, targets: jax.Array) -> jax.Array:
        return jax.vmap(lambda t: attrax.gradient(lambda x: model(x)[t], x))(targets)

    model, x, _ = subject.args(0)
    return (
        len(targets) * flops(gradients, model, x, targets[:1]) / flops(gradients, model, x, targets)
    )


def table(key: str, count: int, quick: bool) -> Table:
    """The comparison on one network for one number of targets."""
    subject, nodes = networks.load(key), NODES[count]
    outputs = jax.eval_shape(subject.model, subject.xs[0]).shape[0]
    targets = jnp.asarray(np.random.default_rng(0).permutation(outputs)[:count])
    found = sides(key, subject, targets, nodes)
    comparison.check_equal(found, f"{subject.name}, {count} targets")
    timings = comparison.timed(found, quick)
    mine = comparison.ours(subject)
    fewer = fewer_operations(subject, targets)
    claims = [Claim("operations one by one / together", fewer, at_least=FEWER)]
    if CAPTUM in timings and (goal := GOALS.get(jax.default_backend())):
        ratio = timings[CAPTUM].median / timings[mine].median
        claims.append(Claim(f"time of Captum / {mine}", ratio, at_least=goal))
    return Table(
        name=f"targets_{count}_{key}",
        title=f"{count} targets: {subject.name}",
        caption=(
            f"Integrated gradients of {count} classes of one example, Gauss-Legendre, {nodes} "
            f"nodes, float32; equal to {comparison.TOLERANCE:.0e} of the norm. Captum: a "
            f"call for each class, chunks of {min(nodes, subject.batch_size)}. "
            f"{comparison.CAPTION}"
        ),
        columns=comparison.COLUMNS,
        rows=comparison.rows(found, timings, nodes),
        claims=claims,
        raw={"nodes": nodes, "timings": comparison.raw(timings)},
    )


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    counts = {key: (10,) if quick or key == "resnet18" else (10, 100) for key in keys}
    return [table(key, count, quick) for key in keys for count in counts[key]]


if __name__ == "__main__":
    main(run, __doc__)
