"""The blur is the Gaussian of the grid, and attributions along it add up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import attrax
from attrax import paths, quadrature
from attrax.metrics import completeness_gap
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

_RNG = np.random.default_rng(5)
IMAGE = jnp.asarray(_RNG.normal(size=(9, 7, 2)), jnp.float32)
_WEIGHTS = _RNG.normal(size=(2, 5)), _RNG.normal(size=(9, 7, 5)) / 5


def network(x):
    """A smooth function of an image, (9, 7, 2)."""
    hidden = jnp.tanh(x @ jnp.asarray(_WEIGHTS[0], x.dtype))
    return jnp.tanh(jnp.sum(hidden * jnp.asarray(_WEIGHTS[1], x.dtype)))


def blurred(x, sigma, axes=(0, 1)):
    """`x` blurred with `sigma`: where the path begins."""
    return paths.blur(sigma, axes=axes)(x)(0.0)


def heat(n, sigma):
    """The blur of n values in a row as a matrix, by the eigenvectors of the second difference."""
    flow = np.diag(np.ones(n - 1), 1)
    flow = flow + flow.T - np.diag((flow + flow.T).sum(0))
    rates, modes = np.linalg.eigh(flow)
    return modes @ np.diag(np.exp(sigma**2 * rates / 2)) @ modes.T


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 40.0])
def test_against_a_slow_reference(sigma):
    expected = np.einsum("ih,jw,hwc->ijc", heat(9, sigma), heat(7, sigma), np.asarray(IMAGE))
    close(blurred(IMAGE, sigma), expected)
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(IMAGE), "float64")
        assert blurred(x, sigma).dtype == jnp.float64
        close(blurred(x, sigma), expected, 1e-10)


def test_a_constant_image_is_not_changed():
    close(blurred(jnp.full((9, 7, 2), 3.0), 4.0), np.full((9, 7, 2), 3.0))


def test_the_end_is_the_example_to_the_last_bit():
    for x in (IMAGE, IMAGE.astype(jnp.bfloat16)):
        np.testing.assert_array_equal(paths.blur(5.0)(x)(1.0), x)
        np.testing.assert_array_equal(paths.blur(0.0)(x)(0.3), x)


def test_sigma_falls_linearly():
    curve = paths.blur(4.0)(IMAGE)
    close(curve(0.25), blurred(IMAGE, 3.0))


def test_a_point_becomes_a_gaussian_of_that_variance():
    place = np.arange(-50, 51)
    spread = np.asarray(blurred(jnp.asarray(place == 0, jnp.float32), 4.0, axes=(0,)), np.float64)
    assert spread.sum() == pytest.approx(1, rel=1e-5)
    assert spread @ place == pytest.approx(0, abs=1e-4)
    assert spread @ place**2 == pytest.approx(16, rel=1e-4)
    assert spread.min() > -1e-7
    gauss = np.exp(-(place**2) / 32) / (4 * np.sqrt(2 * np.pi))
    close(spread, gauss, 1e-2)  # the grid's own differs from the sampled one by 1/(8 sigma^2)


def test_blurs_add_their_variances():
    close(blurred(blurred(IMAGE, 0.6), 0.8), blurred(IMAGE, 1.0))


def test_it_keeps_the_mean_and_the_range():
    for sigma in (0.5, 2.0):
        smooth = blurred(IMAGE, sigma)
        close(smooth.mean((0, 1)), IMAGE.mean((0, 1)))
        assert smooth.min() >= IMAGE.min() and smooth.max() <= IMAGE.max()
    everywhere_mean = jnp.broadcast_to(IMAGE.mean((0, 1), keepdims=True), IMAGE.shape)
    close(blurred(IMAGE, 100.0), everywhere_mean)


def test_axes():
    rows = np.einsum("ih,hwc->iwc", heat(9, 1.5), np.asarray(IMAGE))
    close(blurred(IMAGE, 1.5, axes=(0,)), rows)
    close(blurred(IMAGE, 1.5, axes=[-3]), rows)
    close(blurred(IMAGE, 1.5, axes=(1, 0)), blurred(IMAGE, 1.5))
    np.testing.assert_array_equal(blurred(IMAGE, 1.5, axes=()), IMAGE)


def test_trees_and_dtypes():
    x = {"half": IMAGE.astype(jnp.bfloat16), "single": IMAGE[..., 0]}
    start = blurred(x, 1.0)
    assert start["half"].dtype == jnp.bfloat16 and start["single"].dtype == jnp.float32
    close(start["half"], blurred(IMAGE, 1.0), 2e-2)
    close(start["single"], blurred(IMAGE, 1.0)[..., 0])


def test_the_velocity_is_that_of_the_heat_equation():
    # c' = -max_sigma sigma L c, with L the second difference: it vanishes at the sharp end.
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(IMAGE), "float64")
        curve = paths.blur(3.0, axes=(0,))(x)
        for t in (0.0, 0.4, 1.0):
            place, velocity = jax.jvp(curve, (jnp.asarray(t),), (jnp.asarray(1.0),))
            padded = np.pad(np.asarray(place), ((1, 1), (0, 0), (0, 0)), mode="edge")
            np.testing.assert_allclose(
                velocity, -9 * (1 - t) * np.diff(padded, 2, axis=0), rtol=0, atol=1e-12
            )


def test_additive_functions_know_only_the_ends():
    # F = sum f(x_i) gives f(x_i) - f(start_i) to each pixel, along every path.
    start = blurred(IMAGE, 2.0)
    for f in (lambda x: x * x, lambda x: 3 * x, jnp.sin):
        attribution = attrax.path_integrated_gradients(
            lambda x, f=f: jnp.sum(f(x)), IMAGE, path=paths.blur(2.0)
        )
        close(attribution, f(IMAGE) - f(start))


@functools.partial(jax.jit, static_argnames="max_sigma")
def explain(x, rule, max_sigma=2.0, baseline=None):
    return attrax.path_integrated_gradients(
        network, x, baseline, path=paths.blur(max_sigma), rule=rule, batch_size=16
    )


def test_it_adds_up_from_the_blurred_image():
    attribution = explain(IMAGE, quadrature.gauss_legendre(32))
    scale = float(jnp.abs(attribution).max())
    assert abs(completeness_gap(network, attribution, IMAGE, blurred(IMAGE, 2.0))) < 1e-5 * scale
    # And from nothing else: zeros are not where it begins.
    assert abs(completeness_gap(network, attribution, IMAGE)) > 1e-2


def test_the_given_baseline_is_not_looked_at():
    rule = quadrature.gauss_legendre(4)
    close(explain(IMAGE, rule, baseline=IMAGE + 1), explain(IMAGE, rule))


def test_a_constant_image_has_nothing_to_explain():
    attribution = explain(jnp.full((9, 7, 2), 0.5), quadrature.gauss_legendre(4))
    np.testing.assert_allclose(attribution, np.zeros((9, 7, 2)), rtol=0, atol=1e-6)


def test_nodes_where_the_detail_comes():
    # With max_sigma far above the size of the image nearly everything happens near t = 1.
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(IMAGE), "float64")
        gap = lambda rule: abs(  # noqa: E731
            float(completeness_gap(network, explain(x, rule, 30.0), x, blurred(x, 30.0)))
        )
        rule = quadrature.gauss_legendre(8)
        even = gap(quadrature.composite(rule, 5))
        graded = gap(quadrature.composite(rule, [0, 0.5, 0.75, 0.875, 0.9375, 1]))
    assert graded < 0.1 * even


def test_sigma_may_be_traced_and_learned():
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(IMAGE[:3, :2]), "float64")
        point = jax.jit(lambda s, t, x: paths.blur(s)(x)(t))
        # At the sharp end, where sigma is 0.
        check_grads(point, (jnp.asarray(1.5), jnp.asarray(1.0), x), order=2, modes=["rev"])


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`max_sigma` must be a scalar; got shape \(2,\)"):
        paths.blur(jnp.ones(2))
    with pytest.raises(ValueError, match=r"`max_sigma` must not be negative; got -1\.0"):
        paths.blur(-1.0)
    for axes in (0, (0.5, 1.0), "hw"):
        with pytest.raises(
            TypeError, match=r"`axes` must be a tuple of ints, such as \(0, 1\); got"
        ):
            paths.blur(1.0, axes=axes)
    with pytest.raises(ValueError, match=r"`axes` must lie in \[-1, 1\) here; got 1"):
        paths.blur(1.0)(jnp.ones(3))
    with pytest.raises(ValueError, match=r"`axes` must be different axes of `x`; got \(0, -2\)"):
        paths.blur(1.0, axes=(0, -2))(jnp.ones((3, 3)))
    with pytest.raises(TypeError, match="`x` must be floating; got int32"):
        paths.blur(1.0)(jnp.ones((3, 3), int))
