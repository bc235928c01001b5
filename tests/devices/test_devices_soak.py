"""Slow: every method and layout on eight devices, tolerances, and two processes.

    python tests/devices/test_devices_soak.py host PROCESS PORT
    python tests/devices/test_devices_soak.py divided_weights

are what the tests start: a program that waits for another one is ended after a time limit.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import attrax
from attrax.quadrature import gauss_legendre, padded
from benchmarks import devices

pytestmark = pytest.mark.soak

PROJECT = Path(__file__).parents[2]
CLOSE = 1e-6  # of the largest attribution
FEWER = 7.6  # operations of one device alone, over those of one of eight
SECONDS = 150

# ------------------------------------------------------------------------- examples, nodes, weights


@pytest.fixture(scope="module")
def networks():
    return {"convolutional": devices.convolutional(), "text": devices.text()}


@pytest.mark.parametrize("method", devices.METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("name", ["convolutional", "text"])
def test_divided_examples_need_no_communication(networks, name, method):
    found = devices.by_example(networks[name], method)
    assert found.traffic == {}
    assert found.ratio >= FEWER
    assert found.difference <= CLOSE
    assert found.specs == (P("example"),)


# The layers before the cut are not divided: every device does them for itself.
@pytest.mark.parametrize(
    ("name", "method", "fewer"),
    [
        ("convolutional", devices.of_input, FEWER),
        ("convolutional", devices.of_layer, 5),
        ("convolutional", devices.conductance, 6),
        ("text", devices.of_layer, 4),
    ],
)
def test_divided_nodes_are_summed_once(networks, name, method, fewer):
    found = devices.by_node(networks[name], method)
    assert [(kind, traffic.times) for kind, traffic in found.traffic.items()] == [("all-reduce", 1)]
    assert found.ratio >= fewer
    assert found.difference <= CLOSE


def test_divided_nodes_of_divided_examples(networks):
    """A mesh of examples and nodes; JAX divides the examples by itself."""
    net, rule = networks["convolutional"], gauss_legendre(8)
    mesh = devices.devices(example=4, node=2)
    explain = jax.vmap(
        lambda model, x, y, rule: devices.of_input(net, model, x, y, rule), (None, 0, 0, None)
    )
    specs = P(), P(), P(), P("node")
    shared = jax.shard_map(
        lambda *args: jax.lax.psum(explain(*args), "node"),
        mesh=mesh,
        in_specs=specs,
        out_specs=P(),
        axis_names={"node"},
        check_vma=False,
    )
    model = jax.device_put(net.model, NamedSharding(mesh, P()))
    xs, ys = jax.device_put((net.xs, net.ys), NamedSharding(mesh, P("example")))
    found = devices.compare(
        explain, (net.model, net.xs, net.ys, rule), shared, (model, xs, ys, rule)
    )
    assert found.ratio >= FEWER
    assert found.difference <= CLOSE
    assert found.specs == (P("example"),)
    assert [traffic.times for traffic in found.traffic.values()] == [1]


def test_divided_samples_are_one_estimate(networks):
    """Other noise on every device: the mean of the means, and its standard error."""
    net = networks["convolutional"]
    mesh = devices.devices(sample=8)

    def part(model, x, y, key):
        key = jax.random.fold_in(key, jax.lax.axis_index("sample"))
        found = attrax.smoothgrad(
            lambda x: attrax.gradient(lambda x: model(x)[y], x),
            x,
            key=key,
            sigma=0.3,
            num_samples=16,
        )
        variance = jax.lax.pmean(found.standard_error**2, "sample") / 8
        return jax.lax.pmean(found.value, "sample"), jnp.sqrt(variance)

    explain = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
    value, error = explain(net.model, net.xs[0], net.ys[0], jax.random.key(0))
    other, _ = explain(net.model, net.xs[0], net.ys[0], jax.random.key(1))
    apart = (value - other) / (np.sqrt(2) * error)
    assert 0.8 < float(jnp.sqrt(jnp.mean(apart**2))) < 1.2


def bytes_of(found):
    return sum(traffic.bytes for traffic in found.traffic.values())


def size_of(model):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(model))


def test_divided_weights_are_the_users_affair():
    """FSDP and tensor parallel, as XLA moves them and with weights brought together first."""
    net = devices.text(width=64)
    left = devices.by_weight(net, "FSDP", "left", 16)
    together = devices.by_weight(net, "FSDP", "brought together", 16)
    parallel = devices.by_weight(net, "tensor parallel", "left", 16)
    for found in (left, together, parallel):
        assert found.difference <= CLOSE
        assert found.ratio >= FEWER
        assert found.specs == (P("example"),)
    # Once, before the loop, and nothing after it.
    assert set(together.traffic) == {"all-gather"}
    assert bytes_of(together) <= size_of(net.model)
    assert bytes_of(together) < bytes_of(left) / 10


# How often the weights' size is exchanged: XLA sums some of them in parts, twice as long together.
@pytest.mark.parametrize(
    ("way", "most"), [("vmap", 2), ("batch_mean", 4), ("batch_mean in shard_map", 1.01)]
)
def test_the_derivative_of_a_mean_over_divided_examples(networks, way, most):
    net = networks["convolutional"]
    found = devices.of_prior(net, way)
    assert found.ratio >= 7
    assert found.difference <= 2 * CLOSE
    assert set(found.traffic) == {"all-reduce"}
    assert bytes_of(found) <= most * size_of(net.model)


# -------------------------------------------------------------------------------------- tolerances

TOLERANCE = 1e-4


def perceptron():
    """Weights, and sixteen examples of which some need more points than others."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (32, 64), (64, 16)
    weights = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=False)]
    scale = jnp.linspace(0.1, 6, 16)[:, None]
    return weights, scale * jax.random.normal(keys[2], (16, 32)), jnp.arange(16)


def output(weights, x, y):
    first, second = weights
    return (jnp.tanh(x @ first) @ second)[y]


def certified(weights, xs, ys):
    return attrax.certified_integrated_gradients(
        lambda x, y: output(weights, x, y), xs, ys, tolerance=TOLERANCE, batch_size=16
    )


def check_certified(found, expected):
    """The same evaluations and decisions, and nearly the same numbers."""
    assert len(set(np.asarray(expected.evaluations).tolist())) > 1
    for shard in found.evaluations.addressable_shards:
        np.testing.assert_array_equal(shard.data, expected.evaluations[shard.index])
    for shard in found.value.addressable_shards:
        atol = CLOSE * np.abs(expected.value).max()
        np.testing.assert_allclose(shard.data, expected.value[shard.index], rtol=0, atol=atol)


def by_shard(mesh):
    specs = P(), P("example"), P("example")
    return jax.jit(
        jax.shard_map(certified, mesh=mesh, in_specs=specs, out_specs=P("example"), check_vma=False)
    )


def test_every_shard_stops_by_itself():
    """Loops whose lengths differ from device to device, and nothing that waits for another."""
    args = perceptron()
    explain = by_shard(devices.devices(example=8))
    assert devices.traffic(explain.lower(*args).compile()) == {}
    check_certified(explain(*args), jax.jit(certified)(*args))


def test_divided_weights_keep_no_device_waiting():
    (found,) = run_together([["divided_weights"]], virtual=8)
    assert found["together"] == {"all-gather": 2}
    assert sum(found["lock step"].values()) > 10


def divided_weights():
    """Weights divided by the axis of the examples: brought together, and as they are."""
    mesh = devices.devices(example=8)
    weights, xs, ys = perceptron()
    expected = jax.jit(certified)(weights, xs, ys)
    sharding = NamedSharding(mesh, P("example"))
    args = jax.device_put((weights, xs, ys), sharding)
    found = {}
    for name, explain in (
        ("together", by_shard(mesh)),
        ("lock step", jax.jit(certified, out_shardings=sharding)),
    ):
        check_certified(explain(*args), expected)
        traffic = devices.traffic(explain.lower(*args).compile())
        found[name] = {kind: count.times for kind, count in traffic.items()}
    return found


# ----------------------------------------------------------------------------------- two processes


def test_two_processes_are_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found = run_together([["host", "0", port], ["host", "1", port]], virtual=4)
    assert [host["devices"] for host in found] == [[4, 8], [4, 8]]
    assert max(host[kind] for host in found for kind in ("examples", "nodes")) <= CLOSE


def host(process, port):
    """One of two processes of four devices each; what it holds is what one device finds alone."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process), initialization_timeout=60)
    weights, xs, ys = (jax.tree.map(np.asarray, part) for part in perceptron())
    rule = padded(gauss_legendre(13), 8)

    def one(weights, x, y, rule):
        return attrax.integrated_gradients(lambda x: output(weights, x, y), x, rule=rule)

    explain = jax.jit(jax.vmap(one, (None, 0, 0, None)))
    expected = np.asarray(explain(weights, xs, ys, rule))

    mesh = devices.devices(example=8)
    whole, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P("example"))
    mine = slice(8 * int(process), 8 * int(process) + 8)

    def place(tree, sharding):
        put = jax.make_array_from_process_local_data
        return jax.tree.map(lambda leaf: put(sharding, leaf), tree)

    shared = place(weights, whole), place(xs[mine], divided), place(ys[mine], divided)
    by_example = explain(*shared, rule)
    check_certified(by_shard(mesh)(*shared), jax.jit(certified)(weights, xs, ys))

    by_node = jax.jit(
        jax.shard_map(
            lambda *args: jax.lax.psum(one(*args), "example"),
            mesh=mesh,
            in_specs=(P(), P(), P(), P("example")),
            out_specs=P(),
            check_vma=False,
        )
    )(*place((weights, xs[3], ys[3]), whole), rule)

    def farthest(found, expected):
        shards = [(shard.data, expected[shard.index]) for shard in found.addressable_shards]
        assert len(shards) == 4
        return max(devices.apart(a, b) for a, b in shards)

    return {
        "devices": [jax.local_device_count(), jax.device_count()],
        "examples": farthest(by_example, expected),
        "nodes": farthest(by_node, expected[3]),
    }


def run_together(commands, virtual):
    """What functions of this file return, each in a process of its own, all at the same time."""
    env = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={virtual}",
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "PYTHONPATH": str(PROJECT),
    }
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, __file__, *command],
                    env=env,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for command in commands
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
        for process, (_, errors) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, errors
    return [json.loads(printed.splitlines()[-1]) for printed, _ in outputs]


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps({"divided_weights": divided_weights, "host": host}[name](*arguments)))
