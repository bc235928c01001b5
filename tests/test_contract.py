"""Every method, against what the table in `contract.py` declares."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import attrax
import contract
from attrax import concepts, metrics
from comparisons import close

BATCH = 8
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
SCANNING = [m for m in contract.METHODS if m.name in ("integrated_gradients", "influence, linear")]

_DIRECTIONS = np.random.default_rng(0).normal(size=(3, 4)) / 2
_EXAMPLES = np.random.default_rng(1).normal(size=(BATCH, 2, 3))

# What the code generator makes faster is of no use to a program that runs once.
_OPTIONS = {"xla_backend_optimization_level": 0}


def compiled(fn):
    return jax.jit(fn, compiler_options=_OPTIONS)


@contextlib.contextmanager
def switches():
    """JAX's own switches for debugging."""
    with (
        jax.debug_nans(True),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_key_reuse(True),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


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


def example(dtype="float32"):
    return examples(dtype)[0]


@functools.cache
def program(method):
    """The method of one example as a compiled function, and how often it calls the network."""
    calls = []

    def counted(x):
        calls.append(x)
        return network(x)

    explain = compiled(lambda x: method.explain(counted, x))

    def switched(x):
        with switches():
            return explain(x)

    return switched, calls


@functools.cache
def explained(method):
    return program(method)[0](example())


def declaring(*names):
    """One case for each method that declares all of `names`."""
    chosen = [method for method in contract.METHODS if set(names) <= method.holds]
    return pytest.mark.parametrize("method", chosen, ids=[method.name for method in chosen])


@declaring("jit")
def test_jit_is_eager_under_the_switches_of_jax(method):
    with switches():
        eager = method.explain(network, example())
    close(explained(method), eager)


@declaring("jit")
def test_traces_are_bounded(method):
    explain, calls = program(method)
    explain(example())
    traced = len(calls)
    # A metric also explains, and looks at the score itself.
    assert traced <= (6 if method.public.startswith("metrics.") else 2)
    explain(examples()[1])
    assert len(calls) == traced


@declaring("vmap")
def test_vmap_is_loop_and_keeps_a_sharding(method):
    """Sharded over examples: the same numbers, the same sharding, and no communication."""
    explain = compiled(jax.vmap(lambda x: method.explain(network, x)))
    found, lowered = explain(sharded()), explain.lower(sharded())
    assert found.sharding.is_equivalent_to(sharded().sharding, found.ndim)
    program_text = lowered.compile(compiler_options=_OPTIONS).as_text()
    assert method.together or not [name for name in COLLECTIVES if name in program_text]
    close(found[0], explained(method))
    close(found[1], program(method)[0](examples()[1]))


@functools.cache
def sharded():
    sharding = NamedSharding(Mesh(jax.devices(), ("example",)), PartitionSpec("example"))
    return jax.device_put(examples(), sharding)


@declaring("batch_sum")
def test_batch_sum_is_vmap_and_needs_no_collective(method):
    explain = compiled(lambda xs: method.explain(batch_network, xs))
    found = explain(sharded())
    assert found.sharding.is_equivalent_to(sharded().sharding, found.ndim)
    assert not [
        name for name in COLLECTIVES if name in explain.lower(sharded()).compile().as_text()
    ]
    if not method.random:
        close(found[0], explained(method))
        close(found[1], program(method)[0](examples()[1]))


@declaring("grad")
def test_attribution_is_twice_differentiable(method):
    """By both modes, against differences; in float64, where it is also what float32 rounds."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x, u, v = (jnp.asarray(a) for a in (_EXAMPLES[0], *rng.normal(size=(2, 2, 3))))
        assert x.dtype == jnp.float64
        shape = jax.eval_shape(lambda x: method.explain(network, x), x).shape
        w = jnp.asarray(rng.normal(size=shape))

        @compiled
        def derivatives(x):
            total = lambda x: jnp.vdot(w, method.explain(network, x).astype("float64"))  # noqa: E731
            value, forward = jax.jvp(total, (x,), (v,))
            slope = lambda x: jnp.vdot(jax.grad(total)(x), u)  # noqa: E731
            return value, forward, slope(x), jnp.vdot(jax.grad(slope)(x), v)

        step = 1e-5
        here, ahead, behind = (
            [float(number) for number in derivatives(x + by * v)] for by in (0, step, -step)
        )
        differences = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
        assert here[1] == pytest.approx(differences[0], rel=1e-5, abs=1e-7)
        assert here[3] == pytest.approx(differences[2], rel=1e-4, abs=1e-6)
        if not method.random:  # Random numbers of another width are other numbers.
            close(np.vdot(w, explained(method)), np.float64(here[0]), 1e-4)


@declaring()
def test_the_dtype_is_kept(method):
    kept = {"bfloat16": "float32" if method.wide else "bfloat16", "float64": "float64"}
    for given, expected in kept.items():
        with jax.enable_x64(given == "float64"), jax.numpy_dtype_promotion("strict"):
            shape = jax.ShapeDtypeStruct((2, 3), given)
            found = jax.eval_shape(lambda x: method.explain(network, x), shape)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(expected)}


@declaring("zero")
def test_bfloat16_is_near_float32(method):
    x = example("bfloat16")
    explain = program(method)[0]
    close(explain(x), explain(x.astype(jnp.float32)), 2e-2)


@declaring("pytree")
def test_pytree_in_is_pytree_out(method):
    a, b = examples()[:2]
    tree = {"image": a, "parts": [b]}
    with switches():
        found = jax.eval_shape(lambda tree: method.explain(tree_network, tree), tree)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, tree)


@declaring("zero")
def test_a_score_without_the_input_has_an_attribution_of_zeros(method):
    explain = compiled(lambda x: method.explain(lambda x: jnp.float32(3), x))
    assert (explain(example()) == 0).all()


@declaring()
def test_every_method_lowers_for_cpu_gpu_and_tpu(method):
    exported = jax.export.export(
        jax.jit(lambda x: method.explain(network, x)), platforms=["cpu", "cuda", "tpu"]
    )(jax.ShapeDtypeStruct((2, 3), "float32"))
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_sharded_over_an_explicit_mesh():
    mesh = jax.make_mesh((8,), ("example",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("example"))
    for method in SCANNING:
        explain = compiled(jax.vmap(lambda x, method=method: method.explain(network, x)))
        expected = np.asarray(explain(examples()))
        with jax.set_mesh(mesh):
            attribution = explain(jax.device_put(examples(), sharding))
            assert attribution.sharding.is_equivalent_to(sharding, attribution.ndim)
        close(attribution, expected)


def test_inside_shard_map():
    mesh = jax.make_mesh((8,), ("example",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("example")
    for method in SCANNING:
        explain = jax.vmap(lambda x, method=method: method.explain(network, x))
        mapped = jax.shard_map(explain, mesh=mesh, in_specs=spec, out_specs=spec)
        close(compiled(mapped)(examples()), compiled(explain)(examples()))


# Public functions that explain nothing: models, layers, edits, and what runs faster or elsewhere.
NO_METHODS = {
    "as_model",
    "capture",
    "check",
    "cut",
    "fitting_batch_size",
    "for_cpu",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "gradients_at",
    "intervene",
    "layers",
    "reverse_jvp",
    "tap",
    "unbatched",
    "metrics.cascading",
    "metrics.independent",
    "metrics.leaf_names",
    "metrics.randomised",
    "metrics.shuffled",
}


def functions(module, prefix=""):
    """The public functions of a namespace, its classes left out."""
    return {
        prefix + name
        for name in dir(module)
        if not name.startswith("_")
        and callable(getattr(module, name))
        and not isinstance(getattr(module, name), type)
    }


def test_every_public_method_is_in_the_table():
    ours = {
        name
        for name in functions(concepts, "concepts.")
        if getattr(concepts, name.partition(".")[2]).__module__ == "attrax.concepts"
    }
    public = functions(attrax) | functions(metrics, "metrics.") | ours
    table = {method.public for method in contract.METHODS}
    assert public - table - NO_METHODS == set(), "add rows to tests/support/contract.py"
    assert (table | NO_METHODS) - public == set(), "these are gone"


def test_table_prints():
    lines = contract.markdown().splitlines()
    assert lines[0] == "| method | jit | vmap | grad | batch-sum | pytree | zero |"
    assert "| gradient | yes | yes | yes | yes | yes | yes |" in lines
