"""Slow: sprites of the real network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import pretrained
import sprites
from attrax import visualise

pytestmark = pytest.mark.soak

LAYER, CHANNELS = "block2", 4


@pytest.fixture(scope="module")
def model():
    try:
        return attrax.from_linen(*pretrained.efficientnet_lite0())
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sprites")


@pytest.fixture(scope="module")
def made(model, folder):
    return sprites.spritemap(model, LAYER, folder, channels=range(CHANNELS), steps=48)


def test_a_sprite_drives_its_own_channel_most(model, made):
    @jax.jit
    def answers(model, images):
        def mean(image):
            z = attrax.capture(model, sprites.prepare(image), at=LAYER)
            return jnp.mean(z, axis=(0, 1))

        return jax.vmap(mean)(images)

    images = jnp.asarray(made.sprites, jnp.float32) / 255
    found = np.asarray(answers(model, images))[:, :CHANNELS]
    grey = np.asarray(answers(model, jnp.full_like(images, 0.5)))[0, :CHANNELS]
    assert (found.argmax(axis=0) == np.arange(CHANNELS)).all()
    assert (np.diag(found) > grey + 5).all()


def test_the_spritemap_is_in_the_registry(model, made, folder):
    assert visualise.spritemaps(folder) == [(sprites.MODEL, LAYER, "channel")]
    assert sorted(path.suffix for path in (folder / sprites.MODEL).iterdir()) == [".json", ".png"]
    again = sprites.spritemap(model, LAYER, folder, channels=range(CHANNELS), steps=48)
    np.testing.assert_array_equal(again.sprites, made.sprites)
    assert again.recipe["steps"] == 48


def test_what_is_behind_the_layer_costs_nothing(model):
    def cost(at):
        def value(model, image):
            z = attrax.capture(model, sprites.prepare(image), at=at)
            return visualise.mean_channel(z, 0)

        program = jax.jit(jax.grad(value, argnums=1)).lower(model, jnp.zeros((64, 64, 3)))
        return program.cost_analysis()["flops"]

    # 19 % of the forward pass lies before the end of block2.
    assert cost("block2") < 0.25 * cost("classifier")


def test_other_channels_are_added_to_those_that_are_there(model, made, folder):
    more = sprites.spritemap(model, LAYER, folder, channels=[2, 5], steps=48)
    assert more.units == (*range(CHANNELS), 5)
    np.testing.assert_array_equal(more.sprites[:CHANNELS], made.sprites)
    assert not np.array_equal(more.tile(5), more.tile(2))
    assert not list(folder.rglob("unfinished-*"))
    # Made in another way, they are drawn anew.
    assert sprites.registered(LAYER, folder, steps=47) is None
