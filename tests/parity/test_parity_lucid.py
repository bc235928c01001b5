"""Lucid's channel attribution, and TruLens' influence on the same convolutional network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import comparisons
import parity_models
from attrax import distributions, paths, quadrature, scores
from differences import DIFFERENCES

FILE = parity_models.load("trulens_foundation.json")
WEIGHTS = FILE["models"]["cnn"]
CASES = {case["id"]: case for case in FILE["cases"]}
cases = functools.partial(parity_models.cases, "trulens_foundation.json")
LUCID = {
    "lucid.channel_attr.logit1 (class2=None)": scores.contrast(1),
    "lucid.channel_attr.logit1-logit4": scores.contrast(1, 4),
}


close = functools.partial(comparisons.close, tolerance=1e-9)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def images():
    return jnp.asarray(np.array(WEIGHTS["x_NHWC"]), "float64")


def check(case, explain):
    """`explain(x)` for each image against a TruLens case."""
    expected = case["expected"]
    found = jnp.stack([explain(x) for x in images()])
    close(found, expected["attributions"])
    if "sum_over_HW" in expected:
        close(jax.vmap(attrax.channels)(found), expected["sum_over_HW"])


def maximum(outputs):
    return scores.max_logit()(outputs)


def scored_tail(x, at, score=maximum):
    """The activation at a layer, and the score as a function of it."""
    z, tail = attrax.cut(parity_models.cnn(WEIGHTS, attrax.tap), x, at=at)
    return z, lambda z: score(tail(z))


# Lucid: attributions at a layer, summed to channels.


@pytest.mark.parametrize("name", LUCID)
def test_lucid_linear(name):
    expected = CASES[name]["expected"]
    z, fn = scored_tail(images()[0], "relu1", LUCID[name])
    attribution = attrax.gradient_times_input(fn, z)
    close(attrax.channels(attribution), expected["linear"])
    close(attrax.positions(attribution), expected["spatial_linear"])
    ranking = attrax.rank_channels(attrax.channels(attribution), 2)
    assert ranking.positive_indices.tolist() == expected["order_pos(argsort(-v))"][:2]
    lucid_order = expected["order_neg(argsort(v)[:2][::-1])"]
    assert ranking.negative_indices.tolist() == DIFFERENCES[name].textbook == lucid_order[::-1]


@pytest.mark.parametrize("n", [10, 100])
@pytest.mark.parametrize("name", LUCID)
def test_lucid_path(name, n):
    expected = CASES[name]["expected"][f"path_N{n}_left_riemann"]
    z, fn = scored_tail(images()[0], "relu1", LUCID[name])
    rule = quadrature.riemann_left(n)
    attribution = attrax.integrated_gradients(fn, z, rule=rule, batch_size=n)
    close(attrax.channels(attribution), expected)
    # The average that is multiplied by nothing, times the activation.
    mean = attrax.influence(fn, z, distributions.linear(), rule=rule, batch_size=n)
    close(attrax.channels(z * mean), expected)


@pytest.mark.parametrize("name", LUCID)
def test_lucid_stochastic_path(name):
    # Lucid's random numbers are not seeded: only the recipe can be compared.
    z, fn = scored_tail(images()[0], "relu1", LUCID[name])
    rule, key = quadrature.riemann_left(10), jax.random.key(0)
    mean = attrax.influence(
        fn, z, distributions.stochastic_channels(), rule=rule, key=key, batch_size=10
    )
    sampler, keys = distributions.stochastic_channels()(z), jax.random.split(key, 10)
    slow = [attrax.gradient(fn, sampler(k / 10, keys[k])) for k in range(10)]
    close(attrax.channels(z * mean), attrax.channels(z * sum(slow) / 10))


# TruLens: input attribution.


@cases("cnn.logits")
def test_logits(case):
    model = parity_models.cnn(WEIGHTS)
    close(jax.vmap(model)(images()), case["expected"])


@cases("cnn.ig_input_class1_res10", "cnn.IntegratedGradients10")
def test_integrated_gradients(case):
    model, rule = parity_models.cnn(WEIGHTS), quadrature.endpoint_mean(10)
    score = scores.logit(1) if "class1" in case["id"] else maximum
    check(case, lambda x: attrax.integrated_gradients(lambda x: score(model(x)), x, rule=rule))


# TruLens: influence at a layer, and towards a layer.


@cases("cnn.relu2_max_point", "cnn.relu2_in_max")
def test_influence_at_a_layer(case):
    at = "conv2" if "_in_" in case["id"] else "relu2"

    def explain(x):
        z, fn = scored_tail(x, at)
        return attrax.gradient_times_input(fn, z)

    check(case, explain)


@cases("cnn.relu1_linear_shorthand")
def test_path_at_a_layer(case):
    def explain(x):
        z, fn = scored_tail(x, "relu1")
        return attrax.integrated_gradients(fn, z, rule=quadrature.endpoint_mean(10))

    check(case, explain)


# The file does not say which class these two cases score: classes 1 and 0 reproduce them to the
# last digit.


@cases("cnn.relu1_LinearDoi_obj_input")
def test_path_in_input_space_gradient_at_a_layer(case):
    def slope(point):
        z, fn = scored_tail(point, "relu1", scores.logit(1))
        return attrax.gradient(fn, z)

    @jax.jit
    def explain(x):
        points = paths.interpolate(x, None, quadrature.endpoint_mean(10).nodes)
        return scored_tail(x, "relu1")[0] * jnp.mean(jax.vmap(slope)(points), axis=0)

    check(case, explain)


@cases("cnn.multi_layer_cut")
def test_two_layers(case):
    expected = case["expected"]["attributions"]
    for at, values in zip(("relu1", "relu2"), expected, strict=True):
        found = []
        for x in images():
            z, fn = scored_tail(x, at, scores.logit(0))
            found.append(attrax.gradient_times_input(fn, z))
        close(jnp.stack(found), values)


def towards(channels):
    """The sum of channels of relu2, as a function of the image."""
    model = parity_models.cnn(WEIGHTS, attrax.tap)
    return lambda x: sum(scores.channel(i)(attrax.capture(model, x, at="relu2")) for i in channels)


@cases("cnn.input_to_relu2_ch2")
def test_input_towards_a_channel(case):
    fn = towards([2])
    check(case, lambda x: attrax.gradient_times_input(fn, x))


@cases("cnn.input_to_relu2_ch02")
def test_input_towards_two_channels(case):
    fn = towards([0, 2])
    check(case, lambda x: attrax.gradient(fn, x))
