"""Tolerances: what they cost, and whether they hold, against many-node references.

Counts and errors only, so a busy machine does no harm.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import attrax
from attrax._methods import _certified_estimates as estimates
from attrax.quadrature import Rule, clenshaw_curtis, gauss_legendre, midpoint

from . import network, networks
from .report import Claim, Table, main

TOLERANCES = (5e-2, 1e-2, 1e-3)
MOST = (257, 1025)
BATCH = 64
"""Examples of a batch, for what lock step would cost."""
RULES = {"smooth": range(3, 49), "ReLU": [2**k for k in range(4, 10)]}
REFERENCE = {"smooth": clenshaw_curtis(257), "ReLU": midpoint(4096)}
SEED = 1
"""The factors of the estimate were chosen on networks of seed 0 and on other pictures."""
ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "tanh": jnp.tanh}
NETS = [(body, act) for act in ("gelu", "tanh", "relu") for body in ("dense", "conv")]
_OPTIMIZER = optax.adam(1e-3)


class Cases(NamedTuple):
    """Examples `(N, 8, 8, 1)`, baselines, classes, and whether the score is a probability."""

    xs: np.ndarray
    baselines: np.ndarray
    classes: np.ndarray
    probability: np.ndarray


class Records(NamedTuple):
    """What is known of the cases of one network.

    `nodes` are `(N, 257, D)`: the integrand at the nodes of Clenshaw-Curtis, where it was wanted;
    `exact` is `(N, D)`; `fixed` has the error of each Gauss rule, by its number of nodes.
    """

    kind: str
    run: Callable[..., Any]
    cases: Cases
    nodes: np.ndarray | None
    exact: np.ndarray
    fixed: dict[int, np.ndarray]


# ------------------------------------------------------------------------------ networks


def initial(body: str, key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases: three hidden layers of 256, or three of 3 x 3 convolutions and one."""
    shapes = [(64, 256), (256, 256), (256, 256), (256, 10)]
    if body == "conv":
        shapes = [(3, 3, 1, 8), (3, 3, 8, 16), (3, 3, 16, 16), (256, 64), (64, 10)]
    keys = jax.random.split(key, len(shapes))
    scales = [np.sqrt(2 / np.prod(shape[:-1])) for shape in shapes]
    return [
        (scale * jax.random.normal(k, shape), jnp.zeros(shape[-1]))
        for k, shape, scale in zip(keys, shapes, scales, strict=True)
    ]


def logits(act: str, layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """The outputs for one picture `(8, 8, 1)`."""
    *hidden, (last, offset) = layers
    for kernel, bias in hidden:
        if kernel.ndim == 4:
            strides = (2, 2) if kernel.shape[2] == 16 else (1, 1)
            x = jax.lax.conv_general_dilated(
                x[None], kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )[0]
        else:
            x = x.reshape(-1) @ kernel
        x = ACTIVATIONS[act](x + bias)
    return x @ last + offset


def trained(body: str, act: str, xs: np.ndarray, ys: np.ndarray) -> list:
    """A network after 600 steps of Adam."""
    layers = initial(body, jax.random.key(SEED))
    state = _OPTIMIZER.init(layers)

    def loss(layers: list, xs: jax.Array, ys: jax.Array) -> jax.Array:
        outputs = jax.vmap(lambda x: logits(act, layers, x))(xs)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, ys).mean()

    @jax.jit
    def step(layers: list, state: Any, xs: jax.Array, ys: jax.Array) -> tuple[list, Any]:
        updates, state = _OPTIMIZER.update(jax.grad(loss)(layers, xs, ys), state)
        return optax.apply_updates(layers, updates), state

    for rows in np.random.default_rng(SEED).integers(0, len(xs), (600, 64)):
        layers, state = step(layers, state, xs[rows], ys[rows])
    return layers


def score(act: str, layers: Any, x: jax.Array, i: jax.Array, probability: jax.Array) -> jax.Array:
    """The logit of a class or its probability."""
    outputs = logits(act, layers, x)
    return jnp.where(probability, jax.nn.softmax(outputs)[i], outputs[i])


def cases_of(predict: Callable[..., Any], pictures: np.ndarray, baselines: Sequence) -> Cases:
    """Each picture with its two best classes, each baseline, logit and probability."""
    best = np.argsort(-np.asarray(predict(pictures)), axis=1)[:, :2]
    rows = [
        (x, b, i, p)
        for x, two in zip(pictures, best, strict=True)
        for i in two
        for b in baselines
        for p in (False, True)
    ]
    xs, bs, classes, probability = (np.stack(column) for column in zip(*rows, strict=True))
    return Cases(xs, bs, classes.astype(np.int32), probability)


# ------------------------------------------------------------------------------- records


def integrand(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`(weights, case, times) -> (n, D)`: what integrated gradients integrate, compiled."""

    def at(weights: Any, case: Cases, times: jax.Array) -> jax.Array:
        x, b, *aux = case

        def value(t: jax.Array) -> jax.Array:
            slope = attrax.gradient(lambda x: fn(weights, x, *aux), b + t * (x - b))
            return ((x - b) * slope).reshape(-1)

        return jax.vmap(value)(times)

    return jax.jit(attrax.for_cpu(at))


def sampled(at: Callable[..., Any], weights: Any, case: Cases, times: np.ndarray, chunk: int):
    """The integrand of one case at any times, in chunks of one size."""
    padded = np.resize(times, -(-len(times) // chunk) * chunk).astype(np.float32)
    parts = [np.asarray(at(weights, case, part)) for part in padded.reshape(-1, chunk)]
    return np.concatenate(parts)[: len(times)]


def record(
    kind: str,
    fn: Callable[..., Any],
    weights: Any,
    cases: Cases,
    chunk: int,
    rules: Sequence[int],
    fine: Rule,
    with_nodes: bool = False,
) -> Records:
    """The reference, the errors of fixed rules, and the values at the nodes if they are wanted."""
    at = integrand(fn)
    tables = [gauss_legendre(n) for n in rules]
    spots = np.concatenate([table.nodes for table in tables])
    nodes, exact, fixed = [], [], []
    for case in map(Cases._make, zip(*cases, strict=True)):
        exact.append(fine.weights @ sampled(at, weights, case, fine.nodes, chunk))
        if with_nodes:
            nodes.append(sampled(at, weights, case, clenshaw_curtis(257).nodes, chunk))
        values = np.split(sampled(at, weights, case, spots, chunk), np.cumsum(rules)[:-1])
        sums = np.stack(
            [table.weights @ value for table, value in zip(tables, values, strict=True)]
        )
        fixed.append(off(sums, exact[-1]))

    def certified(weights: Any, tolerance: Any, most: int) -> attrax.Certified:
        return attrax.certified_integrated_gradients(
            lambda x, *aux: fn(weights, x, *aux),
            jnp.asarray(cases.xs),
            *map(jnp.asarray, cases[2:]),
            baselines=jnp.asarray(cases.baselines),
            tolerance=tolerance,
            max_evaluations=most,
            batch_size=chunk,
        )

    program = jax.jit(attrax.for_cpu(certified), static_argnums=2)
    fixed = dict(zip(rules, np.stack(fixed, axis=1), strict=True))
    run = functools.partial(program, weights)
    kept = np.stack(nodes) if with_nodes else None
    return Records(kind, run, cases, kept, np.stack(exact), fixed)


def off(value: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The relative error in the sum of magnitudes."""
    return np.abs(value - exact).sum(-1) / np.abs(exact).sum(-1)


# -------------------------------------------------------------------------------- tables


class Outcome(NamedTuple):
    """Of each case: gradients, whether it converged, the true error, the estimate over it."""

    evaluations: np.ndarray
    converged: np.ndarray
    error: np.ndarray
    ratio: np.ndarray

    @property
    def lock_step(self) -> float:
        """Gradients for each case if batches went on together until the last has converged."""
        parts = [self.evaluations[i : i + BATCH] for i in range(0, len(self.error), BATCH)]
        return sum(part.max() * len(part) for part in parts) / len(self.error)

    def violated(self, tolerance: float) -> float:
        """The share of the converged whose error is above the tolerance."""
        return float(np.mean(self.error[self.converged] > tolerance)) if self.converged.any() else 0


def outcome(records: Records, tolerance: float, most: int) -> Outcome:
    """What the library does."""
    found = jax.device_get(records.run(tolerance, most))
    error = off(found.value.reshape(records.exact.shape), records.exact)
    ratio = found.error_estimate / np.maximum(error, 1e-7)
    return Outcome(found.evaluations, found.converged, error, ratio)


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Several networks together."""
    return Outcome(*(np.concatenate(column) for column in zip(*outcomes, strict=True)))


def chosen(result: Outcome, where: np.ndarray) -> Outcome:
    """Some of the cases."""
    return Outcome(*(column[where] for column in result))


def smallest_rule(records: Sequence[Records], which: str, tolerance: float) -> int | None:
    """The Gauss rule with the fewest nodes that meets the tolerance on 99 % of the cases."""
    for n in records[0].fixed:
        errors = np.concatenate([r.fixed[n][_which(r, which)] for r in records])
        if np.mean(errors <= tolerance) >= 0.99:
            return n
    return None


def _which(records: Records, which: str) -> np.ndarray:
    p = records.cases.probability
    return {"logit": ~p, "probability": p, "both": np.ones_like(p)}[which]


COLUMNS = [
    ("network", ""),
    ("score", ""),
    ("tolerance", ".0e"),
    ("at most", "d"),
    ("cases", "d"),
    ("gradients", ".1f"),
    ("lock step", ".1f"),
    ("fixed Gauss", ""),
    ("converged", ".1%"),
    ("violations", ".2%"),
    ("error above estimate", ".2%"),
    ("estimate / error", ".1f"),
    ("error, median", ".1e"),
]


def rows_of(records: list[Records], most: Sequence[int]) -> tuple[list[list[Any]], dict]:
    """The rows of one kind of network, and the outcomes by (cap, tolerance)."""
    rows, results = [], {}
    for cap in most:
        for tolerance in TOLERANCES:
            each = [outcome(r, tolerance, cap) for r in records]
            results[cap, tolerance] = joined(each)
            for which in ("logit", "probability", "both"):
                result = joined(
                    [chosen(o, _which(r, which)) for o, r in zip(each, records, strict=True)]
                )
                fixed = smallest_rule(records, which, tolerance)
                rows.append(
                    [
                        records[0].kind,
                        which,
                        tolerance,
                        cap,
                        len(result.error),
                        float(result.evaluations.mean()),
                        float(result.lock_step),
                        str(fixed) if fixed else f"> {max(records[0].fixed)}",
                        float(result.converged.mean()),
                        result.violated(tolerance),
                        float(np.mean(result.ratio < 1)),
                        float(np.median(result.ratio)),
                        float(np.median(result.error)),
                    ]
                )
    return rows, results


CAPTION = (
    "Relative error in the sum of magnitudes; cases are (picture, class, baseline, score). "
    "Gradients: the mean of one case. Lock step: if batches of 64 went on until their last case "
    "has converged. Fixed Gauss: the smallest rule that meets the tolerance on 99 % of the same "
    "cases. Violations: of the converged, those whose true error is above the tolerance. Error "
    "above estimate: of all. Estimate / error: the median."
)


def digits(records: dict[str, list[Records]]) -> Table:
    """Small networks on pictures of digits."""
    smooth, first = rows_of(records["smooth"], MOST[:1])
    kinked, second = rows_of(records["ReLU"], MOST)
    sizes = [r.run.func._cache_size() for kind in records.values() for r in kind]
    caps = [len(MOST[:1])] * len(records["smooth"]) + [len(MOST)] * len(records["ReLU"])
    tight = first[MOST[0], TOLERANCES[-1]]
    rule = smallest_rule(records["smooth"], "both", TOLERANCES[-1]) or max(RULES["smooth"])
    claims = [
        Claim(
            "smooth, 1e-3: gradients / lock step",
            float(tight.evaluations.mean() / tight.lock_step),
            at_most=0.6,
        ),
        Claim(
            "smooth, 1e-3: gradients / those of the fixed rule",
            float(tight.evaluations.mean() / rule),
            at_most=1,
        ),
        Claim("smooth, 1e-3: converged", float(tight.converged.mean()), at_least=0.95),
        Claim(
            "programs compiled after the first, over all tolerances",
            sum(sizes) - sum(caps),
            at_most=0,
        ),
    ]
    for tolerance in TOLERANCES:
        for name, results in (("smooth", first), ("ReLU", second)):
            result = results[MOST[0], tolerance]
            claims += [
                Claim(
                    f"{name}, {tolerance:.0e}: violations among the converged",
                    result.violated(tolerance),
                    at_most=0.01,
                ),
                Claim(
                    f"{name}, {tolerance:.0e}: median estimate / error",
                    float(np.median(result.ratio)),
                    at_most=100,
                ),
            ]
    return Table(
        name="certified",
        title="Integrated gradients to a tolerance: small networks on digits",
        caption=CAPTION
        + " Dense and convolutional networks, with GELU and tanh (smooth) and with ReLU, trained "
        "on scikit-learn's digits; baselines black and the mean picture. No network and no "
        "picture is one on which the factors of the estimate were chosen. References: 257 nodes "
        "of Clenshaw-Curtis, for ReLU 4096 midpoints.",
        columns=COLUMNS,
        rows=smooth + kinked,
        claims=claims,
    )


class Level(NamedTuple):
    """One nested rule on all cases."""

    value: np.ndarray
    size: np.ndarray
    apart: np.ndarray  # from the next coarser rule
    spectral: np.ndarray
    jumps: np.ndarray
    combined: np.ndarray
    gap: np.ndarray


def levels_of(records: Records) -> dict[int, Level]:
    """The nested rules on the recorded nodes."""
    assert records.nodes is not None
    assess = jax.jit(jax.vmap(estimates.assessed))
    coarse, found = assess(records.nodes[:, :: 256 // 4]), {}
    total = records.exact.sum(1)
    for n in (9, 17, 33, 65, 129, 257):
        fine = assess(records.nodes[:, :: 256 // (n - 1)])
        value = np.asarray(fine.value)
        found[n] = Level(
            value=value,
            size=np.abs(value).sum(1),
            apart=np.abs(value - np.asarray(coarse.value)).sum(1),
            spectral=np.asarray(fine.spectral),
            jumps=np.asarray(fine.jumps),
            combined=np.asarray(jax.vmap(estimates.combined)(fine, coarse)),
            gap=np.abs(value.sum(1) - total) / np.abs(total),
        )
        coarse = fine
    return found


def decaying(level: Level, before: Level | None) -> np.ndarray:
    """The last difference, or less where each level divides it by more than twenty."""
    ratio = 1 if before is None else level.apart / np.maximum(before.apart, 1e-30)
    return level.apart / level.size * np.minimum(1, 20 * ratio)


STOPS = {
    "completeness gap": lambda level, before: level.gap,
    "|A - A'|": lambda level, before: level.apart / level.size,
    "|A - A'|, less where it decays": decaying,
    "smooth model S alone": lambda level, before: level.spectral / level.size,
    "jump model J alone": lambda level, before: level.jumps / level.size,
    "min(J, S)": lambda level, before: np.minimum(level.jumps, level.spectral) / level.size,
    "J max(min(1, S/J)^(1 - sqrt(s)), s^(3/2))": lambda level, before: level.combined,
}


def stopped(
    levels: dict[int, Level], exact: np.ndarray, estimate: Callable[..., Any], tolerance: float
) -> Outcome:
    """The first nested rule whose estimate is at most the tolerance, or the last."""
    size = len(exact)
    done, evaluations = np.zeros(size, bool), np.zeros(size, int)
    error, believed, before = np.zeros(size), np.zeros(size), None
    for n, level in levels.items():
        now = np.asarray(estimate(level, before))
        evaluations[~done], believed[~done] = n, now[~done]
        error[~done] = off(level.value, exact)[~done]
        done |= now <= tolerance
        before = level
    return Outcome(evaluations, done, error, believed / np.maximum(error, 1e-7))


def compared(records: dict[str, list[Records]]) -> Table:
    """Other ways to stop, on the same nested rules."""
    known = {kind: [(levels_of(r), r.exact) for r in each] for kind, each in records.items()}
    rows = []
    for name, estimate in STOPS.items():
        for kind, each in known.items():
            for tolerance in TOLERANCES:
                result = joined([stopped(*pair, estimate, tolerance) for pair in each])
                rows.append(
                    [
                        name,
                        kind,
                        tolerance,
                        float(result.evaluations.mean()),
                        float(result.converged.mean()),
                        result.violated(tolerance),
                        float(np.median(result.ratio)),
                    ]
                )
    return Table(
        name="certified_estimates",
        title="Where to stop: estimates on the nested rules with 9, 17, ..., 257 nodes",
        caption=(
            "The same cases and columns. None of these halves intervals. A is the attribution by "
            "a rule, A' by the next coarser one."
        ),
        columns=[
            ("estimate", ""),
            ("network", ""),
            ("tolerance", ".0e"),
            ("gradients", ".1f"),
            ("converged", ".1%"),
            ("violations", ".2%"),
            ("estimate / error", ".1f"),
        ],
        rows=rows,
    )


# ------------------------------------------------------------------------------------ run


def recorded(pictures: int) -> dict[str, list[Records]]:
    """The networks on digits and what is known of their cases."""
    xs, labels = map(np.asarray, networks.digits())
    seen, unseen = xs[:1400], xs[1404 :: 393 // pictures][:pictures]
    found: dict[str, list[Records]] = {"smooth": [], "ReLU": []}
    for body, act in NETS:
        layers = trained(body, act, seen, labels[:1400])
        predict = jax.jit(jax.vmap(functools.partial(logits, act, layers)))
        cases = cases_of(predict, unseen, [np.zeros_like(xs[0]), seen.mean(0)])
        kind = "ReLU" if act == "relu" else "smooth"
        fn = functools.partial(score, act)
        rules, fine = RULES[kind], REFERENCE[kind]
        found[kind].append(record(kind, fn, layers, cases, 256, rules, fine, with_nodes=True))
    return found


class Setting(NamedTuple):
    """Photographs at one size: how many, for how many classes and baselines, against what."""

    side: int
    pictures: int
    classes: int
    baselines: tuple[str, ...]
    rules: tuple[int, ...]
    reference: int
    chunk: int


LARGE = Setting(64, 24, 1, ("grey",), (64, 256), 1024, 16)
MANY = Setting(32, 24, 11, ("grey", "blurred"), (32, 64), 512, 32)


def photographs(name: str, setting: Setting) -> Table:
    """EfficientNet-Lite0, with ReLU6, on photographs."""
    net = network.load()
    pretrained = importlib.import_module("pretrained")
    photos = [p.image for p in pretrained.labelled_photos() + pretrained.cat_photos()]
    shape = setting.side, setting.side, 3
    xs = np.stack(
        [
            jax.image.resize(pretrained.preprocess(photo), shape, "cubic")
            for photo in photos[: setting.pictures]
        ]
    )
    outputs = np.asarray(jax.jit(jax.vmap(net.model))(xs))
    best = np.argsort(-outputs, axis=1)[:, : setting.classes].astype(np.int32)
    baseline = {"grey": np.zeros_like, "blurred": blurred}
    each = [
        (x, baseline[which](x), i, probability)
        for x, classes in zip(xs, best, strict=True)
        for i in classes
        for which in setting.baselines
        for probability in (False, True)
    ]
    cases = Cases(*(np.stack(column) for column in zip(*each, strict=True)))

    def fn(model: attrax.Model, x: jax.Array, i: jax.Array, probability: jax.Array) -> jax.Array:
        outputs = model(x)
        return jnp.where(probability, jax.nn.softmax(outputs)[i], outputs[i])

    kind, fine = "EfficientNet-Lite0", midpoint(setting.reference)
    records = record(kind, fn, net.model, cases, setting.chunk, setting.rules, fine)
    rows, results = rows_of([records], MOST[:1])
    claims = [
        Claim(
            f"{kind}, {tolerance:.0e}: violations among the converged",
            result.violated(tolerance),
            at_most=0.01,
        )
        for (_, tolerance), result in results.items()
    ]
    classes = f"{setting.classes} best classes" if setting.classes > 1 else "best class"
    return Table(
        name=f"certified_{name}",
        title=f"Integrated gradients to a tolerance: {kind}, {setting.side} x {setting.side}",
        caption=(
            f"{CAPTION} {len(xs)} photographs, their {classes}, baselines: "
            f"{' and '.join(setting.baselines)}. Reference: {setting.reference} midpoints."
        ),
        columns=COLUMNS,
        rows=rows,
        claims=claims,
    )


def blurred(x: np.ndarray) -> np.ndarray:
    """The picture without what is finer than an eighth of it."""
    small = jax.image.resize(x, (4, 4, 3), "linear")
    return np.asarray(jax.image.resize(small, x.shape, "cubic"))


PARTS = ("digits", "photographs", "many")


def run(quick: bool = False, parts: Sequence[str] = PARTS) -> list[Table]:
    """The tables of this benchmark, or those of some of its parts."""
    tables = []
    if "digits" in parts:
        records = recorded(4 if quick else 45)
        tables += [digits(records), compared(records)]
    for name, setting in (("photographs", LARGE), ("many", MANY)):
        if name in parts:
            few = setting._replace(pictures=2, classes=min(2, setting.classes))
            tables.append(photographs(name, few if quick else setting))
    return tables


if __name__ == "__main__":
    main(run, __doc__)
