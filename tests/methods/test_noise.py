"""Explanations averaged over noise and over baselines, and their standard errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import distributions

pytestmark = pytest.mark.usefixtures("strict")

X = jnp.array([1.0, 2.0, -1.5])
BASELINES = jnp.array([[0.5, -1.0, 0.25], [0.0, 1.0, 2.0], [-1.0, 0.5, 0.0], [2.0, 0.0, 1.0]])
SIGMA = 0.5
NOISE = {
    "smoothgrad": attrax.smoothgrad,
    "smoothgrad_squared": attrax.smoothgrad_squared,
    "vargrad": attrax.vargrad,
}
METHODS = {**NOISE, "expected_gradients": attrax.expected_gradients}
_W = np.random.default_rng(3).normal(size=(3, 8))
SLOPES = np.array([2.0, -1.0, 3.0])


def cubes(x):
    return jnp.sum(x**3)


def network(x):
    return jnp.sum(jnp.tanh(x @ jnp.asarray(_W, x.dtype)))


def cube_gradient(x):
    return attrax.gradient(cubes, x)


def double(x):
    """The gradient of the sum of squares: under noise normal, of variance 4 sigma^2."""
    return 2 * x


# Programs that several tests share, always over RUNS keys: compiling them takes far longer than
# running them.
RUNS = 2000


@functools.cache
def noisy(num_samples, batch_size, explain):
    """`keys, sigma -> ` the estimates of all methods, one for each key."""

    def run(key, sigma):
        settings = {"num_samples": num_samples, "batch_size": batch_size}
        return {
            name: method(explain, X, key=key, sigma=sigma, **settings)
            for name, method in NOISE.items()
        }

    return jax.jit(jax.vmap(run, (0, None)))


def combined(parts, x):
    """Cubes, a network and a linear function, in the given parts."""
    return parts @ jnp.stack([cubes(x), network(x), x @ jnp.asarray(SLOPES, x.dtype)])


@functools.cache
def expecting(batch_size):
    """`keys, sigma, parts, baselines -> ` the estimates, one for each key."""

    def run(key, sigma, parts, baselines):
        fn = functools.partial(combined, parts)
        settings = {"num_samples": 8, "batch_size": batch_size}
        return attrax.expected_gradients(fn, X, baselines, key=key, sigma=sigma, **settings)

    return jax.jit(jax.vmap(run, (0, None, None, None)))


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def check_mean(estimate, expected):
    """The runs scatter around what is expected; returns their spread."""
    value = np.asarray(estimate.value, np.float64)
    spread = value.std(axis=0)
    assert np.all(abs(value.mean(axis=0) - expected) < 4 * spread / np.sqrt(len(value)))
    return spread


def check_error(estimate, spread):
    """The errors that the runs report are their spread."""
    reported = np.sqrt(np.mean(np.asarray(estimate.standard_error, np.float64) ** 2, axis=0))
    np.testing.assert_allclose(reported, spread, rtol=0.15)


# Answers known on paper. Many runs of few samples: their mean is the closed form, which no biased
# estimate would give, and their spread is the standard error that each of them reports.


def test_noise_is_unbiased_with_a_true_standard_error():
    found = noisy(8, 8, cube_gradient)(keys(RUNS), SIGMA)
    x, s = np.asarray(X, np.float64), SIGMA
    # E 3 (x + s e)^2, E 9 (x + s e)^4 and Var 3 (x + s e)^2
    mean, square = 3 * (x**2 + s**2), 9 * (x**4 + 6 * x**2 * s**2 + 3 * s**4)
    check_error(found["smoothgrad"], check_mean(found["smoothgrad"], mean))
    check_error(found["smoothgrad_squared"], check_mean(found["smoothgrad_squared"], square))
    # The error of a variance of 8 draws is rough: it is tested with more of them.
    check_mean(found["vargrad"], square - mean**2)


def test_more_samples():
    # Of n normal draws with variance v the mean has the variance v / n, and the variance
    # 2 v^2 / (n - 1).
    n, v = 64, 4 * SIGMA**2
    found = noisy(n, n, double)(keys(1000), SIGMA)
    check_error(found["smoothgrad"], np.full(3, np.sqrt(v / n)))
    check_mean(found["vargrad"], np.full(3, v))
    check_error(found["vargrad"], np.full(3, v * np.sqrt(2 / (n - 1))))


def test_expected_gradients_are_unbiased_with_a_true_standard_error():
    # E ((x + s e)^3 - b^3): one feature at a time, so the path does not matter.
    parts = jnp.array([1.0, 0.0, 0.0])
    found = expecting(8)(keys(RUNS), SIGMA, parts, BASELINES)
    x, b = np.asarray(X, np.float64), np.asarray(BASELINES, np.float64)
    expected = x**3 + 3 * x * SIGMA**2 - np.mean(b**3, axis=0)
    check_error(found, check_mean(found, expected))


def test_expected_gradients_are_the_mean_of_integrated_gradients():
    parts = jnp.array([0.0, 1.0, 0.0])
    explain = lambda b: attrax.integrated_gradients(network, X, b)  # noqa: E731
    expected = jnp.mean(jax.jit(jax.vmap(explain))(BASELINES), axis=0)
    found = expecting(8)(keys(RUNS), 0.0, parts, BASELINES)
    check_error(found, check_mean(found, expected))
    # Complete in expectation.
    totals = np.asarray(found.value, np.float64).sum(axis=1)
    whole = network(X) - jnp.mean(jax.vmap(network)(BASELINES))
    assert abs(totals.mean() - whole) < 4 * totals.std() / np.sqrt(RUNS)


# A slow reference, over the same draws and in chunks that do not divide them.


def test_noise_against_a_slow_reference():
    n, key = 7, jax.random.key(3)
    draws = jnp.stack([distributions.gaussian(SIGMA)(X)(0.0, k) for k in jax.random.split(key, n)])
    draws = 3 * np.asarray(draws, np.float64) ** 2
    variance = draws.var(axis=0, ddof=1)
    fourth = np.mean((draws - draws.mean(axis=0)) ** 4, axis=0)
    expected = {
        "smoothgrad": (draws.mean(axis=0), variance / n),
        "smoothgrad_squared": ((draws**2).mean(axis=0), (draws**2).var(axis=0, ddof=1) / n),
        "vargrad": (variance, (fourth - variance**2 * (n - 3) / (n - 1)) / n),
    }
    for name, (value, error) in noisy(n, 3, cube_gradient)(key[None], SIGMA).items():
        np.testing.assert_allclose(value[0], expected[name][0], rtol=1e-4)
        np.testing.assert_allclose(error[0], np.sqrt(expected[name][1]), rtol=1e-4)


def test_baselines_in_chunks():
    parts = jnp.array([1.0, 1.0, 0.0])
    whole, chunks = (expecting(size)(keys(RUNS), SIGMA, parts, BASELINES) for size in (8, 3))
    for alone, chunked in zip(whole, chunks, strict=True):
        np.testing.assert_allclose(chunked, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    assert len(np.unique(whole.value[:, 0])) == RUNS  # each key is another draw


# Nothing random is left.


def test_zero_noise_is_the_plain_method():
    plain = 3 * np.asarray(X, np.float64) ** 2
    expected = {"smoothgrad": plain, "smoothgrad_squared": plain**2, "vargrad": 0 * plain}
    for name, (value, error) in noisy(8, 8, cube_gradient)(keys(RUNS), 0.0).items():
        np.testing.assert_allclose(value[0], expected[name], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(error[0], np.zeros(3), rtol=0, atol=1e-6)


def test_one_baseline_and_a_linear_function_leave_no_error():
    baselines = jnp.tile(BASELINES[:1], (4, 1))
    value, error = expecting(8)(keys(RUNS), 0.0, jnp.array([0.0, 0.0, 1.0]), baselines)
    expected = (np.asarray(X) - np.asarray(BASELINES[0])) * SLOPES
    np.testing.assert_allclose(value, np.tile(expected, (RUNS, 1)), rtol=1e-5)
    np.testing.assert_allclose(error, np.zeros((RUNS, 3)), rtol=0, atol=1e-6)


def test_no_derivative_is_lost_where_the_error_is_zero():
    def run(x, sigma):
        settings = {"key": jax.random.key(0), "sigma": sigma, "num_samples": 3}
        value, error = attrax.smoothgrad(cube_gradient, x, **settings)
        return value.sum(), error.sum()

    (value_by_x, _), (error_by_x, by_sigma) = jax.jit(jax.jacrev(run, (0, 1)))(X, 0.0)
    np.testing.assert_allclose(value_by_x, 6 * X, rtol=1e-5)
    np.testing.assert_array_equal(error_by_x, np.zeros(3))
    assert np.isfinite(by_sigma)


# Precision and arguments.


def shifted(x):
    return 1000 + x


@pytest.mark.soak
def test_a_small_spread_of_large_values():
    # About zero, the squares would be rounded to 0.06: a hundred times the variance.
    n, sigma = 200, 0.01
    found = noisy(n, n, shifted)(keys(20), sigma)
    np.testing.assert_allclose(found["smoothgrad"].value, np.tile(1000 + X, (20, 1)), rtol=1e-5)
    check_error(found["smoothgrad"], np.full(3, sigma / np.sqrt(n)))
    check_mean(found["vargrad"], np.full(3, sigma**2))


def test_any_explanation_of_any_tree():
    x = {"a": X, "b": [jnp.ones((2, 2))]}
    fn = lambda x: cubes(x["a"]) + cubes(x["b"][0]) * jnp.sum(x["a"])  # noqa: E731
    explain = lambda x: attrax.gradient(fn, x)  # noqa: E731
    total = lambda x: attrax.channels(explain(x)["a"][:, None])  # noqa: E731

    def run(key):
        settings = {"key": key, "sigma": 0.1, "num_samples": 3}
        baselines = jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf / 2]), x)
        found = [method(explain, x, **settings) for method in NOISE.values()]
        found.append(attrax.expected_gradients(fn, x, baselines, **settings))
        return found, attrax.smoothgrad(total, x, **settings)

    found, reduced = jax.eval_shape(run, jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, x)
    for estimate in found:
        for part in estimate:
            assert jax.tree.map(jnp.shape, part) == shapes
    assert reduced.value.shape == reduced.standard_error.shape == (1,)


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_in_is_half_precision_out(name):
    over = (cubes,) if name == "expected_gradients" else (cube_gradient,)
    behind = (BASELINES,) if name == "expected_gradients" else ()
    settings = {"sigma": SIGMA, "num_samples": 4}
    run = lambda x, key: METHODS[name](*over, x, *behind, key=key, **settings)  # noqa: E731
    for part in jax.eval_shape(run, X.astype("bfloat16"), jax.random.key(0)):
        assert part.dtype == jnp.bfloat16


# What is refused.


@pytest.mark.parametrize("name", METHODS)
def test_refusals_of_every_method(name):
    over = (cubes,) if name == "expected_gradients" else (cube_gradient,)
    behind = (BASELINES,) if name == "expected_gradients" else ()
    settings = {"key": jax.random.key(0), "sigma": 1.0, "num_samples": 4}

    def call(x=X, **changed):
        return METHODS[name](*over, x, *behind, **settings | changed)

    with pytest.raises(TypeError, match="`x` must be floating; got int32"):
        call(jnp.arange(3))
    with pytest.raises(ValueError, match=f"`{name}` is random: pass `key="):
        call(key=None)
    with pytest.raises(ValueError, match="`num_samples` must be at least 2; got 1"):
        call(num_samples=1)
    with pytest.raises(ValueError, match="`sigma` must not be negative; got -1"):
        call(sigma=-1.0)
    with pytest.raises(ValueError, match=r"`sigma` must be a scalar; got shape \(3,\)"):
        call(sigma=jnp.ones(3))
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        jax.eval_shape(functools.partial(call, batch_size=0))


@pytest.mark.parametrize(
    ("baselines", "error", "message"),
    [
        (X, ValueError, r"behind one leading axis.*; got \[\(3,\)\] against \[\(3,\)\]"),
        (jnp.ones((4, 2)), ValueError, r"got \[\(4, 2\)\] against \[\(3,\)\]"),
        (
            jnp.ones((0, 3)),
            ValueError,
            r"one leading axis of the same length, 1 or more; got shapes \(0, 3\)",
        ),
        ([BASELINES], ValueError, "`baselines` must have the structure of `x`"),
        (jnp.ones((4, 3), int), TypeError, "`baselines` must be floating; got int32"),
    ],
)
def test_refused_baselines(baselines, error, message):
    with pytest.raises(error, match=message):
        attrax.expected_gradients(cubes, X, baselines, key=jax.random.key(0), num_samples=4)


def test_baselines_of_several_arrays_are_equally_many():
    x = {"a": X, "b": X}
    rows = {"a": BASELINES, "b": BASELINES[:2]}
    with pytest.raises(
        ValueError, match=r"one leading axis of the same length.*\(4, 3\), \(2, 3\)"
    ):
        attrax.expected_gradients(
            lambda x: cubes(x["a"]), x, rows, key=jax.random.key(0), num_samples=4
        )
