"""Certified attributions of networks that took no part in choosing the factors of the estimate.

Six families, 1,152 cases: recurrent networks, maxima over positions, norms, gates, steep and
stepped scores, and the residual stream of a small language model. All weights are random, of
several scales: harder than trained networks, and made in a second.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import attrax
from attrax.quadrature import composite, gauss_legendre

from .report import Claim, Table, main

NETWORKS, EXAMPLES, OUTPUTS = 6, 8, 4
TOLERANCES = (5e-2, 1e-2, 1e-3)
MOST = 257


class Cases(NamedTuple):
    """One case a row: example, baseline, network, output, and whether it is a probability."""

    xs: np.ndarray
    baselines: np.ndarray
    networks: np.ndarray
    outputs: np.ndarray
    probability: np.ndarray


class Family(NamedTuple):
    """`logits(weights, x)`, weights with an axis of networks in front, and the shape of x."""

    name: str
    logits: Callable[[Any, jax.Array], jax.Array]
    shapes: dict[str, tuple[int, ...]]
    x: tuple[int, ...]
    panels: int = 252


def _recurrent(w: Any, x: jax.Array) -> jax.Array:
    """Half of the networks are GRUs, half LSTMs."""
    width = w["out"].shape[0]

    def gru(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
        r, z = jnp.split(jax.nn.sigmoid((x @ w["in"] + h @ w["on"])[: 2 * width]), 2)
        new = jnp.tanh(x @ w["in"][:, 2 * width : 3 * width] + r * (h @ w["on"][:, -width:]))
        return z * h + (1 - z) * new, None

    def lstm(state: Any, x: jax.Array) -> tuple[Any, None]:
        h, c = state
        i, f, o, g = jnp.split(x @ w["in"] + h @ w["on"], 4)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros(width, x.dtype)
    first = jax.lax.scan(gru, zeros, x)[0]
    second = jax.lax.scan(lstm, (zeros, zeros), x)[0][0]
    return jnp.where(w["kind"] < NETWORKS // 2, first, second) @ w["out"]


def _maxima(w: Any, x: jax.Array) -> jax.Array:
    """The maximum over all positions, of tanh or of ReLU."""
    h = x @ w["in"]
    h = jnp.where(w["kind"] < NETWORKS // 2, jnp.tanh(h), jax.nn.relu(h))
    return jnp.max(h, 0) @ w["out"]


def _rms(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def _layer_norm(x: jax.Array) -> jax.Array:
    return _rms(x - jnp.mean(x, -1, keepdims=True))


def _norms(w: Any, x: jax.Array) -> jax.Array:
    """A norm before and after a layer: half of them RMS norms, half layer norms."""
    norm = lambda x: jnp.where(w["kind"] < NETWORKS // 2, _rms(x), _layer_norm(x))  # noqa: E731
    return norm(jax.nn.gelu(norm(x) @ w["in"])) @ w["out"]


def _gates(w: Any, x: jax.Array) -> jax.Array:
    """A gated layer, and a mixture of experts of which a softmax chooses."""
    h = jax.nn.silu(x @ w["gate"]) * (x @ w["in"])
    experts = jnp.tanh(jnp.einsum("i,eio->eo", h, w["experts"]))
    return jax.nn.softmax(4 * (x @ w["choice"])) @ experts @ w["out"]


_SLOPES = jnp.asarray([30.0, 300.0, 1000.0, 3000.0, 100.0, 1.0])


def _steps(w: Any, x: jax.Array) -> jax.Array:
    """Scores of one projection: steep ones, a staircase, and a rounded one."""
    at = jnp.tanh(jnp.sum(w["in"], 0)) * 0.7
    place = (x @ w["in"][:, 0])[None] - at[: w["out"].shape[1]]
    slope = _SLOPES.astype(x.dtype)[w["kind"].astype(int)]
    steep = jax.nn.sigmoid(slope * place)
    stairs = sum(jax.nn.sigmoid(slope * (place - 0.2 * k)) for k in range(5))
    smooth = jnp.where(w["kind"] == 4, stairs, steep)
    return jnp.where(w["kind"] == 5, jnp.round(3 * place), smooth)


def _residual(w: Any, x: jax.Array) -> jax.Array:
    """Two blocks of a language model without positions, RMS norms before each half."""
    length = x.shape[0]
    mask = jnp.tril(jnp.ones((length, length), bool))
    for i in range(2):
        q, k, v = jnp.split(_rms(x) @ w["attention"][i], 3, -1)
        x = x + jax.nn.softmax(jnp.where(mask, q @ k.T, -1e9)) @ v
        x = x + jax.nn.gelu(_rms(x) @ w["in"][i]) @ w["back"][i]
    return _rms(x)[-1] @ w["out"]


FAMILIES = (
    Family("recurrent", _recurrent, {"in": (6, 48), "on": (12, 48), "out": (12, 4)}, (10, 6)),
    Family("maxima", _maxima, {"in": (6, 16), "out": (16, 4)}, (12, 6), panels=1000),
    Family("norms", _norms, {"in": (16, 24), "out": (24, 4)}, (16,)),
    Family(
        "gates",
        _gates,
        {
            "in": (16, 12),
            "gate": (16, 12),
            "experts": (3, 12, 8),
            "choice": (16, 3),
            "out": (8, 4),
        },
        (16,),
    ),
    Family("steps", _steps, {"in": (12, 8), "out": (2, 4)}, (12,)),
    Family(
        "residual stream",
        _residual,
        {"attention": (2, 8, 24), "in": (2, 8, 16), "back": (2, 16, 8), "out": (8, 4)},
        (6, 8),
    ),
)


def weights_of(family: Family) -> dict[str, np.ndarray]:
    """Normal weights, of standard deviations that grow from network to network."""
    rng = np.random.default_rng(1000 + len(family.name))
    scales = np.resize([1.0, 1.6, 2.4], NETWORKS)
    found: dict[str, np.ndarray] = {"kind": np.arange(NETWORKS).astype("float32")}
    for name, shape in family.shapes.items():
        scale = scales.reshape(-1, *[1] * len(shape)) / np.sqrt(shape[-2])
        found[name] = (scale * rng.normal(size=(NETWORKS, *shape))).astype("float32")
    return found


def cases_of(family: Family) -> Cases:
    """Every network, example, baseline of zeros and one that is not, logit and probability."""
    rng = np.random.default_rng(2000 + len(family.name))
    rows = []
    for network in range(NETWORKS):
        for example in range(EXAMPLES):
            x = rng.normal(size=family.x).astype("float32")
            # One value at all positions, as a neutral token would be.
            neutral = 0.5 * rng.normal(size=family.x[-1:]).astype("float32")
            for baseline in (np.zeros_like(x), np.broadcast_to(neutral, x.shape)):
                for probability in (False, True):
                    rows.append((x, baseline, network, example % OUTPUTS, probability))
    return Cases(*(np.stack(column) for column in zip(*rows, strict=True)))


def score(family: Family, weights: Any, x: jax.Array, network: Any, output: Any, probability: Any):
    """The scalar that is explained."""
    own = jax.tree.map(lambda leaf: leaf[network], weights)
    logits = family.logits(own, x)
    probable = logits if family.name == "steps" else jax.nn.softmax(2 * logits)
    return jnp.where(probability, probable[output], logits[output])


def exact(family: Family, weights: Any, cases: Cases) -> np.ndarray:
    """Integrated gradients in float64, on panels that are graded at the baseline."""
    graded = np.concatenate([[0], np.geomspace(1e-16, 1 / 64, 50)])
    ends = np.concatenate([graded, np.linspace(1 / 64, 1, family.panels + 1)[1:]])
    rule = composite(gauss_legendre(4), ends)
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), weights)
        nodes, table = jnp.asarray(rule.nodes), jnp.asarray(rule.weights)

        def one(case: Cases) -> jax.Array:
            x, b, *aux = case
            if family.name == "steps":
                return projected(x, b, aux)
            slope = jax.grad(lambda x: score(family, weights, x, *aux))
            chunks = jax.lax.map(lambda t: slope(b + t * (x - b)), nodes, batch_size=256)
            return (x - b) * jnp.tensordot(table, chunks, 1)

        def projected(x: jax.Array, b: jax.Array, aux: Any) -> jax.Array:
            """Of a function of one projection, known on paper."""
            parts = (x - b) * weights["in"][aux[0], :, 0]
            change = score(family, weights, x, *aux) - score(family, weights, b, *aux)
            return change * parts / jnp.sum(parts)

        def wide(leaf: np.ndarray) -> jax.Array:
            return jnp.asarray(leaf, "float64" if leaf.dtype == np.float32 else leaf.dtype)

        return np.asarray(jax.jit(lambda c: jax.lax.map(one, c))(Cases(*map(wide, cases))))


def certified(family: Family, weights: Any, cases: Cases) -> Callable[[float], Any]:
    """`tolerance -> Certified` of all cases, by one program."""

    @jax.jit
    def run(cases: Cases, tolerance: jax.Array) -> attrax.Certified:
        return attrax.certified_integrated_gradients(
            functools.partial(score, family, weights),
            cases.xs,
            *cases[2:],
            baselines=cases.baselines,
            tolerance=tolerance,
            max_evaluations=MOST,
        )

    placed = Cases(*map(jnp.asarray, cases))
    return lambda tolerance: jax.device_get(run(placed, jnp.float32(tolerance)))


def fixed(family: Family, weights: Any, cases: Cases, nodes: int) -> np.ndarray:
    """A Gauss rule."""

    def one(case: Cases) -> jax.Array:
        x, b, *aux = case
        fn = lambda x: score(family, weights, x, *aux)  # noqa: E731
        return attrax.integrated_gradients(fn, x, b, rule=gauss_legendre(nodes), batch_size=nodes)

    run = jax.jit(lambda c: jax.lax.map(one, c, batch_size=16))
    return np.asarray(run(Cases(*map(jnp.asarray, cases))))


def off(value: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The relative error of each case.

    What is below 1e-6 in all is nothing: scores are of the size of 1, and float32 cannot say by how
    much 1 - 1e-9 falls short of 1.
    """
    axes = tuple(range(1, value.ndim))
    error, size = np.abs(value - expected).sum(axes), np.abs(expected).sum(axes)
    return np.where(error <= 1e-6, 0, error / np.maximum(size, 1e-12))


COLUMNS = [
    ("family", ""),
    ("tolerance", ".0e"),
    ("cases", "d"),
    ("gradients", ".1f"),
    ("converged", ".1%"),
    ("violations", ".2%"),
    ("worst of the converged", ".1e"),
    ("gap above the tolerance", "d"),
    ("Gauss 32 off by more", ".1%"),
    ("estimate / error", ".1f"),
]


def rows_of(family: Family) -> tuple[list[list[Any]], np.ndarray]:
    """One row a tolerance, and for each how many converged, failed, and left a gap."""
    weights, cases = jax.tree.map(jnp.asarray, weights_of(family)), cases_of(family)
    expected = exact(family, weights, cases)
    run, gauss = certified(family, weights, cases), off(fixed(family, weights, cases, 32), expected)
    rows, counted = [], []
    for tolerance in TOLERANCES:
        found = run(tolerance)
        error, done = off(found.value, expected), found.converged
        size = np.abs(found.value).sum(tuple(range(1, found.value.ndim)))
        gap = done & (np.abs(found.completeness_gap) > tolerance * size + 1e-5)
        failed = done & (error > tolerance)
        counted.append([done.sum(), failed.sum(), gap.sum()])
        rows.append(
            [
                family.name,
                tolerance,
                len(error),
                float(found.evaluations.mean()),
                float(done.mean()),
                float(failed.sum() / max(1, done.sum())),
                float(error[done].max(initial=0)),
                int(gap.sum()),
                float(np.mean(gauss > tolerance)),
                float(np.median(found.error_estimate / np.maximum(error, 1e-7))),
            ]
        )
    return rows, np.array(counted)


KEYS = tuple(family.name for family in FAMILIES)


def run(quick: bool = False, keys: Sequence[str] = KEYS) -> list[Table]:
    """The table of this benchmark."""
    families = [family for family in FAMILIES if family.name in keys][: 1 if quick else None]
    rows, counted = [], np.zeros((len(TOLERANCES), 3), int)
    for family in families:
        own, counts = rows_of(family)
        rows += own
        counted += counts
    claims = [
        Claim(
            f"{tolerance:.0e}: violations among the converged", failed / max(1, done), at_most=0.01
        )
        for tolerance, (done, failed, _) in zip(TOLERANCES, counted.tolist(), strict=True)
    ]
    claims.append(Claim("certificates with a gap above", int(counted[:, 2].sum()), at_most=0))
    cases = sum(row[2] for row in rows) // len(TOLERANCES)
    claims.append(Claim("cases", cases, at_least=1000 if len(families) == len(FAMILIES) else None))
    return [
        Table(
            name="honesty",
            title="Integrated gradients to a tolerance: families that chose no constant",
            caption=(
                "Relative error in the sum of magnitudes; cases are (network, example, baseline, "
                "score). Random networks of three scales; baselines of zeros, and one vector at "
                "all positions. Gradients: the mean of one case, at most 257. Violations: of the "
                "converged, those whose true error is above the tolerance. Gauss 32 off by more: "
                "the cases in which the default rule of `integrated_gradients` misses the "
                "tolerance. Estimate / error: the median. References: in float64, on panels of "
                "four Gauss nodes, graded at the baseline; for steps, known on paper."
            ),
            columns=COLUMNS,
            rows=rows,
            claims=claims,
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
