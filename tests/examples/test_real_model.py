"""Slow: the pretrained network, explained: exact oracles, compiled programs, counts."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import efficientnet
import pretrained
from attrax import distributions, paths, quadrature, scores

pytestmark = pytest.mark.soak

# The prefix of this layer does three quarters of the work of the network.
THREE_QUARTERS = "block12"
LAST_CONVOLUTION = "relu6#1"  # after the convolution `head` and its batch norm
RULE = quadrature.gauss_legendre(3)
ONE_BY_ONE = {"rule": RULE, "batch_size": 1}

shape_of_photo = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)


def or_skip(load, *args):
    """The result of `load`, or a skip that says which package is missing."""
    try:
        return load(*args)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def network():
    return or_skip(pretrained.efficientnet_lite0)


@pytest.fixture(scope="module")
def model(network):
    return attrax.from_linen(*network)


@pytest.fixture(scope="module")
def photos():
    names = ("coffee", "chelsea", "camera")
    return np.stack([pretrained.preprocess(or_skip(pretrained.photo, name)) for name in names])


@pytest.fixture(scope="module")
def classes():
    return jnp.array([or_skip(pretrained.class_index, n) for n in ("espresso", "tabby", "tripod")])


def relative(found, expected):
    """The largest difference, relative to the largest attribution."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@jax.jit
def explain_layer(model, x, i):
    """Every method, at a layer behind three quarters of the network."""
    z, tail = attrax.cut(model, x, at=THREE_QUARTERS)
    fn = lambda z: scores.logit(i)(tail(z))  # noqa: E731
    return {
        "gradient": attrax.gradient(fn, z),
        "times input": attrax.gradient_times_input(fn, z),
        "integrated": attrax.integrated_gradients(fn, z, **ONE_BY_ONE),
        "path": attrax.path_integrated_gradients(fn, z, path=paths.straight, **ONE_BY_ONE),
        "influence": attrax.influence(
            fn, z, distributions.stochastic_channels(), key=jax.random.key(0), **ONE_BY_ONE
        ),
    }


# ------------------------------------------------------------------------------- exact answers


def test_last_convolution_has_the_class_activation_map(network, model, photos, classes):
    # The network ends in a mean over positions and a dense layer. So gradient x activation is, at
    # each position, activation x weight / positions: the class activation map. The score is
    # linear in the activation, so that integrated gradients are the same.
    @jax.jit
    def explain(model, x, i):
        z, tail = attrax.cut(model, x, at=LAST_CONVOLUTION)
        fn = lambda z: scores.logit(i)(tail(z))  # noqa: E731
        linear = attrax.gradient_times_input(fn, z)
        integrated = attrax.integrated_gradients(fn, z, rule=RULE)
        return {
            "logit": fn(z),
            "activation": z,
            "positions": attrax.positions(linear),
            "linear": attrax.channels(linear),
            "integrated": attrax.channels(integrated),
        }

    _, variables = network
    weights, biases = (
        np.asarray(variables["params"]["classifier"][name], np.float64)
        for name in ("kernel", "bias")
    )
    for photo, i in zip(photos, classes, strict=True):
        found = explain(model, photo, i)
        z = np.asarray(found["activation"], np.float64)
        assert z.shape == (7, 7, 1280)
        expected = z.mean(axis=(0, 1)) * weights[:, i]
        assert relative(found["linear"], expected) < 1e-5
        assert relative(found["integrated"], expected) < 1e-5
        assert relative(found["positions"], z @ weights[:, i] / 49) < 1e-5
        assert relative(found["logit"], expected.sum() + biases[i]) < 1e-5


def test_batch_of_photographs_equals_the_loop_at_the_pixels(model, photos, classes):
    def explain(model, x, i):
        fn = lambda x: scores.logit(i)(model(x))  # noqa: E731
        return attrax.integrated_gradients(fn, x, rule=quadrature.midpoint(2), batch_size=1)

    together = jax.jit(jax.vmap(explain, in_axes=(None, 0, 0)))(model, photos, classes)
    one = jax.jit(explain)
    for photo, i, found in zip(photos, classes, together, strict=True):
        assert relative(found, one(model, photo, i)) < 1e-5


def test_batch_of_photographs_equals_the_loop_for_every_method(model, photos, classes):
    together = jax.jit(jax.vmap(explain_layer, in_axes=(None, 0, 0)))(model, photos, classes)
    for k, (photo, i) in enumerate(zip(photos, classes, strict=True)):
        for method, expected in explain_layer(model, photo, i).items():
            assert relative(together[method][k], expected) < 1e-5, method


def test_linen_and_nnx_give_the_same_layers_and_attributions(model, photos, classes):
    nnx = attrax.from_nnx(pretrained.efficientnet_lite0_nnx())
    layers = attrax.layers(model, shape_of_photo)
    assert attrax.layers(nnx, shape_of_photo) == layers
    assert {f"block{i}" for i in range(16)} < {layer.name for layer in layers}
    expected = explain_layer(model, photos[0], classes[0])
    for method, found in explain_layer(nnx, photos[0], classes[0]).items():
        assert relative(found, expected[method]) < 1e-5, method


# --------------------------------------------------------------------------- compiled programs


@pytest.fixture
def events():
    """The names of JAX's tracing and compilation events, as they happen."""
    seen = []

    def listen(name, duration, **_):
        if name.startswith("/jax/core/compile"):
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_second_photograph_is_neither_traced_nor_compiled(model, photos, classes, events):
    traced = []

    @jax.jit
    def explain(model, x, i):
        traced.append(x)
        fn = lambda z: scores.logit(i)(model(z))  # noqa: E731
        return attrax.integrated_gradients(fn, x, rule=RULE)

    def run(photo, i):
        # Cut outside of any `jit`, then explained by a program that takes the tail as an argument.
        z, tail = attrax.cut(model, photo, at=LAST_CONVOLUTION)
        captured = attrax.capture(model, photo, at=LAST_CONVOLUTION)
        return jax.device_get((attrax.layers(model, photo), captured, explain(tail, z, i)))

    run(photos[0], classes[0])
    assert events
    assert len(traced) == 1
    events.clear()
    run(photos[1], classes[1])
    assert not events
    assert len(traced) == 1


def test_weights_are_not_constants_of_the_program(network, classes):
    module, variables = network
    rng = np.random.default_rng(0)
    random = jax.tree.map(lambda a: rng.uniform(0.5, 1.5, a.shape).astype(a.dtype), variables)
    lowered = explain_layer.lower(attrax.from_linen(module, random), shape_of_photo, classes[0])
    text = lowered.as_text()
    assert sum(a.nbytes for a in jax.tree.leaves(random)) > 18e6
    assert len(text) < 1e6
    # No constant is longer than a rule or a shape: a splat, or a few numbers written out.
    assert max(len(constant) for constant in re.findall(r"dense<([^>]*)>", text)) < 200


@pytest.fixture(scope="module")
def programs(model):
    """The compiled network, its prefix, and the gradient of its tail."""
    z, tail = jax.eval_shape(
        lambda model, x: attrax.cut(model, x, at=THREE_QUARTERS), model, shape_of_photo
    )
    fn = scores.logit(967)
    lowered = {
        "network": jax.jit(lambda model, x: model(x)).lower(model, shape_of_photo),
        "prefix": jax.jit(lambda model, x: attrax.cut(model, x, at=THREE_QUARTERS)[0]).lower(
            model, shape_of_photo
        ),
        "gradient": jax.jit(
            lambda tail, z: attrax.gradient_times_input(lambda z: fn(tail(z)), z)
        ).lower(tail, z),
    }
    return {name: program.compile() for name, program in lowered.items()}


def convolutions(program):
    return len(re.findall(r" convolution\(", program.as_text()))


def flops(program):
    assert " while(" not in program.as_text()  # the count of a loop is that of one iteration
    return program.cost_analysis()["flops"]


def test_gradient_behind_a_cut_holds_no_convolution_of_the_prefix(programs):
    per_block = [3 if spec.expansion != 1 else 2 for spec in efficientnet.BLOCKS]
    behind = sum(per_block[13:]) + 1  # blocks 13 to 15 and the head
    assert convolutions(programs["network"]) == 1 + sum(per_block) + 1
    assert convolutions(programs["prefix"]) == 1 + sum(per_block[:13])
    # Once forward and once backward.
    assert convolutions(programs["gradient"]) == 2 * behind
    blocks = set(re.findall(r"/(block\d+|stem\w*|head)/", programs["gradient"].as_text()))
    assert blocks == {"block13", "block14", "block15", "head"}


def test_gradient_behind_a_cut_costs_two_forward_passes_of_the_rest(programs):
    depth = flops(programs["prefix"]) / flops(programs["network"])
    assert 0.7 < depth < 0.8
    expected = 2 * (1 - depth) * flops(programs["network"])
    assert flops(programs["gradient"]) == pytest.approx(expected, rel=0.1)
