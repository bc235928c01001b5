"""Integrated gradients to a tolerance: the answer, its error, and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import quadrature, scores

_RNG = np.random.default_rng(2)
INTO, OUT = (_RNG.normal(size=s).astype("float32") for s in ((6, 16), (16, 4)))
XS = jnp.asarray(_RNG.normal(size=(12, 6)), "float32")
BASELINES = jnp.asarray(_RNG.normal(size=(12, 6)) / 4, "float32")
CLASSES = jnp.arange(12) % 4
TOLERANCES = (5e-2, 1e-2, 1e-3)


def smooth(x, i):
    return scores.probability(i)(jnp.tanh(x @ INTO / 2) @ OUT)


def kinked(x, i):
    return scores.logit(i)(jax.nn.relu(x @ INTO) @ OUT)


def reference(fn, n):
    rule = quadrature.gauss_legendre(n)
    explain = lambda x, b, i: attrax.integrated_gradients(  # noqa: E731
        lambda x: fn(x, i), x, b, rule=rule, batch_size=32
    )
    with jax.enable_x64(True):
        wide = (jnp.asarray(a, "float64") for a in (XS, BASELINES))
        return np.asarray(jax.jit(jax.vmap(explain))(*wide, CLASSES))


def explained(fn, **options):
    return jax.jit(functools.partial(attrax.certified_integrated_gradients, fn, **options))


def relative(value, expected):
    return np.abs(value - expected).sum(1) / np.abs(expected).sum(1)


def test_polynomials_stop_at_the_first_rule():
    fn = lambda x: jnp.sum(x**3)  # noqa: E731
    xs = jnp.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]])
    found = attrax.certified_integrated_gradients(fn, xs, tolerance=1e-5, batch_size=7)
    np.testing.assert_allclose(found.value, xs**3, rtol=1e-5)
    assert found.evaluations.tolist() == [9, 9, 9]
    assert found.converged.all()
    assert np.abs(found.completeness_gap).max() < 1e-5


@pytest.mark.parametrize("fn", [smooth, kinked])
def test_the_error_is_below_the_tolerance_and_the_estimate(fn):
    run, expected = explained(fn), reference(fn, 512)
    evaluations = []
    for tolerance in TOLERANCES:
        found = run(XS, BASELINES, CLASSES, tolerance=tolerance)
        error, done = relative(found.value, expected), np.asarray(found.converged)
        assert done.all() if fn is smooth else done.any()
        assert np.mean(error[done] <= tolerance) >= (1.0 if fn is smooth else 0.9)
        # With few kinks two rules can agree more than either is right, but not by much.
        assert (error <= (1 if fn is smooth else 3) * found.error_estimate + 1e-6).all()
        assert (found.evaluations[~done] == 257).all()
        evaluations.append(found.evaluations.mean())
        gaps = jax.vmap(
            lambda v, x, b, i: attrax.metrics.completeness_gap(lambda x: fn(x, i), v, x, b)
        )(found.value, XS, BASELINES, CLASSES)
        np.testing.assert_allclose(found.completeness_gap, gaps, atol=1e-6)
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < evaluations[-1]


@pytest.mark.soak
def test_a_tolerance_out_of_reach_is_said_to_be():
    found = explained(kinked, max_evaluations=33)(XS, BASELINES, CLASSES, tolerance=1e-5)
    assert not found.converged.any()
    assert (found.evaluations == 33).all()
    # The value is that of the finest rule.
    rule = quadrature.clenshaw_curtis(33)
    expected = jax.vmap(
        lambda x, b, i: attrax.integrated_gradients(lambda x: kinked(x, i), x, b, rule=rule)
    )(XS, BASELINES, CLASSES)
    np.testing.assert_allclose(found.value, expected, atol=1e-5 * np.abs(expected).max())
    assert (found.error_estimate > 1e-5).all()


@pytest.mark.soak
def test_each_example_may_have_its_own_tolerance():
    tolerance = jnp.where(jnp.arange(12) < 6, 0.3, 1e-4)
    found = explained(smooth)(XS, BASELINES, CLASSES, tolerance=tolerance)
    loose = explained(smooth)(XS, BASELINES, CLASSES, tolerance=0.3)
    np.testing.assert_allclose(found.value[:6], loose.value[:6], rtol=1e-5, atol=1e-7)
    assert found.evaluations[6:].mean() > found.evaluations[:6].mean()


def test_only_what_has_not_converged_costs_anything():
    """Rows evaluated, counted by a callback: new nodes of the active examples, in whole chunks."""
    rows = []

    def fn(x, hard):
        jax.debug.callback(lambda _: rows.append(1), x[0])
        return jnp.where(hard, jnp.sum(jnp.tanh(9 * x)), jnp.sum(x**2))

    xs, hard = jnp.ones((16, 2)), jnp.arange(16) == 5
    found = attrax.certified_integrated_gradients(
        fn, xs, None, hard, tolerance=1e-4, batch_size=4, max_evaluations=65
    )
    jax.effects_barrier()
    assert found.converged.all()
    easy, most = 9, int(found.evaluations[5])
    assert (np.delete(found.evaluations, 5) == easy).all() and most > easy
    # The ends of the completeness gap are two more of each example; the callback runs twice where
    # the gradient is taken only if it is traced twice, so count against what one pass needs.
    assert len(rows) == 16 * easy + (most - easy) + 2 * 16


def test_one_program_for_every_tolerance_target_and_baseline():
    traces = 0

    def fn(x, i):
        nonlocal traces
        traces += 1
        return smooth(x, i)

    run = explained(fn)
    run(XS, BASELINES, CLASSES, tolerance=1e-2)
    before = traces
    run(XS, 2 * BASELINES, CLASSES[::-1], tolerance=1e-3)
    assert traces == before


@pytest.mark.soak
def test_trees_and_half_precision():
    fn = lambda x: jnp.sum(x["a"] ** 2) * jnp.sum(x["b"])  # noqa: E731
    xs = {"a": jnp.array([[1.0], [2.0]], jnp.bfloat16), "b": jnp.ones((2, 2), jnp.bfloat16)}
    found = attrax.certified_integrated_gradients(fn, xs, tolerance=0.1)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found.value) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), xs
    )
    np.testing.assert_allclose(found.value["a"].astype("float32"), [[4 / 3], [16 / 3]], rtol=2e-2)


def test_nothing_to_attribute_is_exact():
    found = attrax.certified_integrated_gradients(lambda x: jnp.float32(3), XS, tolerance=1e-3)
    assert found.converged.all() and (found.value == 0).all() and (found.evaluations == 9).all()


@pytest.mark.parametrize(
    "fn", [lambda x: jnp.sum(jnp.sqrt(x)), lambda x: jnp.sqrt(jnp.sum(x**2))], ids=["inf", "nan"]
)
def test_what_is_not_finite_never_converges(fn):
    """Both have no finite gradient at the baseline, which is a node."""
    found = explained(fn, max_evaluations=17)(jnp.abs(XS), tolerance=1e-2)
    assert not found.converged.any()
    assert np.isinf(found.error_estimate).all()
    assert (found.evaluations == 17).all()


@pytest.mark.soak
def test_a_tolerance_without_end_still_evaluates():
    tolerance = np.where(np.arange(12) < 6, np.inf, 0.1)
    found = explained(smooth)(XS, BASELINES, CLASSES, tolerance=tolerance)
    assert (found.evaluations >= 9).all() and found.converged.all()


def test_further_arguments_may_be_numpy_arrays():
    found = attrax.certified_integrated_gradients(
        lambda x, i: x[i] ** 3, jnp.ones((2, 3)), None, np.array([0, 2]), tolerance=1e-3
    )
    np.testing.assert_allclose(found.value, [[1, 0, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 1e-7}, r"`tolerance` must be at least 9\.5e-07"),
        ({"tolerance": jnp.ones(3)}, "`tolerance` must be one number, or one for each of the 12"),
        ({"tolerance": 0.1, "max_evaluations": 50}, "`max_evaluations` must be one of 17, 33"),
        ({"tolerance": 0.1, "batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        attrax.certified_integrated_gradients(jnp.sum, XS, **options)


def test_refusals_of_leading_axes():
    with pytest.raises(ValueError, match="must have one leading axis"):
        attrax.certified_integrated_gradients(smooth, XS, None, CLASSES[:3], tolerance=0.1)
    with pytest.raises(ValueError, match="at least one example"):
        attrax.certified_integrated_gradients(jnp.sum, XS[:0], tolerance=0.1)
