"""Activation grids: a tile a position, from one start, in chunks of one program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import visualise
from attrax.visualise import activation_tiles, with_strength

KEY = jax.random.key(3)
Z = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)


def noise(model, direction, key):
    """A tile that depends on everything that it may depend on."""
    return model * jax.random.uniform(key, (2, 5, 3)) + 0.1 * jnp.tanh(direction[0])


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(3)])
def test_every_tile_is_the_draw_of_its_activation_with_the_same_key(key):
    calls = []
    found = activation_tiles(
        noise, 0.5, Z, key=key, batch_size=4, progress=lambda *done: calls.append(done)
    )
    assert calls == [(4, 6), (6, 6)]
    assert found.shape == (2, 3, 2, 5, 3) and found.dtype == np.uint8
    for i in range(2):
        for j in range(3):
            expected = np.round(255 * np.clip(noise(0.5, Z[i, j], key), 0, 1))
            np.testing.assert_allclose(found[i, j].astype(int), expected, atol=1)


def test_one_program_for_all_images():
    traces = []

    def draw(model, direction, key):
        traces.append(direction)
        return jnp.full((1, 1, 1), direction[0])

    for z, key in ((Z, KEY), (Z + 1, jax.random.key(9))):
        activation_tiles(draw, 1.0, z, key=key, batch_size=4)
    assert len(traces) == 1


def test_a_grid_that_was_broken_off_is_resumed(tmp_path):
    class Broken(Exception):
        pass

    def stop(done, n):
        raise Broken

    options = {"key": KEY, "batch_size": 4, "store": tmp_path / "grid.zarr"}
    with pytest.raises(Broken):
        activation_tiles(noise, 0.5, Z, progress=stop, **options)
    calls = []
    found = activation_tiles(noise, 0.5, Z, progress=lambda *done: calls.append(done), **options)
    assert calls == [(6, 6)]
    np.testing.assert_array_equal(found, activation_tiles(noise, 0.5, Z, key=KEY))
    with pytest.raises(ValueError, match="example 0 is another one"):
        activation_tiles(noise, 0.5, Z + 1, **options)


def test_tiles_turn_to_what_their_position_sees():
    # A layer that is the image: the direction of a colour is rendered as that colour.
    z = np.array([[[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]]], np.float32)
    draw = visualise.sprite(
        "layer",
        prepare=lambda image: image,
        objective=visualise.cosine_direction,
        parameterisation=visualise.pixels((4, 4), colour=np.eye(3)),
        steps=48,
        transform=visualise.compose(),
    )
    found = activation_tiles(draw, _Identity(), z, key=KEY)[0].mean(axis=(1, 2)) / 255
    for k in range(3):
        assert found[k].argmax() == k
        assert found[k, k] > 0.7 and np.delete(found[k], k).max() < 0.3
    assert np.abs(found[3] - 0.5).max() < 0.1


@jax.tree_util.register_static
class _Identity:
    def __call__(self, x):
        return attrax.tap("layer", x)

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, _Identity)


def test_a_grid_as_one_picture(tmp_path):
    tiles = activation_tiles(noise, 0.5, Z, key=KEY)
    for some in (tiles, with_strength(tiles, Z)):
        spritemap = visualise.Spritemap(
            some.reshape(-1, *some.shape[2:]), "lite0", "block5", "position", columns=3
        )
        picture = spritemap.picture()
        assert picture.shape == (2 * 2, 3 * 5, some.shape[-1])
        for i in range(2):
            for j in range(3):
                part = picture[2 * i : 2 * i + 2, 5 * j : 5 * j + 5]
                np.testing.assert_array_equal(part, some[i, j])
        pytest.importorskip("PIL")
        spritemap.save(tmp_path)
        again = visualise.load_spritemap(tmp_path, "lite0", "block5", "position")
        np.testing.assert_array_equal(again.picture(), picture)


def test_strength_is_the_share_of_the_largest_norm():
    tiles = np.full((2, 3, 2, 5, 1), 0.5)
    found = with_strength(tiles, Z)
    assert found.shape == (2, 3, 2, 5, 4) and found.dtype == np.uint8
    norms = np.sqrt((Z.astype(np.float64) ** 2).sum(-1))
    np.testing.assert_allclose(found[..., 0, 0, 3] / 255, norms / norms.max(), atol=0.5 / 255)
    assert (found[..., :3] == 128).all()
    assert (with_strength(tiles, 0 * Z)[..., 3] == 0).all()


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`z` must have shape \(h, w, C\); got \(3, 4\)"):
        activation_tiles(noise, 0.5, Z[0], key=KEY)
    with pytest.raises(TypeError, match="`z` must be floating; got int"):
        activation_tiles(noise, 0.5, Z.astype(int), key=KEY)
    with pytest.raises(ValueError, match="`activation_tiles` is random: pass `key="):
        activation_tiles(noise, 0.5, Z, key=None)
    with pytest.raises(ValueError, match=r"must have shape .* got \(2, 3, 4, 4\) and \(2, 3, 4\)"):
        with_strength(np.zeros((2, 3, 4, 4)), Z)
    with pytest.raises(ValueError, match="must have the same positions; got"):
        with_strength(np.zeros((3, 2, 4, 4, 3)), Z)
