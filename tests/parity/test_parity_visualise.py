"""The images, transforms, objectives and gradients of Lucid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import comparisons
import parity_models
from attrax import scores, visualise
from differences import DIFFERENCES
from parity_models import cases

DATA = "lucid_visualisation.json"
CASES = {case["id"]: case for case in parity_models.load(DATA)["cases"]}
RECORDED = CASES["objectives"]
KEY = jax.random.key(0)
NEAR = 1e-6  # The file was computed in float32.


close = functools.partial(comparisons.close, tolerance=NEAR)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def array(values):
    return jnp.asarray(np.array(values), "float64")


# Images as functions of parameters. Lucid's parameters have a batch axis behind re and im.


@cases(DATA, "image_8x8_dec1_fft1_alpha0", "image_7x6_dec1_fft1_alpha0")
def test_fourier_image(case):
    expected = array(case["image"])[0]
    image = jax.jit(visualise.fourier(expected.shape[:2]).image)
    close(image(array(case["param"])[:, 0]), expected)


@cases(DATA, "image_8x8_dec0_fft1_alpha0")
def test_fourier_image_of_independent_colours(case):
    expected = array(case["image"])[0]
    image = jax.jit(visualise.fourier(expected.shape[:2], colour=np.eye(3)).image)
    close(image(array(case["param"])[:, 0]), expected)


@cases(DATA, "image_8x8_dec1_fft0_alpha0")
def test_pixel_image(case):
    expected = array(case["image"])[0]
    close(visualise.pixels(expected.shape[:2]).image(array(case["param"])[0]), expected)


@cases(DATA, "image_6x7_dec1_fft1_alpha0")
def test_at_odd_widths_there_is_no_further_frequency(case):
    # Lucid transforms a spectrum of one column more, that of width 8, weighed by frequencies of
    # width 7, and cuts off a column of pixels. Its number follows; ours is a Fourier transform.
    parameters, expected = np.array(case["param"])[:, 0], array(case["image"])[0]
    y, x = np.fft.fftfreq(6)[:, None], np.fft.fftfreq(7)[None, :5]
    weights = np.sqrt(6 * 7) / np.maximum(np.sqrt(y**2 + x**2), 1 / 7)
    values = np.fft.irfft2(weights * (parameters[0] + 1j * parameters[1]))[..., :7] / 4
    close(jax.nn.sigmoid(np.moveaxis(values, 0, -1) @ visualise.NATURAL.T), expected)
    ours = visualise.fourier((6, 7))
    assert list(ours.init(KEY).shape) == DIFFERENCES[case["id"]].textbook
    again = jax.jit(lambda image: ours.image(ours.invert(image)))(expected)
    comparisons.close(again, expected, tolerance=1e-10)


@cases(DATA, "rfft2d_freqs_4x5")
def test_frequencies(case):
    # What a unit coefficient weighs shows its frequency: s = sqrt(4 * 5) / max(f, 1/5).
    image = jax.jit(visualise.fourier((4, 5), colour=np.eye(1)).image)
    spectrum = np.ones((2, 1, 4, 3))
    values = 4 * logits_of(image(array(spectrum)))[..., 0]
    found = np.abs(np.fft.rfft2(values))[1, 1:] / np.sqrt(2)
    close(found, np.sqrt(20) / DIFFERENCES[case["id"]].textbook)
    # Lucid has these too. Its fourth column is not a frequency of width 5: it repeats the third.
    first, *further = np.array(case["freqs"])[1, 1:]
    close([first, further[0]], DIFFERENCES[case["id"]].textbook)
    assert further[1] == further[0]


def logits_of(p):
    return np.log(p) - np.log1p(-p)


# Transforms, where nothing is random.


def transformed(transform):
    return jnp.stack([transform(KEY, image) for image in array(RECORDED["img"])])


def legacy_resize(size):
    """TensorFlow's old bilinear resize: positions i * old / new, the last pixel repeated."""

    def transform(key, image):
        step = len(image) / size
        image = jnp.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
        shift = jnp.full(2, step * (size - 1) / 2 - (len(image) - 1) / 2)
        return visualise.warp(image, step * jnp.eye(2), shift, size=(size, size))

    return transform


@cases(DATA, "transforms")
def test_transforms(case):
    found = {
        "pad2_reflect": visualise.reflect(2),
        "pad2_const05": visualise.pad(2),
        "scale_1.2": legacy_resize(10),
        "scale_0.9": legacy_resize(8),
        "rotate_10deg": visualise.rotate([10], order=0, fill=0.0),
        "rotate_-5deg": visualise.rotate([-5], order=0, fill=0.0),
        "crop_or_pad_7x11": visualise.crop_or_pad((7, 11)),
    }
    assert found.keys() == case["values"].keys()
    results = jax.jit(lambda: {name: transformed(found[name]) for name in found})()
    for name, result in results.items():
        close(result, case["values"][name])


@cases(DATA, "standard_transforms_shapes")
def test_the_usual_transforms_have_one_shape(case):
    _, height, width, channels = case["input"]
    image = jax.ShapeDtypeStruct((height, width, channels), jnp.float64)
    shape = jax.eval_shape(visualise.STANDARD, KEY, image).shape
    assert [1, *shape] == DIFFERENCES[case["id"]].textbook
    # Lucid's at scale 1.
    assert case["shapes"][5] == DIFFERENCES[case["id"]].textbook


# Objectives. Lucid's are means over the batch; these are of one example.


def mean(objective, name="acts"):
    return jnp.mean(jax.vmap(objective)(array(RECORDED[name])))


def objectives():
    z, images = array(RECORDED["acts"]), array(RECORDED["img"])
    v, logits = array(RECORDED["vec"]), array(RECORDED["logits"])
    block = array(RECORDED["tensor_dir"])
    centre = jax.vmap(lambda one: visualise.cosine_direction(one[2, 2], v))
    return {
        "neuron": mean(lambda z: visualise.centre_neuron(z, 2)),
        "neuron_xy": mean(scores.neuron(1, 3, 2)),
        "neuron_batch1": visualise.centre_neuron(z[1], 2),
        "channel": mean(lambda z: visualise.mean_channel(z, 4)),
        "channel_batch2": visualise.mean_channel(z[2], 4),
        "channel_logits": mean(scores.logit(3), "logits"),
        "direction": mean(lambda z: visualise.cosine_direction(z, v)),
        "direction_cossim1": mean(lambda z: visualise.cosine_direction(z, v, 1)),
        "direction_cossim2": mean(lambda z: visualise.cosine_direction(z, v, 2)),
        "direction_neuron": jnp.mean(centre(z)),
        "direction_neuron_cos1": mean(lambda z: visualise.cosine_direction(z[2, 2], v, 1)),
        "tensor_direction": jnp.mean(jnp.sum(z[:, 1:3, 1:4] * block[None], axis=-1)),
        "deepdream": visualise.deep_dream(z),
        "total_variation": jax.vmap(visualise.total_variation)(images),
        "total_variation_layer": jax.vmap(visualise.total_variation)(z),
        "L1": visualise.l1(images),
        "L1_half": visualise.l1(images, 0.5),
        "L2": visualise.l2(images),
        "L2_half": visualise.l2(images, 0.5),
        "blur_input_each_step": visualise.detail(images),
        "channel_interpolate": visualise.interpolation(z, 1, 1),
        "penalize_boundary": -visualise.boundary_complexity(images, 2),
        "alignment": -visualise.alignment(z),
        "diversity": visualise.diversity(z),
        "input_diff": jnp.sqrt(jnp.mean(jnp.square(images - 0.5))),
        "class_logit_int": sum(map(scores.logit(3), logits)),
        "class_logit_str": sum(map(scores.logit(2), logits)),
        "blur_alpha_each_step": visualise.detail(array(RECORDED["img4"])[..., 3:]),
        "grad_blur_input_each_step": jax.grad(visualise.detail)(images),
    }


@cases(DATA, "objectives")
def test_objectives(case):
    found = jax.jit(objectives)()
    assert found.keys() == case["values"].keys()
    for name, value in found.items():
        close(value, case["values"][name])


@cases(DATA, "combine")
def test_objectives_combine_by_arithmetic(case):
    def objective(z):
        channels = 0.2 * visualise.mean_channel(z, 1) + 0.8 * visualise.mean_channel(z, 2)
        return channels - visualise.deep_dream(z)

    close(jax.jit(lambda: mean(objective))(), case["value"])


# Gradients of silent ReLUs. Lucid's are those of the loss, which is made small.


@cases(DATA, "redirected_relu_grad")
def test_redirected_relu(case):
    def pulled(x, above, step):
        def relu(x):
            return visualise.redirected_relu(x, active=step <= 16)

        return jax.vjp(relu, x)[1](above)[0]

    x, above = array(case["x"]), -array(case["incoming_grad"])
    for step in (0, 16, 17):
        found = jax.jit(jax.vmap(pulled, in_axes=(0, 0, None)))(x, above, step)
        close(-found, case[f"step{step}"])
