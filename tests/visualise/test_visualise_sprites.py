"""Sprites of many units in chunks, and spritemaps on disk."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import visualise
from attrax.visualise import Spritemap, load_spritemap, spritemap_file, spritemaps, sprites

KEY = jax.random.key(4)
RNG = np.random.default_rng(4)


def noise(model, unit, key):
    """A sprite that depends on everything that it may depend on."""
    return jax.random.uniform(key, (2, 3, 3)) * model["scale"] + 0.1 * unit


MODEL = {"scale": jnp.float32(0.5)}
UNITS = jnp.array([0.0, 3.0, 1.0, 2.0, 4.0])


@pytest.mark.soak
def test_chunks_are_like_one_by_one():
    calls = []
    found = sprites(
        noise, MODEL, UNITS, key=KEY, batch_size=2, progress=lambda *done: calls.append(done)
    )
    assert calls == [(2, 5), (4, 5), (5, 5)]
    assert found.shape == (5, 2, 3, 3) and found.dtype == np.uint8
    each = [noise(MODEL, unit, jax.random.fold_in(KEY, i)) for i, unit in enumerate(UNITS)]
    np.testing.assert_array_equal(found, np.round(255 * np.clip(np.stack(each), 0, 1)))
    for batch_size in (1, 9):
        again = sprites(noise, MODEL, UNITS, key=KEY, batch_size=batch_size)
        np.testing.assert_array_equal(again, found)


def test_one_program_for_all_chunks_and_calls():
    traces = []

    def draw(model, unit, key):
        traces.append(unit)
        return jnp.full((1, 1, 1), unit)

    for key in (KEY, jax.random.key(5)):
        sprites(draw, MODEL, UNITS, key=key, batch_size=2)
    assert len(traces) == 1


class Broken(Exception):
    """What ends a call."""


def test_a_call_that_was_broken_off_is_resumed(tmp_path):
    pytest.importorskip("tensorstore")
    store = tmp_path / "sprites.zarr"
    options = {"key": KEY, "batch_size": 2, "store": store}

    def stop(done, n):
        if done == 4:
            raise Broken

    with pytest.raises(Broken):
        sprites(noise, MODEL, UNITS, progress=stop, **options)
    calls = []
    found = sprites(noise, MODEL, UNITS, progress=lambda *done: calls.append(done), **options)
    assert calls == [(5, 5)]
    np.testing.assert_array_equal(found, sprites(noise, MODEL, UNITS, key=KEY))
    # A finished one is read, and nothing is left beside it.
    np.testing.assert_array_equal(sprites(noise, MODEL, UNITS, **options), found)
    assert [path.name for path in tmp_path.iterdir()] == ["sprites.zarr"]


def darker(model, unit, key):
    return noise(model, unit, key) / 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"draw": darker}, r"differs in method \("),
        ({"model": {"scale": jnp.float32(0.6)}}, r"differs in model \("),
        ({"model": {"scale": jnp.ones((), jnp.bfloat16)}}, r"differs in .*model \("),
        ({"key": jax.random.key(9)}, r"differs in key \("),
        ({"units": UNITS[:4]}, "holds 3 batches, against 2 here"),
        ({"units": UNITS + 1}, "example 0 is another one"),
        ({"units": UNITS.at[4].set(7.0)}, "example 4 is another one"),
        ({"batch_size": 3}, r"differs in batch \("),
    ],
)
def test_sprites_of_anything_else_are_not_mixed(tmp_path, other, message):
    pytest.importorskip("tensorstore")
    store = tmp_path / "sprites.zarr"
    same = {"draw": noise, "model": MODEL, "units": UNITS, "key": KEY, "batch_size": 2}
    first = sprites(**same, store=store)
    with pytest.raises(ValueError, match=f"`store` must hold .*{message}"):
        sprites(**(same | other), store=store)
    np.testing.assert_array_equal(sprites(**same, store=store), first)


@pytest.mark.parametrize("stored", [False, True])
def test_a_picture_that_is_not_finite_is_named(tmp_path, stored):
    def draw(model, unit, key):
        return jnp.full((2, 2, 1), 1 / unit)

    options = {"store": tmp_path / "sprites.zarr"} if stored else {}
    with pytest.raises(ValueError, match=r"`draw` must give finite pictures; .* at \[0, 3\] are"):
        sprites(draw, None, UNITS.at[3].set(jnp.nan), key=KEY, batch_size=2, **options)
    with pytest.raises(ValueError, match="`sprites` must be finite; 1 of its 12 values"):
        Spritemap(np.ones((1, 2, 2, 3)) * np.r_[np.nan, np.ones(11)].reshape(2, 2, 3), "m", "l")


@pytest.mark.soak
def test_channels_neurons_and_directions_of_a_layer():
    def model(image):
        return attrax.tap("colours", image @ jnp.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))

    def drawn(objective, units):
        draw = visualise.sprite(
            "colours",
            prepare=lambda image: 2 * image - 1,
            objective=objective,
            parameterisation=visualise.pixels((5, 5), colour=np.eye(3)),
            steps=30,
            transform=visualise.compose(),
        )
        return sprites(draw, attrax.as_model(model), units, key=KEY).astype(int)

    for i, image in enumerate(drawn(visualise.mean_channel, jnp.arange(3))):
        assert image.mean(axis=(0, 1)).argmax() == i and image[..., i].min() > 180
    (neuron,) = drawn(visualise.centre_neuron, jnp.array([1]))
    assert neuron[2, 2, 1] > 180 > neuron[..., 1].mean()
    (purple,) = drawn(visualise.cosine_direction, jnp.array([[1.0, -1.0, 1.0]]))
    assert purple[..., 1].max() < 80 and purple[..., [0, 2]].min() > 180


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": jnp.zeros(0)}, r"one leading axis, of 1 or more; got lengths \[0\]"),
        ({"units": (jnp.ones(2), jnp.ones(3))}, r"one leading axis.*got lengths \[2, 3\]"),
        ({"batch_size": 0}, "`batch_size` must be at least 1; got 0"),
        ({"key": None}, "`sprites` is random: pass `key="),
    ],
)
def test_sprites_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        sprites(noise, MODEL, **({"units": UNITS, "key": KEY} | options))


# Spritemaps.


def example(n=5, channels=3, **options):
    pixels = RNG.integers(0, 256, (n, 2, 4, channels)).astype(np.uint8)
    return Spritemap(pixels, "lite0", "block1/relu6#0", **options)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_saved_is_loaded(tmp_path, channels):
    saved = example(5, channels, variant="neuron", units=[3, 9, 4, 1, 0], recipe={"steps": 64})
    file = saved.save(tmp_path)
    found = load_spritemap(tmp_path, "lite0", "block1/relu6#0", "neuron")
    np.testing.assert_array_equal(found.sprites, saved.sprites)
    assert found.layout() == saved.layout()
    assert json.loads(file.with_suffix(".json").read_text()) == saved.layout()
    assert found.layout()["recipe"] == {"steps": 64}


def test_the_picture_has_a_short_last_row():
    spritemap = example(7, units=range(10, 17))
    assert (spritemap.columns, spritemap.rows) == (2, 4)
    picture = spritemap.picture()
    assert picture.shape == (8, 8, 3)
    for unit in range(10, 17):
        row, column = spritemap.position(unit)
        assert (row, column) == divmod(unit - 10, 2)
        tile = picture[2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
        np.testing.assert_array_equal(tile, spritemap.tile(unit))
    assert (picture[6:, 4:] == 230).all()


def test_columns_are_those_of_the_published_spritemaps():
    depths = [256, 480, 508, 512, 512, 528, 832, 832]
    columns = [
        Spritemap(np.zeros((depth, 1, 1, 1), np.uint8), "googlenet", "mixed").columns
        for depth in depths
    ]
    assert columns == [16, 21, 22, 22, 22, 22, 28, 28]
    assert example(5, columns=3).rows == 2


def test_the_folder_is_the_registry(tmp_path):
    assert spritemaps(tmp_path) == []
    names = [
        ("a.b", "block1/relu6#0", "channel"),
        ("a.b", "x.y", "neuron"),
        ("ä/c", "x", "channel"),
    ]
    for model, layer, variant in names:
        Spritemap(np.zeros((1, 1, 1, 3)), model, layer, variant).save(tmp_path)
    assert spritemaps(tmp_path) == sorted(names)
    assert spritemap_file(tmp_path, *names[0]).exists()
    with pytest.raises(FileNotFoundError, match=r"'a.b', 'z', 'channel' .*; registered: .*x.y neu"):
        load_spritemap(tmp_path, "a.b", "z")
    with pytest.raises(FileNotFoundError, match=r"registered: none\."):
        load_spritemap(tmp_path / "empty", "a.b", "z")


def test_a_picture_that_was_cut_is_noticed(tmp_path):
    from PIL import Image, PngImagePlugin

    file = example().save(tmp_path)
    text = PngImagePlugin.PngInfo()
    with Image.open(file) as image:
        text.add_text("attrax", image.text["attrax"])
        image.crop((0, 0, 4, 4)).save(file, pnginfo=text)
    with pytest.raises(ValueError, match=r"must have shape \(6, 8, 3\) by its layout; got \(4, 4"):
        load_spritemap(tmp_path, "lite0", "block1/relu6#0")


def test_over_a_light_background():
    image = np.zeros((1, 2, 4))
    image[0, 1, 3] = 1
    assert visualise.over_background(image)[0, :, 0].tolist() == [0.9, 0]


def test_without_pillow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="PNG files: pip install pillow"):
        example().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: example(channels=2), r"with 1, 3 or 4 channels; got \(5, 2, 4, 2\)"),
        (lambda: example(units=[1, 2]), "got 2 different of 2 for 5 sprites"),
        (lambda: example(units=[1, 1, 2, 3, 4]), "got 4 different of 5 for 5 sprites"),
        (lambda: example(columns=-1), "`columns` must be at least 1; got -1"),
        (lambda: example().tile(5), "No sprite of unit 5 in .*; there are 5, from 0 to 4"),
        (lambda: spritemap_file("folder", "", "layer"), "must not be empty"),
    ],
)
def test_spritemaps_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
