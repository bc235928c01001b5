"""What each of eight devices computes, and what they tell one another.

Nothing is timed: operations and collectives are read from the compiled programs, and results
compared. It runs on eight virtual devices of the CPU, in a process of its own.
"""

import collections
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import attrax
from attrax import priors
from attrax.quadrature import Rule, gauss_legendre, padded

from .report import Claim, Table, main

DEVICES, EXAMPLES, CLASSES = 8, 16, 10
RULE = gauss_legendre(16)
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

# ------------------------------------------------------------------------- networks and methods


class Network(NamedTuple):
    """A model and its examples; `start` gives the value that is explained, and what is behind."""

    name: str
    model: attrax.Model
    xs: jax.Array
    ys: jax.Array
    start: Callable[[Any, jax.Array], tuple[jax.Array, Any]]
    score: Callable[[jax.Array, Any], jax.Array]
    baseline: Callable[[jax.Array], jax.Array]
    layer: str


class Convolutional(nn.Module):
    """A stem, a depthwise and a strided convolution, a pool."""

    width: int

    @nn.compact
    def __call__(self, xs: jax.Array) -> jax.Array:
        xs = nn.relu(nn.Conv(self.width, (3, 3), name="stem")(xs))
        xs = nn.Conv(self.width, (3, 3), feature_group_count=self.width, name="depthwise")(xs)
        xs = nn.max_pool(nn.relu(xs), (2, 2), (2, 2))
        xs = nn.gelu(nn.Conv(2 * self.width, (3, 3), strides=2, name="block")(xs))
        return nn.Dense(CLASSES, name="head")(xs.mean(axis=(1, 2)))


def convolutional(size: int = 16, width: int = 16) -> Network:
    """Pictures `(size, size, 3)`."""
    xs = jax.random.normal(jax.random.key(0), (EXAMPLES, size, size, 3))
    module = Convolutional(width)
    model = attrax.unbatched(attrax.from_linen(module, module.init(jax.random.key(1), xs[:1])))
    return Network(
        "convolutional",
        model,
        xs,
        jnp.arange(EXAMPLES) % CLASSES,
        lambda model, x: (x, model),
        lambda logits, y: logits[y],
        jnp.zeros_like,
        "depthwise",
    )


def text(length: int = 16, width: int = 32) -> Network:
    """Token ids `(length,)`; what is explained is their embedding."""
    examples = str(Path(__file__).parents[1] / "examples")
    if examples not in sys.path:
        sys.path.insert(0, examples)
    from transformer import Transformer

    module = Transformer(vocabulary=128, length=length, width=width, depth=3)
    ids = jax.random.randint(jax.random.key(0), (EXAMPLES, length), 0, module.vocabulary)
    return Network(
        "transformer under a scan",
        attrax.from_linen(module, module.init(jax.random.key(1), ids[0])),
        ids,
        jnp.arange(EXAMPLES) % CLASSES,
        lambda model, ids: attrax.cut(model, ids, at="embed"),
        lambda logits, y: jax.nn.log_softmax(logits[-1])[y],
        mean_position,
        "layers[1]",
    )


def mean_position(z: jax.Array) -> jax.Array:
    """The mean of all positions, at every position: near zeros, norms would magnify rounding."""
    return jnp.broadcast_to(z.mean(axis=0), z.shape)


def of_input(net: Network, model: Any, x: jax.Array, y: Any, rule: Rule = RULE) -> jax.Array:
    """Integrated gradients of the input, or of the embedding; all points at once."""
    z, fn = net.start(model, x)
    return attrax.integrated_gradients(
        lambda z: net.score(fn(z), y), z, net.baseline(z), rule=rule, batch_size=rule.n
    )


def of_layer(net: Network, model: Any, x: jax.Array, y: Any, rule: Rule = RULE) -> jax.Array:
    """Integrated gradients at a cut."""
    z, tail = attrax.cut(model, x, at=net.layer)
    return attrax.integrated_gradients(
        lambda z: net.score(tail(z), y), z, net.baseline(z), rule=rule, batch_size=rule.n
    )


def conductance(net: Network, model: Any, x: jax.Array, y: Any, rule: Rule = RULE) -> jax.Array:
    """Conductance of a layer."""
    start, fn = net.start(model, x)

    def split(x: jax.Array) -> Any:
        z, tail = attrax.cut(fn, x, at=net.layer)
        return z, lambda z: net.score(tail(z), y)

    return attrax.conductance(split, start, net.baseline(start), rule=rule, batch_size=rule.n)


def targets(net: Network, model: Any, x: jax.Array, y: Any, rule: Rule = RULE) -> jax.Array:
    """Integrated gradients of ten classes."""
    return jax.vmap(lambda y: of_input(net, model, x, y, rule))(jnp.arange(CLASSES))


def smoothgrad(net: Network, model: Any, x: jax.Array, y: Any, rule: Rule = RULE) -> jax.Array:
    """SmoothGrad, as many samples as the rule has nodes, and the noise of each example its own."""
    z, fn = net.start(model, x)
    explain = functools.partial(attrax.gradient, lambda z: net.score(fn(z), y))
    key = jax.random.fold_in(jax.random.key(2), y)
    return attrax.smoothgrad(
        explain, z, key=key, sigma=0.1, num_samples=rule.n, batch_size=rule.n
    ).value


METHODS = (of_input, of_layer, conductance, targets, smoothgrad)


# --------------------------------------------------------------------- what a program consists of


class Traffic(NamedTuple):
    """A kind of collective: how often one run executes it, and the bytes of what comes out."""

    times: int
    bytes: int


def traffic(program: Any) -> dict[str, Traffic]:
    """The collectives of a compiled program; those in a loop as often as it goes round."""
    found: dict[str, Traffic] = collections.defaultdict(lambda: Traffic(0, 0))
    for times, line in _executed(program.as_text()):
        if match := _COLLECTIVE.search(line):
            size = sum(_size(*shape) for shape in _SHAPE.findall(match[1]))
            before = found[match[2]]
            found[match[2]] = Traffic(before.times + times, before.bytes + times * size)
    return dict(sorted(found.items()))


_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|\w+_computation)=%([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_SHAPE = re.compile(r"([a-z]+)(\d*)\[([\d,]*)\]")


def _executed(text: str) -> list[tuple[int, str]]:
    """The lines of a program in XLA's notation, and how often each is executed."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            name = start[2]
            bodies[name] = []
            entry = name if start[1] else entry
        elif name:
            bodies[name].append(line)
    found: list[tuple[int, str]] = []

    def visit(name: str, times: int) -> None:
        for line in bodies[name]:
            found.append((times, line))
            trips = _TRIPS.search(line)
            branches = _BRANCHES.search(line)
            called = _CALLED.findall(line) + re.findall(
                r"%([\w.-]+)", branches[1] if branches else ""
            )
            for inner in called:
                visit(inner, times * int(trips[1] if trips else 1))

    visit(entry, 1)
    return found


def _size(kind: str, bits: str, shape: str) -> int:
    """Bytes of `f32[16,8]`; of a truth value `pred[16]` one each."""
    return int(np.prod([int(n) for n in shape.split(",") if n])) * (int(bits or 8) // 8)


class Comparison(NamedTuple):
    """One device against eight: operations of a device, collectives, results."""

    alone: float
    shared: float
    traffic: dict[str, Traffic]
    difference: float
    specs: tuple[P, ...]
    memory: float

    @property
    def ratio(self) -> float:
        return self.alone / self.shared


def compare(alone: Callable, args: Any, shared: Callable, placed: Any) -> Comparison:
    """`alone(*args)` on one device, `shared(*placed)` on all."""
    one, many = jax.jit(alone).lower(*args).compile(), jax.jit(shared).lower(*placed).compile()
    expected, found = one(*args), many(*placed)
    return Comparison(
        one.cost_analysis()["flops"],
        many.cost_analysis()["flops"],
        traffic(many),
        apart(found, expected),
        tuple(leaf.sharding.spec for leaf in jax.tree.leaves(found)),
        many.memory_analysis().temp_size_in_bytes / 2**20,
    )


def apart(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest entry of the array."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(_apart(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    gap = float(np.abs(found - expected).max())
    return gap / float(np.abs(expected).max()) if gap else 0.0


# ----------------------------------------------------------------- what is divided, and how


def devices(**axes: int) -> Mesh:
    """A mesh with these axes."""
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def by_example(net: Network, method: Callable) -> Comparison:
    """Examples divided: the sharding of the arrays is all that changes."""
    mesh = devices(example=DEVICES)
    explain = jax.vmap(functools.partial(method, net), in_axes=(None, 0, 0))
    model = jax.device_put(net.model, NamedSharding(mesh, P()))
    xs, ys = jax.device_put((net.xs, net.ys), NamedSharding(mesh, P("example")))
    return compare(explain, (net.model, net.xs, net.ys), explain, (model, xs, ys))


def by_node(net: Network, method: Callable, rule: Rule = RULE) -> Comparison:
    """The nodes of the rule divided: the attribution is the sum over devices."""
    mesh = devices(node=DEVICES)
    explain = functools.partial(method, net)

    def part(model: Any, x: jax.Array, y: jax.Array, rule: Rule) -> jax.Array:
        return jax.lax.psum(explain(model, x, y, rule), "node")

    shared = jax.shard_map(
        part, mesh=mesh, in_specs=(P(), P(), P(), P("node")), out_specs=P(), check_vma=False
    )
    args = net.model, net.xs[0], net.ys[0]
    return compare(explain, (*args, rule), shared, (*args, padded(rule, DEVICES)))


def fsdp(model: Any, mesh: Mesh) -> Any:
    """Every weight divided among the devices that divide the examples, along its longest axis."""

    def place(w: jax.Array) -> jax.Array:
        longest = int(np.argmax(w.shape)) if w.ndim else 0
        even = w.ndim and w.shape[longest] % DEVICES == 0
        return jax.device_put(
            w, NamedSharding(mesh, P(*[None] * longest, "example") if even else P())
        )

    return jax.tree.map(place, model)


def tensor_parallel(model: Any, mesh: Mesh) -> Any:
    """Every weight divided along its last axis, by an axis of the mesh that has no examples."""

    def place(w: jax.Array) -> jax.Array:
        even = w.ndim and w.shape[-1] % mesh.shape["model"] == 0
        spec = P(*[None] * (w.ndim - 1), "model") if even else P()
        return jax.device_put(w, NamedSharding(mesh, spec))

    return jax.tree.map(place, model)


def by_weight(net: Network, layout: str, way: str, nodes: int, batch_size: int = 8) -> Comparison:
    """Examples and weights divided; a gradient (no nodes), or integrated gradients.

    The weights are left where they are, or brought together on every device before the loop.
    """
    axes = {"example": DEVICES} if layout == "FSDP" else {"example": DEVICES // 2, "model": 2}
    mesh = devices(**axes)

    def one(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        z, fn = net.start(model, x)

        def value(z: Any) -> jax.Array:
            return net.score(fn(z), y)

        if not nodes:
            return attrax.gradient(value, z)
        rule = gauss_legendre(nodes)
        return attrax.integrated_gradients(
            value, z, net.baseline(z), rule=rule, batch_size=batch_size
        )

    explain = jax.vmap(one, in_axes=(None, 0, 0))

    def shared(model: Any, xs: jax.Array, ys: jax.Array) -> jax.Array:
        if way == "brought together":
            model = jax.lax.with_sharding_constraint(model, NamedSharding(mesh, P()))
        found = explain(model, xs, ys)
        return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, P("example")))

    model = (fsdp if layout == "FSDP" else tensor_parallel)(net.model, mesh)
    xs, ys = jax.device_put((net.xs, net.ys), NamedSharding(mesh, P("example")))
    return compare(explain, (net.model, net.xs, net.ys), shared, (model, xs, ys))


def of_prior(net: Network, way: str, batch_size: int = DEVICES) -> Comparison:
    """The derivative of a mean prior by the weights, examples divided."""
    mesh = devices(example=DEVICES)

    def loss(model: Any, xs: jax.Array, ys: jax.Array, batch_size: int) -> jax.Array:
        def prior(x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.sum(jnp.abs(of_input(net, model, x, y, gauss_legendre(2))))

        if way == "vmap":
            return jnp.mean(jax.vmap(prior)(xs, ys))
        return priors.batch_mean(prior, xs, ys, batch_size=batch_size)

    def part(model: Any, xs: jax.Array, ys: jax.Array) -> Any:
        found = jax.value_and_grad(loss)(model, xs, ys, batch_size // DEVICES)
        return jax.lax.pmean(found, "example")

    shared = alone = jax.value_and_grad(functools.partial(loss, batch_size=batch_size))
    if way == "batch_mean in shard_map":
        specs = P(), P("example"), P("example")
        shared = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
    model = jax.device_put(net.model, NamedSharding(mesh, P()))
    xs, ys = jax.device_put((net.xs, net.ys), NamedSharding(mesh, P("example")))
    return compare(alone, (net.model, net.xs, net.ys), shared, (model, xs, ys))


# -------------------------------------------------------------------------------------- the tables


def run(quick: bool = False) -> list[Table]:
    """The tables of this benchmark."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    command = [sys.executable, "-m", __spec__.name, "--rows", *["--quick"] * quick]
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return tables(json.loads(done.stdout.splitlines()[-1]))


def measure(quick: bool) -> dict[str, list[list[Any]]]:
    """The rows of each table."""
    networks = [convolutional()] if quick else [convolutional(), text()]
    methods = METHODS[:2] if quick else METHODS
    wide = text(width=32 if quick else 128)
    return {
        "examples": [_row(net, m, by_example(net, m)) for net in networks for m in methods],
        "nodes": [
            _row(net, m, by_node(net, m))
            for net in networks
            for m in methods
            if m is not smoothgrad
        ],
        "weights": [
            _of_weights(layout, way, nodes, by_weight(wide, layout, way, nodes))
            for layout, way, nodes in (
                ("FSDP", "left", 0),
                ("FSDP", "left", 32),
                ("FSDP", "brought together", 32),
                ("tensor parallel", "left", 0),
                ("tensor parallel", "left", 32),
            )
        ],
        "mean": [
            [way, *_of_comparison(of_prior(networks[0], way))]
            for way in ("vmap", "batch_mean", "batch_mean in shard_map")
        ],
    }


def _row(net: Network, method: Callable, found: Comparison) -> list[Any]:
    return [f"{net.name}, {method.__name__.removeprefix('of_')}", *_of_comparison(found)]


def _of_weights(layout: str, way: str, nodes: int, found: Comparison) -> list[Any]:
    method = f"integrated gradients, {nodes} nodes" if nodes else "gradient"
    return [f"{layout}, {method}, weights {way}", *_of_comparison(found)]


def _of_comparison(found: Comparison) -> list[Any]:
    kinds = ", ".join(f"{t.times} {kind}" for kind, t in found.traffic.items()) or "none"
    size = sum(t.bytes for t in found.traffic.values()) / 2**20
    return [found.alone / 1e6, found.shared / 1e6, found.ratio, kinds, size, found.difference]


_COLUMNS = [
    ("MFLOP alone", ".1f"),
    ("of one of eight", ".2f"),
    ("ratio", ".2f"),
    ("collectives of one run", ""),
    ("MiB", ".3f"),
    ("difference", ".1e"),
]
_COUNTED = (
    "Operations of one device, by XLA's count of the compiled program; the body of a loop counts "
    "once. Collectives: those in a loop count as often as it goes round; MiB: of what comes out of "
    "them. Difference from one device: relative to the largest entry."
)


def tables(rows: dict[str, list[list[Any]]]) -> list[Table]:
    """The tables of `measure`."""
    examples, nodes, weights, mean = (rows[k] for k in ("examples", "nodes", "weights", "mean"))
    gradient, left, together, parallel_gradient, parallel = (row[5] for row in weights)
    return [
        Table(
            name="devices_examples",
            title="Sixteen examples divided among eight devices",
            caption=f"{RULE.n} points, all at once. {_COUNTED}",
            columns=[("network, method", ""), *_COLUMNS],
            rows=examples,
            claims=[
                Claim("operations alone / of one of eight", min(r[3] for r in examples), 7.6),
                Claim("MiB exchanged", max(r[5] for r in examples), at_most=0),
                Claim("difference", max(r[6] for r in examples), at_most=1e-6),
            ],
        ),
        Table(
            name="devices_nodes",
            title=f"{RULE.n} path points of one example divided among eight devices",
            caption=(
                "`jax.shard_map` over the rule, one sum at the end. What is done once for an "
                f"example, such as the layers before a cut, every device does. {_COUNTED}"
            ),
            columns=[("network, method", ""), *_COLUMNS],
            rows=nodes,
            claims=[
                Claim(
                    "operations alone / of one of eight, input", min(r[3] for r in nodes[::4]), 7.6
                ),
                Claim("difference", max(r[6] for r in nodes), at_most=1e-6),
            ],
        ),
        Table(
            name="devices_weights",
            title="Weights divided, a transformer whose layers run under a scan",
            caption=(
                "FSDP: every weight divided by the axis of the examples. Tensor parallel: four "
                "devices for the examples, times two for the last axis of every weight. Left: XLA "
                "chooses what to move. Brought together: replicated by a sharding constraint "
                f"before the loop. 8 points at once. {_COUNTED}"
            ),
            columns=[("layout, method, weights", ""), *_COLUMNS],
            rows=weights,
            claims=[
                Claim("MiB, FSDP, brought together / one gradient", together / gradient, at_most=1),
                Claim("MiB, FSDP, brought together / left", together / left, at_most=0.1),
                Claim(
                    "MiB, tensor parallel, 32 nodes / (32 x one gradient)",
                    parallel / (32 * parallel_gradient),
                    at_most=1.1,
                ),
                Claim(
                    "difference, 32 nodes", max(r[6] for r in weights if "32" in r[0]), at_most=1e-6
                ),
            ],
        ),
        Table(
            name="devices_mean",
            title="The derivative of a mean prior by the weights, examples divided",
            caption=(
                "Sixteen examples, integrated gradients with two points; `batch_mean` eight "
                "examples at once, in `jax.shard_map` one on each device; one device: the same, "
                f"eight at once. {_COUNTED}"
            ),
            columns=[("mean", ""), *_COLUMNS],
            rows=mean,
            claims=[
                Claim("operations alone / of one of eight", min(r[3] for r in mean), 7),
                Claim("difference", max(r[6] for r in mean), at_most=2e-6),
            ],
        ),
    ]


if __name__ == "__main__":
    if "--rows" in sys.argv:
        print(json.dumps(measure("--quick" in sys.argv)))
    else:
        main(run, __doc__)
