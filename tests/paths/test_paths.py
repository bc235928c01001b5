"""Paths end where they should; distributions have the moments they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attrax import distributions, paths, quadrature

pytestmark = pytest.mark.usefixtures("strict")

X = jnp.array([1.0, -2.0, 4.0])
B = jnp.array([0.5, 0.0, -1.0])


@pytest.mark.parametrize("path", [paths.straight, paths.polyline(), paths.polyline(B * 3, X * 2)])
def test_paths_join_the_baseline_to_the_example(path):
    curve = path(X, B)
    np.testing.assert_allclose(curve(0.0), B, rtol=0, atol=1e-6)
    np.testing.assert_allclose(curve(1.0), X, rtol=0, atol=1e-6)


def test_straight_line():
    np.testing.assert_allclose(paths.straight(X, B)(0.25), 0.75 * B + 0.25 * X, rtol=1e-6)
    np.testing.assert_allclose(paths.straight(X)(0.25), 0.25 * X, rtol=1e-6)


def test_polyline_without_waypoints_is_straight():
    for t in (0.0, 0.3, 1.0):
        expected = paths.straight(X, B)(t)
        np.testing.assert_allclose(paths.polyline()(X, B)(t), expected, rtol=1e-6)


def test_polyline_gives_each_piece_the_same_time():
    corner = jnp.array([9.0, 9.0, 9.0])
    curve = paths.polyline(corner)(X, B)
    np.testing.assert_allclose(curve(0.25), (B + corner) / 2, rtol=1e-6)
    np.testing.assert_allclose(curve(0.5), corner, rtol=1e-6)
    np.testing.assert_allclose(curve(0.75), (corner + X) / 2, rtol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_the_derivative_of_a_polyline_is_that_of_its_piece(t):
    corner = jnp.array([9.0, 9.0, 9.0])
    curve = paths.polyline(corner)(X, B)
    velocity = jax.jvp(curve, (jnp.float32(t),), (jnp.float32(1),))[1]
    np.testing.assert_allclose(velocity, 2 * (corner - B if t < 0.5 else X - corner), rtol=1e-6)


def test_interpolate_stacks_the_points():
    nodes = quadrature.gauss_legendre(4).nodes
    points = paths.interpolate({"a": X, "b": jnp.float32(3)}, None, nodes)
    np.testing.assert_allclose(points["a"], nodes[:, None] * np.asarray(X), rtol=1e-6)
    np.testing.assert_allclose(points["b"], nodes * 3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`nodes` must be one-dimensional; got shape \(\)"):
        paths.interpolate(X, None, 0.5)


def test_bfloat16_points_keep_their_nodes():
    # Computed in bfloat16 the 32 largest nodes of 1000 would collapse to a handful.
    x = jnp.full((1,), 256.0, jnp.bfloat16)
    points = paths.interpolate(x, None, quadrature.midpoint(256).nodes)
    assert points.dtype == jnp.bfloat16
    exact = 256 * quadrature.midpoint(256).nodes[:, None]
    np.testing.assert_array_equal(points, jnp.asarray(exact, jnp.bfloat16))


def test_float64_stays_float64():
    with jax.enable_x64(True):
        x = jnp.array([1.0, 3.0], "float64")
        points = paths.interpolate(x, None, [0.1])
        assert points.dtype == jnp.float64
        np.testing.assert_allclose(points, [[0.1, 0.3]], rtol=1e-15)


def test_point_and_linear():
    np.testing.assert_array_equal(distributions.point(X)(0.3, None), X)
    expected = paths.straight(X, B)(0.3)
    np.testing.assert_array_equal(distributions.linear(B)(X)(0.3, None), expected)
    np.testing.assert_array_equal(
        distributions.linear(lambda x: x - (X - B))(X)(0.3, None), expected
    )


def test_a_baseline_that_is_a_function_must_return_what_is_like_x():
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(2,\)"):
        distributions.linear(lambda x: x[:2])(X)


def draws(distribution, x, t=1.0, n=4000):
    keys = jax.random.split(jax.random.key(1), n)
    return np.asarray(jax.vmap(lambda key: distribution(x)(t, key))(keys))


def test_gaussian_has_its_moments():
    sample = draws(distributions.gaussian(0.5), X)
    error = 0.5 / np.sqrt(len(sample))
    np.testing.assert_allclose(sample.mean(0), X, rtol=0, atol=4 * error)
    np.testing.assert_allclose(sample.std(0), 0.5, rtol=0, atol=4 * error)


def test_stochastic_channels_scale_whole_channels():
    sample = draws(distributions.stochastic_channels(), jnp.ones((2, 2, 3)), t=0.5)
    np.testing.assert_array_equal(sample, np.broadcast_to(sample[:, :1, :1], sample.shape))
    factor = sample[:, 0, 0] / 0.5
    assert factor.min() >= 0 and factor.max() <= 4 / 3
    # The sum of two uniform numbers has mean 1 and variance 1/6.
    np.testing.assert_allclose(factor.mean(0), 2 / 3, rtol=0, atol=0.02)
    np.testing.assert_allclose(factor.var(0), 1 / 6 / 1.5**2, rtol=0.1)
    assert abs(np.corrcoef(factor[:, 0], factor[:, 1])[0, 1]) < 0.07


def test_the_channels_may_lie_along_any_axis():
    sample = draws(distributions.stochastic_channels(axis=0), jnp.ones((3, 2)), n=2)
    np.testing.assert_array_equal(sample[..., 0], sample[..., 1])
    assert len(np.unique(sample)) == 6


@pytest.mark.parametrize(
    "distribution", [distributions.gaussian(1.0), distributions.stochastic_channels()]
)
def test_leaves_and_keys_get_numbers_of_their_own(distribution):
    sampler = distribution({"a": jnp.ones(3), "b": jnp.ones(3)})
    first, second = sampler(1.0, jax.random.key(0)), sampler(1.0, jax.random.key(1))
    assert not np.allclose(first["a"], first["b"])
    assert not np.allclose(first["a"], second["a"])
    assert sampler(1.0, jax.random.key(0))["a"].tolist() == first["a"].tolist()


def test_random_points_keep_the_dtype():
    x = jnp.ones(3, jnp.bfloat16)
    for distribution in (distributions.gaussian(1.0), distributions.stochastic_channels()):
        assert distribution(x)(1.0, jax.random.key(0)).dtype == jnp.bfloat16


def test_sigma_may_be_traced():
    noise = jax.grad(lambda s: distributions.gaussian(s)(X)(0.0, jax.random.key(0))[0])(1.0)
    assert noise == pytest.approx(
        float(distributions.gaussian(1.0)(X)(0.0, jax.random.key(0))[0] - X[0])
    )


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`sigma` must be a scalar; got shape \(3,\)"):
        distributions.gaussian(X)
    with pytest.raises(ValueError, match=r"`sigma` must not be negative; got -1\.0"):
        distributions.gaussian(-1.0)
    with pytest.raises(ValueError, match="`gaussian` is random: pass `key="):
        distributions.gaussian(1.0)(X)(0.0, None)
    with pytest.raises(ValueError, match="`stochastic_channels` is random: pass `key="):
        distributions.stochastic_channels()(X)(0.0, None)
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-1, 1\) here; got 2"):
        distributions.stochastic_channels(2)(X)(0.0, jax.random.key(0))
    with pytest.raises(ValueError, match=r"`waypoint` must have the shapes of `x`; got \(1,\)"):
        paths.polyline(jnp.ones(1))(X, B)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
        paths.straight(X, jnp.ones(1))
    with pytest.raises(TypeError, match="`x` must be floating; got int32"):
        paths.straight(jnp.arange(3))


@pytest.mark.parametrize(
    "path",
    [
        paths.straight,
        paths.polyline(jnp.array([3e20, -7.0, 0.1])),
        paths.tokenwise([2, 0, 1]),
        lambda x, b: lambda t: paths.interpolate(x, b, [t])[0],
    ],
    ids=["straight", "polyline", "tokenwise", "interpolate"],
)
def test_both_ends_are_met_to_the_last_bit(path):
    """Beside a baseline of 1e30 the difference to it has no digits left for x."""
    x, baseline = jnp.array([0.1, -3.0, 7.7]), jnp.array([1e30, -1e25, 0.3])
    curve = path(x, baseline)
    np.testing.assert_array_equal(curve(1.0), x)
    np.testing.assert_array_equal(curve(0.0), baseline)
