"""Slow: the answers of `examples/internal_influence.py` are what they are to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import internal_influence
import pretrained

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def asked():
    try:
        model = attrax.from_linen(*pretrained.efficientnet_lite0())
        x = pretrained.preprocess(pretrained.photo(internal_influence.IMAGE))
    except ImportError as error:
        pytest.skip(str(error))
    names = (internal_influence.CLASS, internal_influence.AGAINST)
    classes = jnp.array([pretrained.class_index(name) for name in names])
    return x, jax.jit(internal_influence.ask)(model, x, classes, jax.random.key(0))


def test_the_strongest_channel_is_the_strongest_of_all(asked):
    x, answers = asked
    contributions = answers.strongest.contributions
    assert contributions[answers.strongest.channel] == contributions.max()
    # Both are integrated gradients from zero at the layer.
    at_layer = answers.distributions["line at the layer"]
    np.testing.assert_allclose(at_layer, contributions, atol=1e-4 * np.abs(contributions).max())
    np.testing.assert_allclose(
        answers.several[0], contributions, atol=1e-4 * np.abs(contributions).max()
    )
    assert answers.strongest.attribution.shape == x.shape


def test_paths_through_a_layer_that_all_cross_are_complete(asked):
    _, answers = asked
    for name in ("line at the layer", "line in input space"):
        # Thirty-two nodes on a network of ReLU6: some per cent; see the README.
        assert answers.distributions[name].sum() == pytest.approx(float(answers.change), rel=0.1)
    assert answers.earlier.sum() == pytest.approx(float(answers.earlier_change), rel=0.1)
    # One gradient is not.
    alone = float(answers.distributions["at the activation"].sum())
    assert abs(alone - answers.change) > 0.5 * abs(answers.change)


def test_a_contrast_of_scores_is_another_question(asked):
    _, answers = asked
    logit, contrast, log_probability = answers.several
    correlations = np.corrcoef(np.stack([logit, contrast, log_probability]))
    assert correlations[0, 1] < 0.99 and correlations[0, 2] < 0.99
