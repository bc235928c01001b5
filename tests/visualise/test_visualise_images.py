"""Parameterisations, colour matrices and transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from attrax import visualise
from attrax.visualise import colour_matrix, fourier, maco, pixels, stacked, transparent
from comparisons import close

KEY = jax.random.key(3)
RNG = np.random.default_rng(5)
PICTURES = jnp.asarray(RNG.uniform(0.05, 0.95, (4, 6, 7, 3)), jnp.float32)


def there_and_back(parameterisation, image):
    return jax.jit(lambda image: parameterisation.image(parameterisation.invert(image)))(image)


# Parameterisations.


def test_fourier_is_a_sum_of_waves():
    # Slow: each coefficient is a wave, and each wave but those that are their own mirror image
    # stands for two.
    height, width = 4, 5
    params = RNG.normal(size=(2, 1, height, 3))
    y, x = np.mgrid[:height, :width]
    values = np.zeros((height, width))
    for k in range(height):
        for m in range(3):
            across = np.hypot(min(k, height - k) / height, m / width)
            weight = np.sqrt(height * width) / max(across, 1 / 5) ** 1.5
            angle = 2 * np.pi * (k * y / height + m * x / width)
            wave = params[0, 0, k, m] * np.cos(angle) - params[1, 0, k, m] * np.sin(angle)
            values += (2 if m else 1) * weight * wave / (height * width)
    image = jax.jit(fourier((height, width), colour=np.eye(1), decay=1.5).image)
    close(image(jnp.asarray(params, jnp.float32))[..., 0], 1 / (1 + np.exp(-values / 4)))


@pytest.mark.parametrize("size", [(6, 7), (6, 8), (5, 4), (1, 1)])
@pytest.mark.parametrize("make", [fourier, pixels], ids=["fourier", "pixels"])
def test_inverse(make, size):
    parameterisation = make(size)
    image = jnp.asarray(RNG.uniform(0.1, 0.9, (*size, 3)), jnp.float32)
    close(there_and_back(parameterisation, image), image)


def test_the_inverse_moves_black_and_white_inside():
    found = pixels((1, 2), colour=np.eye(1)).invert(jnp.array([[[0.0], [1.0]]]))
    close(found[0, :, 0], np.log(511) * np.array([-1, 1]))


def test_images_begin_grey_and_stay_in_range():
    def drawn(size):
        parameterisation = fourier((8, 8))
        return parameterisation.image(size * parameterisation.init(KEY))

    grey, wild = jax.jit(jax.vmap(drawn))(jnp.array([1.0, 100.0]))
    assert jnp.abs(grey - 0.5).max() < 0.1
    assert wild.min() >= 0 and wild.max() <= 1 and wild.max() - wild.min() > 0.5


def test_any_number_of_channels():
    for channels in (1, 2, 5):
        parameterisation = fourier((4, 6), colour=np.eye(channels))
        assert parameterisation.shape == (4, 6, channels)
        drawn = jax.eval_shape(lambda key, p=parameterisation: p.image(p.init(key)), KEY)
        assert drawn.shape == (4, 6, channels)


def test_transparent_has_a_further_channel():
    parameterisation = transparent(pixels((4, 6)))
    image = jnp.asarray(RNG.uniform(0.1, 0.9, (4, 6, 4)), jnp.float32)
    assert parameterisation.shape == image.shape
    close(there_and_back(parameterisation, image), image)
    drawn = jax.eval_shape(lambda key: parameterisation.image(parameterisation.init(key)), KEY)
    assert drawn.shape == image.shape


def test_batched_begins_differently():
    parameterisation = stacked(pixels((2, 2)), 3)
    params = jax.jit(parameterisation.init)(KEY)
    assert params.shape == (3, 2, 2, 3) == parameterisation.shape
    assert len({float(one[0, 0, 0]) for one in params}) == 3
    images = PICTURES[:3, :2, :2]
    close(there_and_back(parameterisation, images), images)


# MaCo.


@jax.jit
def spectrum_of(image):
    return visualise.magnitude_spectrum(image[None])


def test_maco_keeps_the_magnitudes_of_the_data():
    magnitude = jax.jit(visualise.magnitude_spectrum)(PICTURES)
    close(magnitude, np.mean([spectrum_of(picture) for picture in PICTURES], axis=0))
    parameterisation = maco(magnitude / 50, (6, 7))
    image = jax.jit(lambda key: parameterisation.image(parameterisation.init(key)))(KEY)
    # At zero across, a frequency and its mirror image share the column: only there can they differ.
    close(spectrum_of(image)[..., 1:], magnitude[..., 1:] / 50, 1e-4)


def test_maco_gives_back_an_image_of_its_magnitudes():
    picture = PICTURES[0]
    parameterisation = maco(spectrum_of(picture), (6, 7))
    close(there_and_back(parameterisation, picture), picture)


# Colours.


def test_colour_matrix_is_a_root_of_the_covariance():
    mixing = np.array([[2.0, 0.5, 0.0], [1.0, -1.0, 0.2], [0.0, 0.3, 1.0]])
    data = RNG.normal(size=(40, 50, 3)) @ mixing.T
    found = np.asarray(jax.jit(colour_matrix)(jnp.asarray(data, jnp.float32)), np.float64)
    covariance = np.cov(data.reshape(-1, 3).T, ddof=0)
    close(found @ found.T, covariance / np.linalg.eigvalsh(covariance).max(), 1e-4)
    lengths = np.linalg.norm(found, axis=0)
    assert lengths[0] == pytest.approx(1, rel=1e-5) and (np.diff(lengths) < 0).all()


def test_colour_matrix_of_equal_pixels_is_zero():
    assert jax.jit(colour_matrix)(jnp.full((3, 2), 0.4)).tolist() == [[0, 0], [0, 0]]


def test_natural_colours_are_mostly_brightness():
    assert np.linalg.norm(visualise.NATURAL, axis=0).max() == pytest.approx(1)
    assert np.ptp(visualise.NATURAL[:, 0]) < 0.03
    with pytest.raises(ValueError, match="read-only"):
        visualise.NATURAL[0, 0] = 1


# Transforms.


def test_one_program_serves_all_amounts():
    traces = []

    @jax.jit
    def transformed(key, image):
        traces.append(image.shape)
        return visualise.STANDARD(key, image)

    found = [transformed(jax.random.key(i), PICTURES[0]) for i in range(4)]
    assert traces == [(6, 7, 3)]
    assert {one.shape for one in found} == {(18, 19, 3)}
    assert len({float(one.sum()) for one in found}) == 4


def test_without_transforms_nothing_changes():
    assert (visualise.compose()(KEY, PICTURES[0]) == PICTURES[0]).all()


def test_rotation_by_quarters():
    turn = jax.jit(visualise.rotate([90], order=0))
    close(turn(KEY, PICTURES[0, :6, :6]), np.rot90(PICTURES[0, :6, :6]))


@pytest.mark.parametrize("order", [0, 1])
def test_warp_is_scipys(order):
    image, matrix = np.asarray(PICTURES[0]), np.array([[0.91, -0.293], [0.217, 1.31]])
    shift, size = np.array([0.4, -0.7]), (5, 9)
    offset = (np.array([5, 6]) / 2 + shift) - matrix @ (np.array([4, 8]) / 2)
    # `grid-constant` interpolates to the value beyond the border, too.
    expected = [
        ndimage.affine_transform(
            image[..., c], matrix, offset, size, order=order, mode="grid-constant", cval=0.25
        )
        for c in range(3)
    ]
    warp = jax.jit(visualise.warp, static_argnames=("size", "order"))
    found = warp(PICTURES[0], matrix, shift, size=size, order=order, fill=0.25)
    close(found, np.stack(expected, axis=-1))


def test_jitter_takes_every_window():
    image = jnp.arange(16.0).reshape(4, 4, 1)
    window = jax.jit(jax.vmap(visualise.jitter(1), in_axes=(0, None)))
    found = window(jax.random.split(KEY, 64), image)
    assert found.shape == (64, 3, 3, 1)
    assert {float(corner) for corner in found[:, 0, 0, 0]} == {0.0, 1.0, 4.0, 5.0}
    close(found[:, 2, 2, 0] - found[:, 0, 0, 0], np.full(64, 10))


def test_affine_draws_all_amounts():
    image = jnp.full((5, 5, 1), 1.0).at[2, 2].set(3.0)
    draw = jax.jit(jax.vmap(visualise.affine([1, 3], [0]), in_axes=(0, None)))
    found = draw(jax.random.split(KEY, 32), image)
    assert {round(float(one.sum()), 2) for one in found} == {27.0, 43.0}


def test_crop_or_pad_by_odd_numbers():
    image = jnp.arange(1.0, 6.0)[:, None, None]
    assert visualise.crop_or_pad((2, 1))(KEY, image).ravel().tolist() == [2, 3]
    assert visualise.crop_or_pad((8, 1))(KEY, image).ravel().tolist() == [0, 1, 2, 3, 4, 5, 0, 0]


def test_what_is_transparent_shows_a_random_background():
    over = jax.jit(visualise.over_random_background())
    opaque = jnp.concatenate([PICTURES[0], jnp.ones((6, 7, 1))], axis=-1)
    close(over(KEY, opaque), PICTURES[0])
    clear = opaque.at[..., 3].set(0)
    one, other = (np.asarray(over(key, clear)) for key in (KEY, jax.random.key(4)))
    assert one.shape == (6, 7, 3) and np.abs(one - other).max() > 0.1


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fourier(64), r"`size` must be a height and a width, .*; got 64"),
        (lambda: pixels((0, 4)), "`size` must be at least 1; got 0"),
        (lambda: fourier((4, 4), colour=np.eye(3)[:2]), r"`colour` must be .*got \(2, 3\)"),
        (lambda: maco(np.zeros((3, 4, 4)), (4, 4)), r"shape \(3, 4, 3\) .*; got \(3, 4, 4\)"),
        (lambda: visualise.magnitude_spectrum(PICTURES[0]), r"\(N, H, W, 3\); got \(6, 7, 3\)"),
        (lambda: colour_matrix(jnp.ones(3)), r"pixels and channels, \(..., C\); got \(3,\)"),
        (lambda: colour_matrix(jnp.ones((3, 3), int)), "`images` must be floating; got int32"),
        (lambda: stacked(pixels((2, 2)), 0), "`n` must be at least 1; got 0"),
        (
            lambda: pixels((2, 2)).invert(jnp.ones((2, 2, 1))),
            r"`image` must have shape \(2, 2, 3\); got \(2, 2, 1\)",
        ),
        (
            lambda: visualise.pad(2)(KEY, PICTURES),
            r"a transform takes one image, \(H, W, C\); got \(4, 6, 7, 3\)",
        ),
        (lambda: visualise.pad(-1), "`width` must be at least 0; got -1"),
        (
            lambda: visualise.jitter(6)(KEY, PICTURES[0]),
            r"takes 6 pixels off both sides; got an image of shape \(6, 7, 3\)",
        ),
        (lambda: visualise.rotate([]), r"must hold numbers; got \[1.0\], \[\]"),
        (lambda: visualise.scale([0.0]), "`factors` must be positive; got 0"),
        (lambda: visualise.rotate([1], order=3), r"`order` must be 0 .* or 1 .*; got 3"),
        (
            lambda: visualise.warp(PICTURES[0], jnp.eye(3)),
            r"shapes \(2, 2\) and \(2,\); got \(3, 3\) and \(2,\)",
        ),
        (
            lambda: visualise.over_random_background()(KEY, PICTURES[0]),
            r"needs 3 colours and an opacity; got an image of shape \(6, 7, 3\)",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
