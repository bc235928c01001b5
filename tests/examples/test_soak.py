"""Slow: the real network, cut all the way through."""

import jax
import numpy as np
import pytest

import attrax
import pretrained

pytestmark = pytest.mark.soak

PLACES = range(0, 148, 4)
SCORE = attrax.scores.max_logit()


@pytest.fixture(scope="module")
def network():
    """The model, a photograph, its layers, and the gradient at some of them, all in one pass."""
    try:
        model = attrax.from_linen(*pretrained.efficientnet_lite0())
        x = pretrained.preprocess(pretrained.photo("coffee"))
    except ImportError as error:
        pytest.skip(str(error))
    names = [layer.name for layer in attrax.layers(model, x)]
    at = [names[place] for place in PLACES]
    explain = jax.jit(lambda model, x: attrax.gradients_at(model, x, score=SCORE, at=at))
    return model, x, names, explain(model, x), jax.jit(lambda model, x: SCORE(model(x)))(model, x)


def test_all_layers_are_covered(network):
    _, _, names, _, _ = network
    assert len(names) == PLACES.stop


@pytest.mark.parametrize("place", PLACES)
def test_the_gradient_of_the_tail_is_that_of_the_model(network, place):
    model, x, names, gradients, score = network
    z, tail = attrax.cut(model, x, at=names[place])
    value, found = jax.jit(jax.value_and_grad(lambda z, tail: SCORE(tail(z))))(z, tail)
    assert float(value) == pytest.approx(float(score), rel=1e-5)
    expected = gradients[names[place]]
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
