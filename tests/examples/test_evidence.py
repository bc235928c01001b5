"""What attributions of the real network are worth: where they point, and what they depend on."""

import json
import operator
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import pretrained
from attrax import metrics, quadrature, scores
from benchmarks import evidence, faithfulness
from benchmarks.maps import LAST_CONVOLUTION

DOG, CAT = "bull mastiff", "tiger cat"


def or_skip(load, *args):
    """The result of `load`, or a skip that says what is missing."""
    try:
        return load(*args)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def network():
    """The module of the examples and its variables."""
    return or_skip(pretrained.efficientnet_lite0)


@pytest.fixture(scope="module")
def model(network):
    """The same network, several times as fast on a CPU."""
    module, variables = network
    return attrax.for_cpu(attrax.from_linen(module, variables))


@pytest.fixture(scope="module")
def pets():
    """The whole photograph of a dog above a cat."""
    return jnp.asarray(pretrained.preprocess_whole(or_skip(pretrained.dog_and_cat)))


@pytest.fixture(scope="module")
def classes():
    return jnp.array([or_skip(pretrained.class_index, name) for name in (DOG, CAT)])


def mass(values, region):
    return float(metrics.relevance_mass(jnp.asarray(values), jnp.asarray(region)))


def box(shape, top, bottom, left, right):
    """The positions of a map whose centres lie in a part of a photograph of 224 x 224."""
    rows, columns = ((np.arange(n) + 0.5) * 224 / n for n in shape)
    inside = (rows > top) & (rows < bottom), (columns > left) & (columns < right)
    return inside[0][:, None] & inside[1][None, :]


def dog_box(shape):
    return box(shape, 12, 140, 78, 172)


def cat_box(shape):
    return box(shape, 118, 222, 42, 205)


# --------------------------------------------------------------------------------- two classes


@pytest.mark.soak
def test_class_activation_maps_find_the_dog_and_the_cat(network, model, pets, classes):
    # Shares of the positive part of the map, for the whole photograph, nothing cut off.
    _, variables = network
    kernel = variables["params"]["classifier"]["kernel"]
    z = jax.jit(lambda model, x: attrax.capture(model, x, at=LAST_CONVOLUTION))(model, pets)
    dog, cat = (np.asarray(attrax.cam(z, kernel[:, i])) for i in classes)
    upper = np.arange(7)[:, None] * np.ones(7) < 4
    assert mass(dog, upper) == pytest.approx(0.93, abs=0.005)
    assert mass(cat, ~upper) == pytest.approx(0.79, abs=0.005)
    assert np.unravel_index(dog.argmax(), dog.shape) == (1, 3)
    assert np.unravel_index(cat.argmax(), cat.shape) == (5, 3)


@pytest.mark.soak
def test_two_classes_have_two_explanations_at_a_layer(model, pets, classes):
    @jax.jit
    def explain(model, x, i):
        maps = []
        for at in (LAST_CONVOLUTION, "block13"):
            z, tail = attrax.cut(model, x, at=at)
            fn = lambda z, tail=tail: scores.logit(i)(tail(z))  # noqa: E731
            maps += [attrax.grad_cam(fn, z), attrax.hires_cam(fn, z), attrax.layer_cam(fn, z)]
        return maps

    dog, cat = (explain(model, pets, i) for i in classes)
    on_dog, on_cat = dog_box((7, 7)), cat_box((7, 7))
    assert on_dog.mean() < 0.25 and on_cat.mean() < 0.31  # what an even map would have there
    grad_cam, hires_cam, deeper = 0, 1, 4  # HiResCAM one block earlier
    for which in (grad_cam, hires_cam, deeper):
        assert metrics.pointing_game(dog[which], on_dog)
        assert metrics.pointing_game(cat[which], on_cat)
        assert mass(dog[which], on_dog) > 0.75 and mass(dog[which], on_cat) < 0.1
        assert mass(cat[which], on_cat) > 0.75 and mass(cat[which], on_dog) < 0.2
        assert metrics.rank_correlation(dog[which], cat[which]) < 0.2
    # A block earlier the mean of Grad-CAM mixes up positions, and LayerCAM, which has no signs,
    # finds what is salient for both.
    assert mass(dog[3], on_dog) < 0.3
    last_layer_cam = 2
    assert metrics.rank_correlation(dog[last_layer_cam], cat[last_layer_cam]) > 0.7


@pytest.mark.soak
def test_two_classes_have_two_explanations_at_the_pixels(model, pets, classes):
    @jax.jit
    def explain(model, x, classes):
        def one(i):
            fn = lambda x: scores.logit(i)(model(x))  # noqa: E731
            rule = quadrature.midpoint(64)
            return attrax.positions(attrax.integrated_gradients(fn, x, rule=rule, batch_size=2))

        return jax.vmap(one)(classes)

    dog, cat = explain(model, pets, classes)
    on_dog, on_cat = dog_box(dog.shape), cat_box(dog.shape)
    assert mass(dog, on_dog) > mass(cat, on_dog) + 0.05
    assert mass(cat, on_cat) > mass(dog, on_cat) + 0.1
    assert metrics.rank_correlation(dog, cat) < 0.2
    # Both animals are salient for both classes. What tells the classes apart is the difference,
    # which is the attribution of the contrast: for the dog on the dog, against it on the cat.
    contrast = dog - cat
    assert jnp.sum(contrast, where=on_dog & ~on_cat) > 5
    assert jnp.sum(contrast, where=on_cat & ~on_dog) < -5


@pytest.mark.soak
def test_grad_cam_behind_a_mean_is_the_class_activation_map(network, model):
    # Mean and dense layer: the gradient of a channel is its weight over the 49 positions.
    names = or_skip(pretrained.labels)
    cats = [cat.image for cat in or_skip(pretrained.cat_photos)]
    images = [pretrained.photo("coffee"), pretrained.photo("camera"), *cats]
    _, variables = network
    kernel = np.asarray(variables["params"]["classifier"]["kernel"], np.float64)
    classes = np.array([names.index(name) for name in ("espresso", "tripod", "tabby", DOG)])

    @jax.jit
    def explain(model, x, classes):
        z, tail = attrax.cut(model, x, at=LAST_CONVOLUTION)
        found = jax.vmap(lambda i: attrax.grad_cam(lambda z: scores.logit(i)(tail(z)), z))(classes)
        return z, found

    for image in images:
        z, found = explain(model, pretrained.preprocess(image), classes)
        expected = np.moveaxis(np.asarray(z, np.float64) @ kernel[:, classes], -1, 0) / 49
        for each, wanted in zip(found, expected, strict=True):
            atol = 1e-5 * np.abs(wanted).max()
            np.testing.assert_allclose(each, wanted, rtol=0, atol=atol)


# ---------------------------------------------------------------------- randomised parameters


@pytest.mark.soak
def test_explanations_fall_apart_as_parameters_are_replaced(network):
    module, variables = network
    photos = or_skip(pretrained.labelled_photos)[:4]
    order = evidence.walk(variables)

    @jax.jit
    @attrax.for_cpu
    def similarities(variables, x, label, key):
        fresh = module.init(key, x)

        def explain(variables):
            model = attrax.from_linen(module, variables)
            fn = lambda x: scores.logit(label)(model(x))  # noqa: E731
            return attrax.positions(attrax.gradient_times_input(fn, x))

        return metrics.parameter_randomisation(explain, variables, fresh, order=order)

    keys = jax.random.split(jax.random.key(0), len(photos))
    found = np.stack(
        [
            similarities(variables, pretrained.preprocess(photo.image), photo.label, key)
            for photo, key in zip(photos, keys, strict=True)
        ]
    )
    assert found.shape == (4, 21) and np.isfinite(found).all()
    # Signed, at all pixels. A few new layers at the output, and nothing is left.
    assert np.abs(found[:, 3:]).max() < 0.2
    assert np.abs(found[:, -1]).max() < 0.05


# --------------------------------------------------------------------------- beside random ones


@pytest.mark.soak
def test_no_method_that_claims_to_be_faithful_is_worse_than_random():
    curves, alike = or_skip(faithfulness.run, True)
    for claim in (*curves.claims, *alike.claims):
        assert claim.holds, claim
    assert len(curves.rows) == 9 + 5 and len(alike.rows) == 9


RECORD = Path(faithfulness.__file__).parent / "results" / "faithfulness.json"


def test_the_record_has_every_method_and_its_claims_hold():
    curves, alike, _ = json.loads(RECORD.read_text(encoding="utf-8"))["tables"]
    names = list(faithfulness.methods(faithfulness.FULL))
    assert [row[0] for row in curves["rows"]][: len(names)] == names
    assert [row[0] for row in alike["rows"]] == names
    for claim in (*curves["claims"], *alike["claims"]):
        assert claim["holds"], claim["text"]


DOCUMENT = Path(__file__).parents[2] / "docs" / "which_method.md"


def test_the_figures_of_the_document_are_those_of_the_record():
    text = DOCUMENT.read_text(encoding="utf-8")
    curves, alike, gaps = json.loads(RECORD.read_text(encoding="utf-8"))["tables"]

    def shown(name):
        rows = text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip().split("\n")
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]

    areas = {row[0]: [row[2], row[5] or "-", row[7] or "-"] for row in curves["rows"]}
    correlations = {row[0]: [row[2], row[4]] for row in alike["rows"]}
    percents = {f"{row[0]}, {row[1]}": [f"{row[2]:.1f}", f"{row[3]:.1f}"] for row in gaps["rows"]}
    for name, record in (("areas", areas), ("correlations", correlations), ("gaps", percents)):
        table = shown(name)
        assert table, name
        for what, *cells in table:
            assert cells == record[what], what


def test_the_names_of_the_document_exist():
    names = re.findall(r"`(?:attrax\.)?((?:\w+\.)*\w+)`", DOCUMENT.read_text(encoding="utf-8"))
    dotted = [name for name in names if name.split(".")[0] in ("metrics", "paths", "scores")]
    plain = re.findall(r"`attrax\.([\w.]+)", DOCUMENT.read_text(encoding="utf-8"))
    assert dotted and plain
    for name in {*dotted, *plain}:
        operator.attrgetter(name)(attrax)


# ------------------------------------------------------------------------- what all of it rests on


def test_the_walk_goes_from_the_output_to_the_input(network):
    _, variables = network
    order = evidence.walk(variables)
    assert order[:4] == ("classifier", "head_bn", "head", "block15") and order[-1] == "stem"
    assert set(order) == set(variables["params"])


def test_interval_of_a_mean():
    assert evidence.interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0)
    values = np.random.default_rng(1).normal(size=100)
    found = evidence.interval(values)
    error = values.std() / 10  # of the mean
    assert found.mean == values.mean()
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.2 * error)


def test_patches_are_squares_of_the_picture():
    picture = np.arange(224 * 224).reshape(224, 224)
    found = evidence.patches(jnp.asarray(picture))
    assert found.shape == (16, 16, 14, 14)
    np.testing.assert_array_equal(found[3, 5], picture[42:56, 70:84])


def test_rank_correlation_of_a_large_map():
    # The number of pairs of its pixels is more than 32 bits hold.
    values = jnp.arange(50_000.0)
    assert metrics.rank_correlation(values, -values) == pytest.approx(-1, abs=1e-5)


def test_missing_photograph_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ImportError, match=r"grad-cam-1\.4\.6\.tar\.gz.*`make \.venv/soak`"):
        pretrained.dog_and_cat()


def test_whole_pictures_are_not_cropped():
    image = np.full((300, 500, 3), 127, np.uint8)
    image[:15] = 255  # the crop cuts off 19 rows
    assert np.all(pretrained.preprocess_whole(image)[:8] > 0.9)
    assert np.all(pretrained.preprocess(image) == 0)
