"""Integrated gradients of a real network, at the input and at three layers.

Against itself: `eta`, the time that the passes through the network would take at their fastest,
over the time of the attribution. Against a scan written by hand. Against Captum, where PyTorch and
Captum are installed: the same weights, pictures, baseline, rule and nodes.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import attrax

from . import network, timing
from .cut_flops import depth
from .report import Claim, Table, main
from .timing import Timing

NODES = 32
BATCH_SIZE = 8
RULE = attrax.quadrature.gauss_legendre(NODES)
INPUT = "input"
TOLERANCE = 5e-3

Step = Callable[[int], Any]


class Case(NamedTuple):
    """One place of attribution: the programs to time there, by name, and what they compute."""

    at: str
    depth: float
    steps: dict[str, Step]
    compile_seconds: float
    attribution: np.ndarray


def explain(at: str, attribute: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The program to time: `(model, x, target) -> attribution` at a layer.

    The baseline is a picture of zeros; at a layer, its activation for that picture, as in Captum,
    so that two passes to the layer are part of the program.
    """

    def program(model: attrax.Model, x: jax.Array, target: jax.Array) -> jax.Array:
        score = attrax.scores.logit(target)
        if at == INPUT:
            return attribute(lambda x: score(model(x)), x, jnp.zeros_like(x))
        z, tail = attrax.cut(model, x, at=at)
        baseline = attrax.capture(model, jnp.zeros_like(x), at=at)
        return attribute(lambda z: score(tail(z)), z, baseline)

    return program


def by_attrax(fn: Callable, x: jax.Array, baseline: jax.Array) -> jax.Array:
    """The library's method."""
    return attrax.integrated_gradients(fn, x, baseline, rule=RULE, batch_size=BATCH_SIZE)


def by_hand(fn: Callable, x: jax.Array, baseline: jax.Array) -> jax.Array:
    """The shortest loop that does it: a scan over chunks of a vmap, and nothing else."""
    nodes = jnp.asarray(RULE.nodes, x.dtype).reshape(-1, BATCH_SIZE)
    weights = jnp.asarray(RULE.weights, x.dtype).reshape(-1, BATCH_SIZE)

    def step(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        t, w = chunk
        gradients = jax.vmap(lambda t: jax.grad(fn)(baseline + t * (x - baseline)))(t)
        return total + jnp.tensordot(w, gradients, axes=1), None

    return (x - baseline) * jax.lax.scan(step, jnp.zeros_like(x), (nodes, weights))[0]


def prepare(net: network.Network, at: str, peers: "Peers | None") -> Case:
    """Compile the programs for one layer, and check that they compute the same."""
    programs = {"attrax": by_attrax, "again": by_attrax, "by hand": by_hand}
    steps: dict[str, Step] = {}
    seconds: dict[str, float] = {}
    for name, attribute in programs.items():
        program, seconds[name] = timing.compiled(
            explain(at, attribute), net.model, net.pictures[0], net.targets[0]
        )
        steps[name] = functools.partial(_run, program, net)
    expected = np.asarray(steps["attrax"](0))
    if peers is not None:
        steps["captum"] = peers.step(at)
    for name, step in steps.items():
        _check_close(name, np.asarray(step(0)), expected, at)
    return Case(at, 0.0 if at == INPUT else depth(net, at), steps, seconds["attrax"], expected)


def _run(program: Any, net: network.Network, k: int) -> jax.Array:
    i = k % len(net.pictures)
    return program(net.model, net.pictures[i], net.targets[i])


def _check_close(name: str, actual: np.ndarray, expected: np.ndarray, at: str) -> None:
    # Rounding puts a few of the points on the other side of a kink of ReLU6, and there single
    # entries differ by 1e-2 of the largest. With another rule or baseline, all of them would.
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    if not error < TOLERANCE:
        raise AssertionError(f"{name} disagrees with attrax at {at}: {error:.1e} of the norm.")


# ---------------------------------------------------------------------------- the forward pass


class Forward(NamedTuple):
    """Seconds of a forward pass per row, and how the rows were batched to get there."""

    seconds: float
    form: str


def fastest_forward(net: network.Network, at: str, quick: bool) -> Forward:
    """The forward pass from a layer at the batch size at which a row costs least.

    Timed on its own and within a loop: on some devices one is much faster than the other, and a
    loop over chunks must not look good for that.
    """
    batch_sizes = (1, 8) if quick else (1, 2, 4, 8)
    rows = max(batch_sizes)
    tail, one = net.model, net.pictures[0]
    if at != INPUT:
        one, tail = attrax.cut(net.model, one, at=at)
    keys = jax.random.split(jax.random.key(0), 2)
    # Neither zeros nor the same row many times: both can be faster than real data.
    stacks = [one * jax.random.uniform(key, (rows, *[1] * one.ndim)) for key in keys]
    steps: dict[str, Step] = {}
    counts: dict[str, int] = {}
    for size in batch_sizes:
        alone, _ = timing.compiled(lambda tail, xs: jax.vmap(tail)(xs), tail, stacks[0][:size])
        batches = [stack[:size] for stack in stacks]
        steps[f"{size} alone"] = functools.partial(_run_forward, alone, tail, batches)
        counts[f"{size} alone"] = size
        if size < rows:
            looped, _ = timing.compiled(
                lambda tail, xs, size=size: jax.lax.map(tail, xs, batch_size=size), tail, stacks[0]
            )
            steps[f"{size} in a loop"] = functools.partial(_run_forward, looped, tail, stacks)
            counts[f"{size} in a loop"] = rows
    timings = timing.in_turn(steps, timing.effort(quick))
    per_row = {form: timings[form].median / counts[form] for form in timings}
    form = min(per_row, key=lambda form: per_row[form])
    return Forward(per_row[form], form)


def _run_forward(program: Any, tail: attrax.Model, stacks: list[jax.Array], k: int) -> jax.Array:
    return program(tail, stacks[k % len(stacks)])


# ------------------------------------------------------------------------------------ the peer


class Peers:
    """Captum on the network's twin in PyTorch, checked against it before anything is timed."""

    def __init__(self, net: network.Network):
        self.torch = importlib.import_module("torch")
        self.captum = importlib.import_module("captum.attr")
        self.twin = importlib.import_module("benchmarks.torch_twin")
        # Channels last in memory: a fifth faster for this network on CPUs than PyTorch's default.
        channels_last = {"memory_format": self.torch.channels_last}
        self.module = self.twin.from_variables(net.variables).to(**channels_last)
        self.pictures = self.twin.to_torch(net.pictures).to(**channels_last)
        self.targets = [int(target) for target in net.targets]
        expected = np.asarray(jax.jit(jax.vmap(net.model))(net.pictures))
        with self.torch.no_grad():
            error = np.abs(self.module(self.pictures).numpy() - expected).max()
        if not error < 1e-3:
            raise AssertionError(f"The twin's logits differ by {error:.1e}.")
        self.error = float(error)

    def step(self, at: str) -> Step:
        """Captum's method at a layer, in the same chunks as attrax: its default, one, is slower."""
        return functools.partial(self._attribute, at)

    def _attribute(self, at: str, k: int) -> np.ndarray:
        i = k % len(self.targets)
        if at == INPUT:
            method = self.captum.IntegratedGradients(self.module)
        else:
            layer = self.module.blocks[int(at.removeprefix("block"))]
            method = self.captum.LayerIntegratedGradients(self.module, layer)
        attribution = method.attribute(
            self.pictures[i : i + 1],
            target=self.targets[i],
            n_steps=NODES,
            method="gausslegendre",
            internal_batch_size=BATCH_SIZE,
        )
        return self.twin.to_numpy(attribution)[0]


def peers(net: network.Network) -> Peers | None:
    """The peers that are installed; None also where they would run on another device."""
    installed = all(importlib.util.find_spec(name) for name in ("torch", "captum"))
    return Peers(net) if installed and jax.default_backend() == "cpu" else None


# ----------------------------------------------------------------------------------- the tables


def ideal_seconds(depth_seconds: tuple[float, float], nodes: int) -> float:
    """What the passes alone would take: two forward passes to the layer, then two a node behind it.

    A gradient with respect to the input costs two forward passes' operations.
    """
    whole, tail = depth_seconds
    return 2 * (whole - tail) + nodes * 2 * tail


def run(quick: bool = False) -> list[Table]:
    """The tables of this benchmark."""
    net = network.load()
    peer = peers(net)
    forwards = {at: fastest_forward(net, at, quick) for at in (INPUT, *network.CUTS)}
    cases = [prepare(net, at, peer) for at in (INPUT, *network.CUTS)]
    timings = {case.at: timing.in_turn(case.steps, timing.effort(quick)) for case in cases}
    against_peer = missing_peer_table() if peer is None else peer_table(peer, cases, timings)
    return [overhead_table(cases, forwards, timings), against_peer]


def overhead_table(
    cases: Iterable[Case], forwards: dict[str, Forward], timings: dict[str, dict[str, Timing]]
) -> Table:
    """attrax against the passes through the network, and against a loop written by hand."""
    rows, etas, hand, noise = [], {}, {}, {}
    for case in cases:
        measured, forward = timings[case.at], forwards[case.at]
        mine = measured["attrax"]
        etas[case.at] = (
            ideal_seconds((forwards[INPUT].seconds, forward.seconds), NODES) / mine.median
        )
        hand[case.at] = measured["by hand"].median / mine.median
        noise[case.at] = measured["again"].median / mine.median
        rows.append(
            [
                case.at,
                case.depth,
                case.compile_seconds,
                mine.median,
                100 * mine.spread,
                mine.cpu,
                1000 * forward.seconds,
                forward.form,
                etas[case.at],
                hand[case.at],
                noise[case.at],
            ]
        )
    return Table(
        name="integrated_gradients",
        title=f"Integrated gradients, {NODES} nodes, {network.NAME}",
        caption=(
            f"One picture, Gauss-Legendre, batch_size={BATCH_SIZE}, float32; at a layer, the two "
            "passes to the layer (picture and baseline) are counted in. Seconds: median of the "
            "runs, with the distance of the quartiles; compiling (trace and compile, once) apart. "
            "eta: the time of the passes at the best batch and loop over the time of the "
            "attribution, 1.0 = no overhead, counting a gradient as two forward passes: above 1 "
            "where a backward pass is faster than the forward one, as with depthwise convolutions "
            "on CPUs, below 1 where it is slower. By hand: the time of a scan "
            "of a vmap written by hand over that of attrax. Again: the same program as attrax, "
            "compiled and timed once more; its distance from 1 is the noise of this run."
        ),
        columns=[
            ("at", ""),
            ("depth", ".2f"),
            ("compile s", ".1f"),
            ("run s", ".3f"),
            ("IQR %", ".0f"),
            ("cpu s", ".2f"),
            ("forward ms/row", ".2f"),
            ("best batch", ""),
            ("eta", ".2f"),
            ("by hand", ".2f"),
            ("again", ".2f"),
        ],
        rows=rows,
        claims=[
            Claim("time of a scan by hand / attrax, input", hand[INPUT], at_least=0.97),
        ],
        raw={
            "timings": {at: {n: t._asdict() for n, t in ts.items()} for at, ts in timings.items()}
        },
    )


def peer_table(peer: Peers, cases: Iterable[Case], timings: dict[str, dict[str, Timing]]) -> Table:
    """attrax against Captum."""
    rows = []
    for case in cases:
        mine, captum = timings[case.at]["attrax"], timings[case.at]["captum"]
        seconds = [mine.median, 100 * mine.spread, captum.median, 100 * captum.spread]
        rows.append([case.at, *seconds, captum.median / mine.median, captum.cpu / mine.cpu])
    return Table(
        name="captum",
        title=f"Against Captum, {NODES} nodes, {network.NAME}",
        caption=(
            "IntegratedGradients and LayerIntegratedGradients (eager) on the same network in "
            "PyTorch, channels last in memory, on the same cores: same weights (logits equal to "
            f"{peer.error:.0e}), pictures, baseline, rule, nodes, dtype and chunks of "
            f"{BATCH_SIZE}; attributions equal to {TOLERANCE:.0e} of their norm. Faster by: "
            "Captum's time over that of attrax, compiled; above 1 attrax is faster. In cpu time: "
            "the same for the processor time of all threads."
        ),
        columns=[
            ("at", ""),
            ("attrax s", ".3f"),
            ("IQR %", ".0f"),
            ("captum s", ".3f"),
            ("IQR %", ".0f"),
            ("faster by", ".2f"),
            ("in cpu time", ".2f"),
        ],
        rows=rows,
    )


def missing_peer_table() -> Table:
    """In place of the comparison where there is none."""
    return Table(
        name="captum",
        title="Against Captum",
        caption=(
            "Not measured: torch and captum are not both installed, or JAX does not run on a CPU. "
            "pip install torch captum"
        ),
        columns=[("at", "")],
        rows=[],
    )


if __name__ == "__main__":
    main(run, __doc__)
