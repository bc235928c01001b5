"""Attributions reduced and ranked, and the completeness gap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax

pytestmark = pytest.mark.usefixtures("strict")

A = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")


def test_channels_sum_all_axes_but_one():
    np.testing.assert_allclose(attrax.channels(A), A.sum((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(attrax.channels(A, axis=0), A.sum((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(attrax.channels(A[0, 0]), A[0, 0])


def test_positions_sum_the_channels():
    np.testing.assert_allclose(attrax.positions(A), A.sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attrax.positions(A, axis=1), A.sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attrax.positions(abs(A)), abs(A).sum(-1), rtol=1e-5)


def test_reductions_keep_the_total():
    total = float(A.sum())
    assert float(attrax.channels(A).sum()) == pytest.approx(total, rel=1e-5)
    assert float(attrax.positions(A).sum()) == pytest.approx(total, rel=1e-5)


def test_reductions_keep_the_dtype_and_sum_in_float32():
    ones = jnp.ones((4096, 2), jnp.bfloat16)
    # Summed in bfloat16, 256 + 1 is 256.
    assert attrax.channels(ones).tolist() == [4096, 4096]
    assert attrax.channels(ones).dtype == attrax.positions(ones).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert attrax.channels(jnp.ones((2, 2), "float64")).dtype == jnp.float64


def test_ranking():
    values = jnp.array([0.5, -2.0, 3.0, 0.0, -0.1])
    ranking = attrax.rank_channels(values, 2)
    assert ranking.positive_indices.tolist() == [2, 0]
    assert ranking.positive_values.tolist() == [3.0, 0.5]
    assert ranking.negative_indices.tolist() == [1, 4]
    np.testing.assert_allclose(ranking.negative_values, [-2.0, -0.1])
    assert isinstance(ranking, attrax.ChannelRanking)


def test_ranking_of_everything_and_of_ties():
    ranking = attrax.rank_channels(jnp.array([1.0, 2.0, 1.0]), 3)
    assert ranking.positive_indices.tolist() == [1, 0, 2]
    assert ranking.negative_indices.tolist() == [0, 2, 1]


def test_ranking_under_jit_vmap_and_grad():
    rows = jnp.asarray(A[0])
    rank = jax.jit(jax.vmap(lambda values: attrax.rank_channels(values, 2)))
    for i, row in enumerate(A[0]):
        assert rank(rows).positive_indices[i].tolist() == np.argsort(-row)[:2].tolist()
        assert rank(rows).negative_indices[i].tolist() == np.argsort(row)[:2].tolist()
    top = jax.grad(lambda values: attrax.rank_channels(values, 1).positive_values[0])
    assert top(jnp.array([1.0, 3.0, 2.0])).tolist() == [0.0, 1.0, 0.0]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-3, 3\) here; got 3"):
        attrax.channels(A, axis=3)
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-3, 3\) here; got -4"):
        attrax.positions(A, axis=-4)
    with pytest.raises(TypeError, match="`attribution` must be floating; got int32"):
        attrax.channels(jnp.arange(3))
    with pytest.raises(ValueError, match="`values` must be one number per channel; got shape"):
        attrax.rank_channels(A, 2)
    with pytest.raises(ValueError, match="`k` must be at most 3; got 4"):
        attrax.rank_channels(A[0, 0], 4)
    with pytest.raises(ValueError, match="`k` must be at least 1; got 0"):
        attrax.rank_channels(A[0, 0], 0)
    with pytest.raises(TypeError, match="`k` determines shapes, so it must be a Python int"):
        jax.jit(attrax.rank_channels)(A[0, 0], 2)


def test_results_of_several_fields_are_refused():
    estimate = attrax.Estimate(A, A)
    message = r"must hold arrays only; got Estimate\(value, standard_error\). Pass its `.value`"
    for reduce in (attrax.channels, attrax.positions, lambda a: attrax.rank_channels(a, 1)):
        with pytest.raises(TypeError, match=message):
            reduce(estimate)
    certified = attrax.Certified(A, *[jnp.ones(4)] * 4)
    with pytest.raises(
        TypeError, match=r"got Certified\(value, error_estimate, .* Pass its `.value"
    ):
        attrax.channels(certified)


def test_gap():
    x = {"a": jnp.array([2.0, 3.0]), "b": jnp.float32(4.0)}
    b = {"a": jnp.array([1.0, 1.0]), "b": jnp.float32(1.0)}
    fn = lambda t: t["a"][0] * t["a"][1] * t["b"]  # noqa: E731
    gap = jax.jit(lambda: attrax.metrics.completeness_gap(fn, x, x, b))()
    assert gap == pytest.approx(9.0 - (24.0 - 1.0))
    gap = attrax.metrics.completeness_gap(fn, x, x)
    assert gap == pytest.approx(9.0 - 24.0)


def test_gap_is_accumulated_in_float32():
    ones = jnp.ones(4096, jnp.bfloat16)
    gap = attrax.metrics.completeness_gap(lambda x: jnp.sum(x, dtype="float32"), ones, ones)
    assert gap.dtype == jnp.float32
    assert gap == 0


def test_gap_checks_shapes():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match=r"`attribution` must have the shapes of `x`; got \(2,\)"):
        attrax.metrics.completeness_gap(jnp.sum, jnp.ones(2), x)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
        attrax.metrics.completeness_gap(jnp.sum, x, x, jnp.ones(1))
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(3,\)"):
        attrax.metrics.completeness_gap(lambda x: x, x, x)
