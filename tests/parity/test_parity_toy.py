"""TruLens' network of hand-set weights: every recorded number, and the fault behind half of them.

There the network is started by setting the first state of row 0 of its batch, and the points of a
path are one batch. `..._literal` is what comes of it; `..._fixed` is what a network gives that
starts as it should at every point, which is all that a function of one example can do.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import parity_models
import toy_sentiment as toy
from attrax import paths, scores
from attrax.quadrature import endpoint_mean, midpoint

NAMES = [case["id"] for case in parity_models.load("trulens_toy.json")["cases"]]
cases = functools.partial(parity_models.cases, "trulens_toy.json")


def named(start):
    return cases(*(name for name in NAMES if name.startswith(start)))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def given(case):
    """The model of a case, its sentence, and where it starts."""
    variables = toy.toy_sentiment(case["inputs"]["half"], dtype=np.float64)
    return (
        attrax.from_linen(*variables),
        jnp.asarray(toy.encode(case["inputs"]["sentence"])),
        jnp.asarray(toy.START),
    )


@jax.jit
def forward(model, ids, start):
    return jax.nn.softmax(model(ids, start))


@functools.partial(jax.jit, static_argnames="resolution")
def both(model, ids, start, resolution):
    """The embedding, and the influences that are right and those of the notebook."""
    z = attrax.capture(model, ids, start, at="embedding")
    fixed = toy.influences(model, ids, start, rule=endpoint_mean(resolution))
    return z, fixed, toy.notebook_influences(model, ids, start, resolution=resolution)


def agree(actual, expected, rtol=1e-8):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


@named("toy.pred.")
def test_probabilities(case):
    found = forward(*given(case))
    expected = case["expected"]
    np.testing.assert_allclose(found, expected["float64"], rtol=1e-8)
    np.testing.assert_allclose(found, expected["seed_printed"], rtol=5e-5)  # five digits


@named("toy.attr_half12.")
def test_attributions_of_one_class(case):
    z, fixed, literal = both(*given(case), resolution=10)
    for kind, found in {"fixed": z * fixed[1], "literal": z * literal[1]}.items():
        agree(found, case["expected"][f"full_{kind}"])
        agree(attrax.positions(found), case["expected"][f"token_sums_{kind}"])
    printed = case["expected"]["seed_printed"]
    if printed:
        # The notebook ran in float32.
        np.testing.assert_allclose(attrax.positions(z * literal[1]), printed, rtol=3e-5)


@named("toy.attr_half8.")
def test_influences_on_every_class(case):
    agree(forward(*given(case)), case["expected"]["probs"])
    _, fixed, literal = both(*given(case), resolution=100)
    for kind, found in {"fixed": fixed, "literal": literal}.items():
        expected = case["expected"][f"token_sums_by_class_{kind}"]
        for c in range(4):
            agree(attrax.positions(found[c]), expected[str(c)])


SENTENCES = ["neutral good neutral neutral", "good bad neutral neutral", "neutral bad neutral good"]


def test_started_as_it_should_it_is_complete():
    model, _, start = given({"inputs": {"half": 8.0, "sentence": ""}})
    ids = jnp.array([toy.encode(sentence) for sentence in SENTENCES])
    explain = functools.partial(toy.explain, rule=midpoint(16384))
    found = jax.jit(jax.vmap(explain, (None, 0, None)))(model, ids, start)
    assert found["words"].shape == (3, 4, 4)
    np.testing.assert_allclose(found["gap"], 0, atol=1e-6)
    # Of the class that is right the words say all: without them the sentence is neutral.
    for row, truth in zip(found["words"], toy.ground_truth(ids), strict=True):
        assert float(row[truth].sum()) == pytest.approx(1, abs=1e-3)
    # The word that makes it positive, and the two that make it confused.
    assert found["words"][0, 1].argmax() == 1
    assert float(found["words"][1, 3, :2].sum()) > 0.99


def test_started_in_the_first_row_only_it_is_not():
    sentence = "neutral neutral neutral neutral"
    model, ids, start = given({"inputs": {"half": 12.0, "sentence": sentence}})
    run = jax.jit(functools.partial(toy.notebook_influences, resolution=1000))
    z, tail = attrax.cut(model, ids, start, at="embedding")
    found = jnp.sum(z[None] * run(model, ids, start), axis=(1, 2))
    # With and without its words the sentence is neutral: nothing is to be attributed.
    change = jax.nn.softmax(tail(z)) - jax.nn.softmax(tail(jnp.zeros_like(z)))
    np.testing.assert_allclose(change, 0, atol=1e-3)
    # What is attributed is how the network that does not start gets from undecided to neutral.
    silent = attrax.cut(model, ids, jnp.zeros_like(start), at="embedding")[1]
    other = jax.nn.softmax(silent(z)) - jax.nn.softmax(silent(jnp.zeros_like(z)))
    assert float(other[0]) > 0.5
    np.testing.assert_allclose(found, other, atol=2e-3)


def test_the_right_one_is_that_of_each_point_alone():
    # The mean of gradients, each of a network of its own, by hand.
    model, ids, start = given({"inputs": {"half": 8.0, "sentence": SENTENCES[0]}})
    _, fixed, _ = both(model, ids, start, resolution=10)
    z, tail = attrax.cut(model, ids, start, at="embedding")
    slope = jax.jit(jax.grad(lambda z: scores.probability(1)(tail(z))))
    points = paths.interpolate(z, None, endpoint_mean(10).nodes)
    agree(fixed[1], np.mean([slope(point) for point in points], axis=0))
