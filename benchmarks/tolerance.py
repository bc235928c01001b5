"""A tolerance against a fixed number of steps: evaluations, and time to a given true error.

Trained networks, the probability of the labelled digit, a black baseline. The error is the true
one: to Gauss-Legendre with many nodes in float64, in the sum of magnitudes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attrax
from attrax.quadrature import Rule, gauss_legendre, midpoint, trapezoid

from . import comparison, networks, timing
from .comparison import CAPTUM
from .networks import Subject
from .report import Claim, Table, main

KEYS = ("mlp", "small_vit")
EXAMPLES, MANY, HABIT = 64, 256, 50
TOLERANCES = (5e-2, 1e-2, 1e-3)
COUNTS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 50, 64, 128)
RULES: dict[str, Callable[[int], Rule]] = {
    "Gauss-Legendre": gauss_legendre,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
}
MET = 0.99  # a rule meets a tolerance where this share of the examples does
ROWS = EXAMPLES  # points evaluated at once, of all examples together

Explain = Callable[..., Any]
"""`(model, xs, labels) -> attributions`."""


def probability(model: attrax.Model, label: jax.Array, x: jax.Array) -> jax.Array:
    """What is explained."""
    return attrax.scores.probability(label)(model(x))


def fixed(rule: Rule) -> Explain:
    """The library's method with one rule for all examples."""

    def explain(model: attrax.Model, xs: jax.Array, labels: jax.Array) -> jax.Array:
        def one(x: jax.Array, label: jax.Array) -> jax.Array:
            fn = functools.partial(probability, model, label)
            return attrax.integrated_gradients(fn, x, rule=rule, batch_size=1)

        return jax.vmap(one)(xs, labels)

    return explain


def to_tolerance(
    model: attrax.Model, xs: jax.Array, labels: jax.Array, tolerance: jax.Array
) -> attrax.Certified:
    """The library's method with a tolerance: one program for all of them."""
    return attrax.certified_integrated_gradients(
        lambda x, label: probability(model, label, x),
        xs,
        labels,
        tolerance=tolerance,
        batch_size=ROWS,
    )


class Slopes:
    """The gradients of all examples at any point of their lines, by one program."""

    def __init__(self, *args: Any):
        def slopes(model: attrax.Model, xs: jax.Array, labels: jax.Array, t: jax.Array) -> Any:
            def one(x: jax.Array, label: jax.Array) -> jax.Array:
                return jax.grad(functools.partial(probability, model, label))(t * x)

            return xs * jax.vmap(one)(xs, labels)

        self.args, self.program = args, jax.jit(slopes)

    def integral(self, rule: Rule) -> np.ndarray:
        """The attributions by a rule."""
        pairs = zip(rule.nodes, rule.weights, strict=True)
        return sum(float(w) * np.asarray(self.program(*self.args, t), float) for t, w in pairs)


def exact(subject: Subject) -> np.ndarray:
    """The attributions in float64."""
    with jax.enable_x64(True):
        model, xs = jax.tree.map(lambda a: jnp.asarray(a, float), (subject.model, subject.xs))
        return Slopes(model, xs, subject.targets).integral(gauss_legendre(MANY))


def errors(found: Any, reference: np.ndarray) -> np.ndarray:
    """Of each example."""
    apart = np.abs(np.asarray(found, float) - reference).reshape(len(reference), -1).sum(1)
    return apart / np.abs(reference).reshape(len(reference), -1).sum(1)


def fewest(curve: dict[int, np.ndarray], tolerance: float) -> int | None:
    """The smallest rule that meets the tolerance on nearly all examples, known afterwards."""
    met = (n for n, found in curve.items() if np.mean(found <= tolerance) >= MET)
    return min(met, default=None)


def table(key: str, quick: bool) -> Table:
    """The comparison on one network."""
    subject = networks.load(key)
    subject = subject._replace(xs=subject.xs[-EXAMPLES:], targets=subject.targets[-EXAMPLES:])
    args = subject.model, subject.xs, subject.targets
    reference, slopes = exact(subject), Slopes(*args)
    curves = {
        name: {n: errors(slopes.integral(rule(n)), reference) for n in COUNTS}
        for name, rule in RULES.items()
    }
    chosen = {t: fewest(curves["Gauss-Legendre"], t) for t in TOLERANCES}
    steps: dict[str, timing.Step] = {}
    evaluations: dict[str, float] = {}
    found: dict[str, np.ndarray] = {}
    adaptive, _ = timing.compiled(to_tolerance, *args, jnp.float32(0.1))
    for tolerance in TOLERANCES:
        name = _name(tolerance)
        steps[name] = lambda _, t=tolerance: adaptive(*args, np.float32(t))
        result = steps[name](0)
        evaluations[name] = float(np.mean(result.evaluations))
        found[name] = errors(result.value, reference)
    for n in sorted({HABIT, *filter(None, chosen.values())}):
        name = f"Gauss-Legendre, {n}"
        program, _ = timing.compiled(fixed(gauss_legendre(n)), *args)
        steps[name] = lambda _, program=program: program(*args)
        evaluations[name], found[name] = n, errors(steps[name](0), reference)
    for name in ("midpoint", "trapezoid"):  # as long a run as Gauss-Legendre's
        found[f"{name}, {HABIT}"] = curves[name][HABIT]
        evaluations[f"{name}, {HABIT}"] = HABIT
    if captum := comparison.captum(key, subject):
        attribute = captum.probabilities_of_all(subject, HABIT, ROWS)
        steps[f"{CAPTUM}, {HABIT}"] = attribute
        evaluations[f"{CAPTUM}, {HABIT}"] = HABIT
        found[f"{CAPTUM}, {HABIT}"] = errors(attribute(0), reference)
    timings = timing.in_turn(steps, timing.effort(quick))
    habit = timings[f"Gauss-Legendre, {HABIT}"].median
    rows = [
        [
            name,
            evaluations[name],
            1000 * timings[name].median / EXAMPLES if name in timings else None,
            habit / timings[name].median if name in timings else None,
            float(np.median(found[name])),
            float(np.quantile(found[name], MET)),
            *(100 * float(np.mean(found[name] <= t)) for t in TOLERANCES),
        ]
        for name in found
    ]
    tight = _name(TOLERANCES[-1])
    shares = {t: float(np.mean(found[_name(t)] <= t)) for t in TOLERANCES}
    claims = [
        Claim(f"share within it, {_name(t)}", share, at_least=MET) for t, share in shares.items()
    ]
    within = np.mean(found[f"Gauss-Legendre, {HABIT}"] <= TOLERANCES[-1])
    if within >= MET:  # else it is too few
        ratio = evaluations[tight] / HABIT
        claims.append(Claim(f"evaluations to {tight} / {HABIT}", ratio, at_most=0.65))
    best = {f"{t:g}": n for t, n in chosen.items()}
    return Table(
        name=f"tolerance_{key}",
        title=f"To a tolerance, or a fixed number of steps: {subject.name}",
        caption=(
            f"Integrated gradients of the probability of the label, {EXAMPLES} digits, baseline "
            f"zero, float32, {ROWS} points at once. Evaluations: gradients for each digit, mean. "
            f"Time: for each digit. Over {HABIT}: the time of Gauss-Legendre with {HABIT} nodes "
            "over that of the row. Error: the true one, in the sum of magnitudes, to "
            f"{MANY} nodes in float64; its median and its {100 * MET:.0f} % quantile. Within: how "
            "many of the digits."
        ),
        columns=[
            ("", ""),
            ("evaluations", ".1f"),
            ("ms", ".3f"),
            (f"over {HABIT}", ".2f"),
            ("error", ".1e"),
            (f"{100 * MET:.0f} %", ".1e"),
            *((f"% within {t:g}", ".0f") for t in TOLERANCES),
        ],
        rows=rows,
        claims=claims,
        notes=[
            f"Fewest nodes of Gauss-Legendre that meet the tolerance on {100 * MET:.0f} % of the "
            f"digits, known only afterwards: "
            + ", ".join(f"{n or 'more than ' + str(COUNTS[-1])} for {t}" for t, n in best.items())
            + f". {HABIT} nodes meet {TOLERANCES[-1]:g} on {100 * within:.0f} %"
            + ("." if within >= MET else ", so that what it takes is not compared with them.")
        ],
        raw={
            "timings": comparison.raw(timings),
            "evaluations": evaluations,
            "errors": {name: error.tolist() for name, error in found.items()},
            "curves": {
                name: {n: float(np.quantile(error, MET)) for n, error in curve.items()}
                for name, curve in curves.items()
            },
        },
    )


def _name(tolerance: float) -> str:
    return f"tolerance {tolerance:g}"


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The tables of this benchmark."""
    return [table(key, quick) for key in keys]


if __name__ == "__main__":
    main(run, __doc__)
