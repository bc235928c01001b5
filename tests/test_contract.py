"""Every method, against what the table in `contract.py` declares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

import contract

BATCH = 8
SCANNING = [m for m in contract.METHODS if m.name in ("integrated_gradients", "influence, linear")]
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")

_DIRECTIONS = np.random.default_rng(0).normal(size=(3, 4)) / 2
_EXAMPLES = np.random.default_rng(1).normal(size=(BATCH, 2, 3))
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-10}


def network(x):
    """A smooth function of one example, (positions, 3), in the dtype of x."""
    hidden = jnp.tanh(x @ jnp.asarray(_DIRECTIONS, x.dtype))
    return jnp.sum(hidden * hidden) + jnp.sum(hidden)


def batch_network(xs):
    return jnp.sum(jax.vmap(network)(xs))


def tree_network(tree):
    return network(tree["image"]) * network(tree["parts"][0])


def examples(dtype="float32"):
    return jnp.asarray(_EXAMPLES, dtype)


def assert_close(actual, expected, dtype="float32"):
    """Equal within the house tolerance, relative to the largest attribution."""
    jax.tree.map(lambda a, e: _close(np.asarray(a), np.asarray(e), dtype), actual, expected)


def _close(actual, expected, dtype):
    assert actual.shape == expected.shape
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    atol = TOLERANCE[dtype] * max(np.abs(expected).max(), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


RANDOM = (
    "influence, gaussian",
    "smoothgrad",
    "smoothgrad_squared",
    "vargrad",
    "expected_gradients",
)


# Each of the others is one of these with another path, or under an expectation: of them `make test`
# checks jit, and `make soak` the rest.
FOUNDATION = (
    "gradient",
    "gradient_times_input",
    "integrated_gradients",
    "path_integrated_gradients",
    "influence, linear",
    "influence, gaussian",
)


def declaring(*names, always=False):
    """One case for each method that declares all of `names`."""
    chosen = [
        pytest.param(
            method,
            id=method.name,
            marks=[] if always or method.name in FOUNDATION else [pytest.mark.soak],
        )
        for method in contract.METHODS
        if set(names) <= method.holds
    ]
    return pytest.mark.parametrize("method", chosen)


@declaring("jit", always=True)
@pytest.mark.usefixtures("strict")
def test_jit_is_eager(method):
    x = examples()[0]
    compiled = jax.jit(lambda x: method.explain(network, x))(x)
    assert_close(compiled, method.explain(network, x))


@declaring("vmap")
@pytest.mark.usefixtures("strict")
def test_vmap_is_loop(method):
    xs = examples()[:3]
    explain = jax.jit(lambda x: method.explain(network, x))
    assert_close(jax.vmap(explain)(xs), jnp.stack([explain(x) for x in xs]))


@declaring("grad")
def test_attribution_is_twice_differentiable(method):
    with jax.enable_x64(True):
        x = examples("float64")[0]
        explain = jax.jit(lambda x: method.explain(network, x))
        check_grads(explain, (x,), order=1, modes=["fwd"])
        check_grads(explain, (x,), order=2, modes=["rev"])


@declaring("batch_sum")
@pytest.mark.usefixtures("strict")
def test_batch_sum_is_vmap(method):
    xs = examples()
    expected = jax.vmap(lambda x: method.explain(network, x))(xs)
    assert_close(jax.jit(lambda xs: method.explain(batch_network, xs))(xs), expected)


@declaring()
@pytest.mark.usefixtures("strict")
def test_pytree_in_is_pytree_out(method):
    a, b = examples()[:2]
    tree = {"image": a, "parts": [b]}
    attribution = jax.jit(lambda tree: method.explain(tree_network, tree))(tree)
    assert jax.tree.structure(attribution) == jax.tree.structure(tree)
    assert jax.tree.map(jnp.shape, attribution) == jax.tree.map(jnp.shape, tree)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(attribution))


@declaring()
@pytest.mark.usefixtures("strict")
def test_bfloat16_in_is_bfloat16_out(method):
    explain = jax.jit(lambda x: method.explain(network, x))
    x = examples("bfloat16")[0]
    attribution = explain(x)
    assert attribution.dtype == jnp.bfloat16
    assert_close(attribution, explain(x.astype(jnp.float32)), "bfloat16")


@declaring()
def test_float64_in_is_float64_out(method):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        explain = jax.jit(lambda x: method.explain(network, x))
        attribution = explain(examples("float64")[0])
        assert attribution.dtype == jnp.float64
        narrow = explain(examples("float32")[0])
        assert narrow.dtype == jnp.float32
        # Random numbers of another width are other numbers.
        if method.name not in RANDOM:
            assert_close(narrow, attribution)


@declaring("vmap")
def test_sharding_in_is_sharding_out(method):
    _check_sharded(jax.vmap(lambda x: method.explain(network, x)))


@declaring("batch_sum")
def test_sharded_batch_sum_needs_no_collective(method):
    _check_sharded(lambda xs: method.explain(batch_network, xs))


def _check_sharded(explain):
    """Sharded over examples: the same numbers, the same sharding, and no communication."""
    sharding = NamedSharding(Mesh(jax.devices(), ("example",)), PartitionSpec("example"))
    explain = jax.jit(explain)
    alone, xs = explain(examples()), jax.device_put(examples(), sharding)
    attribution = explain(xs)
    assert attribution.sharding.is_equivalent_to(sharding, xs.ndim)
    assert_close(attribution, alone)
    program = explain.lower(xs).compile().as_text()
    assert not [name for name in COLLECTIVES if name in program]


@declaring()
@pytest.mark.usefixtures("strict")
def test_a_score_without_the_input_has_an_attribution_of_zeros(method):
    explain = jax.jit(lambda x: method.explain(lambda x: jnp.float32(3), x))
    np.testing.assert_array_equal(explain(examples()[0]), np.zeros((2, 3)))


@declaring("jit")
def test_traces_are_bounded(method):
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return network(x)

    explain = jax.jit(lambda x: method.explain(counted, x))
    explain(examples()[0])
    assert calls <= 2
    traced = calls
    explain(examples()[1])
    assert calls == traced


def test_sharded_over_an_explicit_mesh():
    mesh = jax.make_mesh((8,), ("example",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("example"))
    for method in SCANNING:
        explain = jax.jit(jax.vmap(lambda x, method=method: method.explain(network, x)))
        expected = np.asarray(explain(examples()))
        with jax.set_mesh(mesh):
            attribution = explain(jax.device_put(examples(), sharding))
            assert attribution.sharding.is_equivalent_to(sharding, attribution.ndim)
        assert_close(attribution, expected)


def test_inside_shard_map():
    mesh = jax.make_mesh((8,), ("example",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("example")
    for method in SCANNING:
        explain = jax.vmap(lambda x, method=method: method.explain(network, x))
        mapped = jax.shard_map(explain, mesh=mesh, in_specs=spec, out_specs=spec)
        assert_close(jax.jit(mapped)(examples()), explain(examples()))


def test_table_prints():
    lines = contract.markdown().splitlines()
    assert lines[0] == "| method | jit | vmap | grad | batch-sum | host |"
    assert "| gradient | yes | yes | yes | yes |  |" in lines
