"""The example of concepts: what it finds on the real network."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import concepts
import pretrained

_RNG = np.random.default_rng(2)


def test_pictures_of_concepts():
    photo = _RNG.integers(0, 256, (300, 200, 3), np.uint8)
    plain = concepts.crop([photo], _RNG)
    for paint in (lambda picture, rng: picture, *concepts.CONCEPTS.values()):
        painted = paint(plain, _RNG)
        assert painted.shape == (concepts.SIZE, concepts.SIZE, 3)
        assert painted.min() > -0.1 and painted.max() < 1.1
    np.testing.assert_array_equal(concepts.mirrored(concepts.mirrored(plain, _RNG), _RNG), plain)
    red, green, blue = np.moveaxis(concepts.green(plain, _RNG), -1, 0).mean((1, 2))
    assert green > 1.5 * max(red, blue)


def test_a_fit_points_towards_the_concept():
    pytest.importorskip("sklearn")
    sets = _RNG.normal(size=(2, 3, 40, 5)) * np.array([1, 100, 1, 1, 0])
    sets[0, :, :, 2] += 4
    for fit in concepts.fits(*sets):
        assert np.linalg.norm(fit.direction) == pytest.approx(1, abs=1e-5)
        assert fit.direction[2] > 0.9
        assert fit.accuracy > 0.9


def test_missing_package_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match="scikit-learn: pip install scikit-learn"):
        concepts.fits(np.ones((2, 3, 4)), np.zeros((2, 3, 4)))


def test_table():
    values = jnp.array([[0.75, 1.0], [0.5, 0.25], [0.0, 0.0]])
    results = {
        "random": concepts.Result(0.5, values, None),
        "striped": concepts.Result(1.0, values, jnp.array([0.002, 0.06, 1.0])),
    }
    lines = [" ".join(line.split()) for line in concepts.table(results).splitlines()]
    assert lines == [
        "concept accuracy zebra ladybug cucumber",
        "random 0.50 0.88 ± 0.18 0.38 ± 0.18 0.00 ± 0.00",
        "striped 1.00 0.88 ± 0.18 p = 0.002 * 0.38 ± 0.18 p = 0.06 0.00 ± 0.00 p = 1",
    ]


@pytest.fixture(scope="module")
def real():
    """The model, the photographs, and what the example finds."""
    pytest.importorskip("sklearn")
    try:
        model = attrax.from_linen(*pretrained.efficientnet_lite0())
        photos = concepts.photographs()
        pretrained.labels()
    except ImportError as error:
        pytest.skip(str(error))
    return model, photos, concepts.concept_results(model, photos)


@pytest.mark.soak
def test_each_class_has_its_concept(real):
    _, _, results = real
    score = {name: np.mean(result.scores, axis=1) for name, result in results.items()}
    zebra, ladybug, cucumber = 0, 1, 2
    for name, i in (("striped", zebra), ("dotted", ladybug), ("green", cucumber)):
        assert results[name].accuracy > 0.9
        assert score[name][i] > 0.7
        assert score[name][i] == max(other[i] for other in score.values())
        assert results[name].p_values[i] < 0.05
    assert score["striped"][zebra] > 0.8
    assert results["striped"].p_values[zebra] < 1e-3
    # A concept may say nothing of a class.
    assert results["striped"].p_values[cucumber] > 0.05


@pytest.mark.soak
def test_what_means_nothing_is_not_significant(real):
    _, _, results = real
    assert results["mirrored"].accuracy < 0.65
    assert min(results["mirrored"].p_values) > 0.05
    assert results["random"].accuracy < 0.65
    np.testing.assert_allclose(np.mean(results["random"].scores, axis=1), 0.5, rtol=0, atol=0.2)


@pytest.mark.soak
def test_gradients_of_channels_are_sensitivities(real):
    model, photos, _ = real
    x = pretrained.preprocess(photos[0])
    i = pretrained.class_index("zebra")
    gradients = concepts.channel_gradients(model, x[None], jnp.array([i]))
    direction = jnp.asarray(_RNG.normal(size=gradients.shape[-1]), "float32")

    @jax.jit
    def sensitivity(model, x, direction):
        z, tail = attrax.cut(model, x, at=concepts.LAYER)
        everywhere = jnp.broadcast_to(direction, z.shape)
        score = lambda z: attrax.scores.logit(i)(tail(z))  # noqa: E731
        return attrax.concepts.concept_sensitivity(score, z, everywhere)

    found = float(sensitivity(model, x, direction))
    scale = float(jnp.linalg.norm(gradients) * jnp.linalg.norm(direction))
    assert found == pytest.approx(float(gradients[0, 0] @ direction), abs=1e-5 * scale)
