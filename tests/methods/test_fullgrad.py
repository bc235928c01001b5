"""FullGrad: complete where it says so, and nowhere else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.test_util import check_grads

import attrax
from attrax import scores
from attrax.metrics import completeness_gap
from comparisons import close

_RNG = np.random.default_rng(5)
W = [_RNG.normal(size=shape) for shape in ((3, 8), (8, 8), (8,))]
X = jnp.array([1.0, -2.0, 0.5])
BIASES = [jnp.asarray(_RNG.normal(size=8), "float32"), {"out": jnp.float32(0.75)}]


def network(activation):
    """Two hidden layers, one bias of each kind; the first is added twice."""

    def fn(x, biases):
        hidden, last = biases
        first, second, third = (jnp.asarray(w, x.dtype) for w in W)
        h = activation(x @ first + hidden)
        h = activation(h @ second - hidden)
        return h @ third + last["out"]

    return fn


relu_network = network(jax.nn.relu)
explain = jax.jit(attrax.full_gradient, static_argnums=0)
saliency = jax.jit(attrax.full_gradient_map, static_argnums=1)


def gap_of(fn, found, x, biases):
    whole = attrax.FullGradient(x, biases)
    return completeness_gap(lambda both: fn(*both), found, whole)


def relative_gap(fn, x=X, biases=BIASES):
    found = explain(fn, x, biases)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found))
    return abs(gap_of(fn, found, x, biases)) / largest


# Answers known on paper.


def test_one_neuron_that_is_on_and_one_that_is_off():
    def fn(x, b):
        return jax.nn.relu(2 * x[0] + b[0]) + jax.nn.relu(x[1] + b[1]) - b[2]

    found = explain(fn, jnp.array([3.0, -4.0]), jnp.array([1.0, 2.0, 5.0]))
    assert found.input.tolist() == [6.0, 0.0]
    assert found.biases.tolist() == [1.0, 0.0, -5.0]


def test_it_is_gradient_times_input_of_both():
    found = explain(relu_network, X, BIASES)
    close(found.input, X * jax.grad(relu_network)(X, BIASES))
    slopes = jax.grad(relu_network, argnums=1)(X, BIASES)
    jax.tree.map(lambda f, b, s: close(f, b * s), found.biases, BIASES, slopes)


def test_completeness_of_relu_networks():
    assert relative_gap(relu_network) < 1e-6
    assert relative_gap(network(jax.nn.leaky_relu)) < 1e-6
    # Without the biases something is missing.
    alone = explain(relu_network, X, BIASES).input
    assert abs(jnp.sum(alone) - relu_network(X, BIASES)) > 0.1


@pytest.mark.parametrize(
    ("activation", "scale"),
    [(jnp.tanh, 1), (jax.nn.gelu, 0.1), (jax.nn.relu6, 6)],
    ids=["tanh", "gelu", "relu6"],
)
def test_no_completeness_elsewhere(activation, scale):
    assert relative_gap(network(activation), scale * X) > 1e-2


def test_a_cap_that_is_passed_as_a_bias_completes_relu6():
    def fn(x, constants):
        biases, cap = constants
        return network(lambda h: jnp.minimum(jax.nn.relu(h), cap))(x, biases)

    constants = (BIASES, jnp.float32(6.0))
    assert float(fn(6 * X, constants)) == pytest.approx(
        float(network(jax.nn.relu6)(6 * X, BIASES)), rel=1e-6
    )
    assert relative_gap(fn, 6 * X, constants) < 1e-6


# A Flax network, unmodified.

IMAGE = jnp.asarray(_RNG.normal(size=(8, 8, 3)), "float32")


class Network(nn.Module):
    """`norm`: batch norm on stored statistics, or folded into the convolution."""

    norm: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="conv", use_bias=not self.norm)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(5, (3, 3), name="late")(x))
        return nn.Dense(3, name="head")(jnp.mean(x, axis=(0, 1)))


@pytest.fixture(scope="module")
def variables():
    drawn = jax.jit(Network().init)(jax.random.key(1), IMAGE)
    # Biases begin at 0, and statistics at 0 and 1. A variance has to be positive.
    rng, flat = np.random.default_rng(2), flatten_dict(drawn)
    for path, leaf in flat.items():
        if path[-1] != "kernel":
            flat[path] = jnp.abs(leaf + jnp.asarray(rng.normal(size=leaf.shape) / 3, leaf.dtype))
    return unflatten_dict(flat)


def folded(variables):
    """The same function, with batch norm inside the convolution."""
    params, stats = dict(variables["params"]), variables["batch_stats"]["norm"]
    norm = params.pop("norm")
    factor = norm["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    params["conv"] = {
        "kernel": params["conv"]["kernel"] * factor[None, None, None],
        "bias": norm["bias"] - stats["mean"] * factor,
    }
    return {"params": params}


def split(module, variables, names):
    """The score of class 2 as a function of input and biases, and the biases."""
    flat = flatten_dict(variables)
    biases = {path: leaf for path, leaf in flat.items() if path[-1] in names}

    def fn(x, biases):
        return scores.logit(2)(module.apply(unflatten_dict({**flat, **biases}), x))

    return fn, biases


def total(tree):
    return sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(tree))


def test_batch_norm_on_stored_statistics(variables):
    fn, biases = split(Network(), variables, ("bias", "mean"))
    assert len(biases) == 4
    assert relative_gap(fn, IMAGE, biases) < 1e-5
    # The stored mean is a bias: without it something is missing.
    without, fewer = split(Network(), variables, ("bias",))
    assert relative_gap(without, IMAGE, fewer) > 1e-2


def test_batch_norm_folded(variables):
    fn, biases = split(Network(), variables, ("bias", "mean"))
    fold, folded_biases = split(Network(norm=False), folded(variables), ("bias",))
    assert float(fold(IMAGE, folded_biases)) == pytest.approx(float(fn(IMAGE, biases)), rel=1e-5)
    apart, together = explain(fn, IMAGE, biases), explain(fold, IMAGE, folded_biases)
    close(together.input, apart.input, 1e-4)
    assert total(together.biases) == pytest.approx(total(apart.biases), rel=1e-4)


def test_contributions_at_each_position(variables):
    simple = folded(variables)
    fn, biases = split(Network(norm=False), simple, ("bias",))
    found = explain(fn, IMAGE, biases)
    model, layers = attrax.from_linen(Network(norm=False), simple), ["conv", "late"]

    @jax.jit
    def spread(model, x):
        slopes = attrax.gradients_at(model, x, score=scores.logit(2), at=layers)
        return {at: slopes[at] * simple["params"][at]["bias"][None, None] for at in layers}

    parts = spread(model, IMAGE)
    for at in layers:
        close(attrax.channels(parts[at]), found.biases["params", at, "bias"], 1e-4)
    seen = saliency([found.input, *parts.values()], (8, 8))
    assert seen.shape == (8, 8) and (seen >= 0).all()


def test_biases_that_are_spread_out_have_positions():
    kernel = jnp.asarray(_RNG.normal(size=(3, 4)), "float32")
    once = jnp.asarray(_RNG.normal(size=4), "float32")
    everywhere = jnp.broadcast_to(once, (8, 8, 4))

    def fn(x, bias):
        bias = jnp.broadcast_to(bias, (8, 8, 4))
        return jnp.sum(jax.nn.relu(x @ kernel + bias))

    spread = explain(fn, IMAGE, everywhere).biases
    assert spread.shape == (8, 8, 4)
    close(attrax.channels(spread), explain(fn, IMAGE, once).biases)


# The map.


def test_map_on_paper():
    # Parts of their own ranges: |-4| of [0, 4] counts as much as |0.5| of [0, 0.5].
    wide = jnp.array([[[-4.0, 0.0]], [[2.0, 0.0]]])
    narrow = jnp.array([[[0.5], [0.0]]])
    found = saliency([wide, narrow], (2, 2))
    assert found.tolist() == [[2.0, 1.0], [1.5, 0.5]]


def test_a_part_that_is_the_same_everywhere_shows_nothing():
    flat = [jnp.full((2, 2, 3), 7.0)]
    assert (saliency(flat, (4, 4)) == 0).all()
    slope = jax.jit(jax.grad(lambda v: attrax.full_gradient_map([v], (4, 4)).sum()))(flat[0])
    assert np.isfinite(slope).all()


def test_dtype_of_the_map():
    half = jnp.ones((2, 2, 3), jnp.bfloat16).at[0, 0].set(0)
    assert saliency([half], (4, 4)).dtype == jnp.float32


# Transformations and dtypes.


def test_vmap_is_a_loop():
    xs = jnp.stack([X, 2 * X, -X])
    one = lambda x: explain(relu_network, x, BIASES)  # noqa: E731
    together = jax.vmap(one)(xs)
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one(x) for x in xs))
    jax.tree.map(close, together, looped)


def test_gradients():
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(X), "float64")
        biases = jax.tree.map(lambda b: jnp.asarray(np.asarray(b), "float64"), BIASES)
        smooth = jax.jit(lambda x, b: attrax.full_gradient(network(jnp.tanh), x, b))
        assert smooth(x, biases).input.dtype == jnp.float64
        check_grads(smooth, (x, biases), order=2, modes=["rev"])


@pytest.mark.usefixtures("strict")
def test_structures_and_dtypes_stay():
    def fn(x, biases):
        return jnp.sum(jax.nn.relu(x["a"].astype("float32") + biases[0])) + biases[1].astype(
            "float32"
        )

    x = {"a": jnp.ones(2, jnp.bfloat16)}
    biases = (jnp.array([0.5, -3.0]), jnp.bfloat16(2.0))
    found = explain(fn, x, biases)
    assert isinstance(found, attrax.FullGradient)
    assert found.input["a"].dtype == jnp.bfloat16
    assert [leaf.dtype for leaf in found.biases] == [jnp.float32, jnp.bfloat16]
    assert found.input["a"].tolist() == [1.0, 0.0]
    assert [leaf.tolist() for leaf in found.biases] == [[0.5, 0.0], 2.0]


# What is refused.


def test_refusals():
    with pytest.raises(TypeError, match="`x` must be floating; got int32"):
        attrax.full_gradient(relu_network, jnp.arange(3), BIASES)
    with pytest.raises(TypeError, match="`biases` must be floating; got int32"):
        attrax.full_gradient(relu_network, X, [1, 2])
    with pytest.raises(ValueError, match="`biases` holds no array"):
        attrax.full_gradient(relu_network, X, {})
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(3,\)"):
        attrax.full_gradient(lambda x, b: x + b, X, jnp.float32(1.0))
    with pytest.raises(ValueError, match="`parts` must hold at least one contribution"):
        attrax.full_gradient_map([], (2, 2))
    with pytest.raises(
        ValueError, match=r"one axis more than `shape`; got \(8,\) against \(2, 2\)"
    ):
        attrax.full_gradient_map([jnp.ones(8)], (2, 2))
    with pytest.raises(TypeError, match="`parts` must be floating; got int32"):
        attrax.full_gradient_map([jnp.ones((2, 2, 1), int)], (2, 2))
