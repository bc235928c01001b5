"""Integrated gradients to a tolerance: the answer, its error, and what it costs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import quadrature, scores
from attrax._methods import _certified_estimates as estimates

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


def exact_of_kinked():
    """Each hidden unit is on for a share of the line that is known on paper."""
    start, end = (np.asarray(a, "float64") @ INTO for a in (BASELINES, XS))
    share = np.clip(np.maximum(start, end) / np.abs(end - start), 0, 1)
    slopes = np.einsum("ij,nj,jn->ni", INTO, share, OUT[:, CLASSES])
    return (np.asarray(XS) - np.asarray(BASELINES)) * slopes


def explained(fn, **options):
    return jax.jit(functools.partial(attrax.certified_integrated_gradients, fn, **options))


def relative(value, expected):
    return np.abs(value - expected).sum(1) / np.abs(expected).sum(1)


# What completeness proves.


def steep(total, slope):
    """A probability that switches within 1 / slope of the path."""
    return jax.nn.sigmoid(slope * (total - 1.7317))


STEPS = {
    "slope 1000": lambda total: steep(total, 1000.0),
    "slope 3000": lambda total: steep(total, 3000.0),
    "slope 1e6": lambda total: steep(total, 1e6),
    "rounded": lambda total: jnp.round(total + 0.1),
    "counted, and a slope": lambda total: 1e-3 * total + (total > 0.7).astype(total.dtype),
    "two steps": lambda total: steep(total, 1e6) - 0.5 * steep(1.2 * total, 1e6),
}


def test_what_switches_between_nodes_is_found_or_said_to_be_missing():
    """No gradient is seen at the nodes of the rules, and the score changes all the same."""
    fn = lambda x, kind: jax.lax.switch(kind, list(STEPS.values()), jnp.sum(x))  # noqa: E731
    found = explained(fn)(jnp.ones((6, 3)), jnp.arange(6), tolerance=1e-2)
    gap = np.abs(found.completeness_gap)
    size = np.abs(found.value).sum(1)
    assert found.converged.tolist() == [True, True, False, False, False, False]
    assert (gap[:2] <= 1e-2 * size[:2]).all()
    np.testing.assert_allclose(found.value[:2], 1 / 3, rtol=1e-2)
    assert (
        gap <= 1.001 * size * np.where(size > 0, found.error_estimate, 1) + 3 * (size == 0)
    ).all()


def test_a_certificate_needs_no_gap_where_a_skip_connection_goes_around():
    """The sum of a conductance is the change of the score only where every path crosses."""
    split = lambda x: (jnp.tanh(x), lambda z: jnp.sum(z**2) + jnp.sum(x))  # noqa: E731
    found = jax.jit(functools.partial(attrax.certified_conductance, split))(XS, tolerance=1e-3)
    assert found.converged.all() and (np.abs(found.completeness_gap) > 0.1).any()


# Integrands that change at one scale, far from that of the path.


def normed(x, epsilon):
    h = x * jax.lax.rsqrt(jnp.mean(x * x) + epsilon)
    return jnp.tanh(h) @ INTO[:, 0].astype(x.dtype) + jnp.sum(h[:2] * h[2:4])


def test_a_norm_with_a_baseline_of_zeros():
    """All of the change lies below t = epsilon^(1/2), where 256 nodes of Gauss see nothing."""
    epsilons = jnp.array([1e-4, 1e-6, 1e-8, 1e-12] * 2)
    xs, zeros = XS[:8], jnp.zeros_like(XS[:8])
    forwards = jnp.arange(8)[:, None] < 6  # the last two run from the example to zero
    ends = jnp.where(forwards, xs, zeros), jnp.where(forwards, zeros, xs)
    found = explained(normed)(ends[0], epsilons, baselines=ends[1], tolerance=1e-3)

    def exact(x, epsilon):
        """In the variable log(t + epsilon^(1/2)), in which no such norm changes fast."""
        scale = jnp.sqrt(epsilon)
        rule, rate = quadrature.gauss_legendre(200), jnp.log1p(1 / scale)
        times = scale * jnp.expm1(rate * rule.nodes)
        slopes = jax.vmap(lambda t: jax.grad(normed)(t * x, epsilon))(times)
        return x * ((rule.weights * rate * (times + scale)) @ slopes)

    with jax.enable_x64(True):
        wide = (jnp.asarray(np.asarray(a), "float64") for a in (xs, epsilons))
        expected = np.asarray(jax.jit(jax.vmap(exact))(*wide))
    error = relative(np.where(forwards, found.value, -found.value), expected)
    # Next to an end at 1, float32 holds no steps of 1e-8.
    done = np.asarray(found.converged)
    assert done[:7].all()
    assert (error[done] <= 1e-3).all()
    assert (found.evaluations[:6] <= 162).all()


# How it is run.


SWITCHES = {"debug_nans": True, "numpy_dtype_promotion": "strict", "numpy_rank_promotion": "raise"}


@pytest.mark.parametrize("switch", SWITCHES)
def test_under_the_switches_of_jax(switch):
    """Rules, halving, graded variables and the end of a budget, with what helps to find errors."""

    def fn(x, kind):
        kinks = jnp.sum(jax.nn.relu(x - jnp.float32(0.3)))
        norm = jnp.sum((x * jax.lax.rsqrt(jnp.mean(x * x) + jnp.float32(1e-8))) ** 3)
        return jnp.where(kind == 0, jnp.sum(x**3), jnp.where(kind == 1, kinks, norm))

    xs, kinds = jnp.abs(XS[:3]) + jnp.float32(0.1), jnp.arange(3)
    settings = {"tolerance": 1e-3, "max_evaluations": 129}
    with getattr(jax, switch)(SWITCHES[switch]):
        found = attrax.certified_integrated_gradients(fn, xs, kinds, **settings)
    # The norm would need some more: what is left of its budget is too little for another level.
    assert found.converged.tolist() == [True, True, False]
    assert (found.evaluations[1:] > 33).all() and np.isfinite(found.error_estimate).all()


def test_a_custom_vjp_before_the_layer():
    @jax.custom_vjp
    def kernel(x):
        return jnp.tanh(x)

    kernel.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, u: (u * (1 - y * y),))
    split = lambda x: (kernel(x), lambda z: jnp.sum(z**2))  # noqa: E731
    run = functools.partial(attrax.certified_conductance, split, XS, tolerance=1e-3)
    with pytest.raises(TypeError, match=r"pass `jvp=attrax\.reverse_jvp`"):
        run()
    found = jax.jit(lambda: run(jvp=attrax.reverse_jvp))()
    assert found.converged.all()
    np.testing.assert_allclose(found.value, jnp.tanh(XS) ** 2, atol=1e-4)


# Rules, estimates and what they cost.


def test_polynomials_stop_at_the_first_rule():
    fn = lambda x: jnp.sum(x**3)  # noqa: E731
    xs = jnp.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]])
    found = explained(fn, batch_size=7, max_evaluations=17)(xs, tolerance=1e-5)
    np.testing.assert_allclose(found.value, xs**3, rtol=1e-5)
    assert found.evaluations.tolist() == [9, 9, 9]
    assert found.converged.all()
    assert np.abs(found.completeness_gap).max() < 1e-5


@pytest.mark.parametrize("fn", [smooth, kinked])
def test_the_error_is_below_the_tolerance_and_the_estimate(fn):
    run = explained(fn)
    expected = reference(fn, 128) if fn is smooth else exact_of_kinked()
    evaluations = []
    for tolerance in TOLERANCES:
        found = run(XS, CLASSES, baselines=BASELINES, tolerance=tolerance)
        error, done = relative(found.value, expected), np.asarray(found.converged)
        assert done.all() if fn is smooth else done.any()
        # The model of jumps is a mean magnitude, right for many kinks. Of a few, as here, each can
        # be missed by half an interval, which is 1.36 times as much, or a bit more.
        slack = 1 if fn is smooth else 1.5
        assert (error[done] <= slack * tolerance).all()
        assert (error <= slack * found.error_estimate + 1e-6).all()
        assert (found.evaluations[~done] > 257 - 16).all()
        evaluations.append(found.evaluations.mean())
        gaps = jax.vmap(
            lambda v, x, b, i: attrax.metrics.completeness_gap(lambda x: fn(x, i), v, x, b)
        )(found.value, XS, BASELINES, CLASSES)
        np.testing.assert_allclose(found.completeness_gap, gaps, atol=1e-6)
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < evaluations[-1]


@pytest.mark.soak
def test_a_tolerance_out_of_reach_is_said_to_be():
    found = explained(kinked, max_evaluations=33)(XS, CLASSES, baselines=BASELINES, tolerance=1e-5)
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
    found = explained(smooth)(XS, CLASSES, baselines=BASELINES, tolerance=tolerance)
    loose = explained(smooth)(XS, CLASSES, baselines=BASELINES, tolerance=0.3)
    np.testing.assert_allclose(found.value[:6], loose.value[:6], rtol=1e-5, atol=1e-7)
    assert found.evaluations[6:].mean() > found.evaluations[:6].mean()


@pytest.mark.soak
def test_a_jump_is_found_by_halving():
    """A rule of 257 nodes is off by about 1/257 here; bisection gains a bit with each round."""
    fn = lambda x, at: jnp.sum(jax.nn.relu(x - at))  # noqa: E731
    ats = jnp.array([[0.3, 0.6], [0.1, 0.9], [0.45, 0.45]])
    run = jax.jit(functools.partial(attrax.certified_integrated_gradients, fn))
    found = run(jnp.ones((3, 2)), ats, tolerance=1e-5)
    assert found.converged.all() and (found.evaluations < 257).all()
    np.testing.assert_allclose(found.value, 1 - ats, atol=2e-5)


def test_the_model_of_jumps_is_the_mean_error_of_the_trapezoid_rule():
    rng = np.random.default_rng(0)
    times = np.sort(np.concatenate([[0, 1], rng.random(15)])).astype("float32")
    where, size = rng.random((5000, 3)), rng.normal(size=(5000, 3))
    rows = (size * (times[:, None, None] > where)).sum(-1).astype("float32")
    error = np.trapezoid(rows, times, axis=0) - (size * (1 - where)).sum(-1)
    squares = jnp.sum(estimates.jump_moves(jnp.asarray(times), jnp.asarray(rows)) ** 2, 0)
    believed = estimates.jump_error(squares) / estimates.JUMP_SAFETY
    # Three jumps do not make a normal variable; it is exact for many.
    assert np.abs(error).sum() == pytest.approx(believed.item(), rel=0.1)


@pytest.mark.soak
@pytest.mark.parametrize("sharp", [3, 10, 30])
def test_the_smooth_model_is_above_the_error(sharp):
    """Runge's function at many places, at each level where the model says that it is resolved."""
    where = np.linspace(0.1, 0.9, 9)
    curve = lambda t: 1 / (1 + sharp**2 * (t - where[None, :]) ** 2)  # noqa: E731
    exact = (np.arctan(sharp * (1 - where)) + np.arctan(sharp * where)) / sharp
    coarse = None
    for n in (5, 9, 17, 33, 65):
        rows = jnp.asarray(curve(quadrature.clenshaw_curtis(n).nodes[:, None]), "float32")
        fine = estimates.assessed(rows)
        error = np.abs(fine.value - exact).sum() / exact.sum()
        if coarse is not None:
            believed = estimates.combined(fine, coarse)
            if believed <= 5e-2:
                assert error <= believed + 1e-6
            if 1e-5 < error < 1e-2:
                assert believed <= 500 * error
        coarse = fine


@pytest.mark.soak
def test_another_path():
    """The example of `attrax.path_integrated_gradients`: the first feature moves first."""

    def first(x, b):
        return lambda t: b + (x - b) * jnp.stack([jnp.minimum(2 * t, 1), jnp.maximum(2 * t - 1, 0)])

    xs = jnp.array([[2.0, 3.0], [1.0, 5.0]])
    found = attrax.certified_integrated_gradients(
        lambda x: x[0] * x[1], xs, tolerance=1e-3, path=first
    )
    assert found.converged.all()
    np.testing.assert_allclose(found.value, [[0, 6], [0, 5]], rtol=1e-3, atol=1e-3)


def test_at_a_layer_all_rows_share_the_weights():
    """The activation is put in its place; weights behind it have no axis of rows."""
    into, out = jnp.asarray(INTO), jnp.asarray(OUT)
    model = lambda w, x: attrax.tap("hidden", jnp.tanh(x @ w[0] / 2)) @ w[1]  # noqa: E731

    @jax.jit
    def explained(weights, xs, classes):
        net = functools.partial(model, weights)
        zs = jax.vmap(lambda x: attrax.capture(net, x, at="hidden"))(xs)

        def fn(z, x, i):
            return scores.probability(i)(attrax.intervene(net, x, at={"hidden": z}))

        settings = {"tolerance": 1e-4, "max_evaluations": 65}
        return zs, attrax.certified_integrated_gradients(fn, zs, xs, classes, **settings)

    program = explained.lower((into, out), XS, CLASSES).compile()
    # No copy of the weights for each row, and nothing before the layer in the loop.
    assert not re.search(r"f32\[\d+,16,4\]|f32\[\d+,6,16\]", program.as_text())
    zs, found = program((into, out), XS, CLASSES)
    rule = quadrature.gauss_legendre(48)
    behind = lambda z, i: scores.probability(i)(z @ OUT)  # noqa: E731
    at_layer = lambda z, i: attrax.integrated_gradients(  # noqa: E731
        lambda z: behind(z, i), z, rule=rule
    )
    expected = jax.jit(jax.vmap(at_layer))(zs, CLASSES)
    assert found.converged.all()
    assert (relative(found.value, expected) <= 1e-4).all()


@pytest.mark.soak
def test_conductance():
    def split(x, i):
        return jnp.tanh(x @ INTO / 2), lambda z: scores.probability(i)(z @ OUT)

    found = jax.jit(functools.partial(attrax.certified_conductance, split))(
        XS, CLASSES, baselines=BASELINES, tolerance=1e-4
    )
    rule = quadrature.gauss_legendre(48)
    expected = jax.jit(
        jax.vmap(lambda x, b, i: attrax.conductance(lambda x: split(x, i), x, b, rule=rule))
    )(XS, BASELINES, CLASSES)
    assert found.converged.all() and found.value.shape == (12, 16)
    assert (relative(found.value, expected) <= 1e-4).all()
    assert np.abs(found.completeness_gap).max() < 1e-4


@pytest.mark.soak
def test_sharded_by_example_nothing_is_sent():
    devices = jax.devices()[:4]
    mesh = jax.sharding.Mesh(np.array(devices), ("examples",))
    rows = jax.P("examples")

    def explain(xs, baselines, classes):
        return attrax.certified_integrated_gradients(
            kinked, xs, classes, baselines=baselines, tolerance=1e-2, batch_size=16
        )

    run = jax.jit(jax.shard_map(explain, mesh=mesh, in_specs=rows, out_specs=rows))
    program = run.lower(XS, BASELINES, CLASSES).compile()
    for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert name not in program.as_text()
    together = jax.jit(explain)(XS, BASELINES, CLASSES)
    found = program(XS, BASELINES, CLASSES)
    assert found.evaluations.tolist() == together.evaluations.tolist()
    np.testing.assert_allclose(found.value, together.value, rtol=1e-5, atol=1e-6)
    # By sharding alone it is right too, with examples that travel.
    placed = jax.device_put((XS, BASELINES, CLASSES), jax.NamedSharding(mesh, rows))
    found = jax.jit(explain)(*placed)
    np.testing.assert_allclose(found.value, together.value, rtol=1e-5, atol=1e-6)


@pytest.mark.soak
def test_only_what_has_not_converged_costs_anything():
    """Rows evaluated, counted by a callback: new nodes of the active examples, in chunks."""
    rows = []

    def fn(x, hard):
        jax.debug.callback(lambda _: rows.append(1), x[0])
        return jnp.where(hard, jnp.sum(jnp.tanh(9 * x)), jnp.sum(x**2))

    xs, hard = jnp.ones((16, 2)), jnp.arange(16) == 5
    found = attrax.certified_integrated_gradients(
        fn, xs, hard, tolerance=1e-4, batch_size=4, max_evaluations=65
    )
    jax.effects_barrier()
    assert found.converged.all()
    easy, most = 9, int(found.evaluations[5])
    assert (np.delete(found.evaluations, 5) == easy).all() and most > easy
    # Nothing but the chunks that are not full: the first rule fills two and a quarter of four.
    needed = 16 * easy + most - easy
    assert needed <= len(rows) <= 16 * 12 + most


def test_one_program_for_every_tolerance_target_and_baseline():
    traces = 0

    def fn(x, i):
        nonlocal traces
        traces += 1
        return smooth(x, i)

    run = explained(fn)
    run(XS, CLASSES, baselines=BASELINES, tolerance=1e-2)
    before = traces
    run(XS, CLASSES[::-1], baselines=2 * BASELINES, tolerance=1e-3)
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


def test_a_traced_tolerance_below_the_dtype_is_never_met():
    """In bfloat16 the results alone are rounded by up to 0.4 %, whatever the nodes say."""
    fn = lambda x: jnp.sum(x**3) / 3  # noqa: E731
    xs = jnp.asarray(_RNG.uniform(1, 2, size=(4, 6)), jnp.bfloat16)
    run = explained(fn, max_evaluations=9)
    tight, loose = run(xs, tolerance=1e-3), run(xs, tolerance=0.0625)
    assert not tight.converged.any() and loose.converged.all()
    expected = np.asarray(xs, "float64") ** 3 / 3
    assert (relative(np.asarray(loose.value, "float64"), expected) > 1e-3).any()
    assert (
        relative(np.asarray(loose.value, "float64"), expected) <= np.asarray(loose.error_estimate)
    ).all()
    with pytest.raises(ValueError, match=r"must be at least 6\.2e-02, what the dtypes of `xs` and"):
        attrax.certified_integrated_gradients(fn, xs, tolerance=1e-3)
    # A layer may be coarser than the input.
    split = lambda x: (x.astype(jnp.bfloat16), lambda z: jnp.sum(z.astype("float32")))  # noqa: E731
    with pytest.raises(ValueError, match=r"must be at least 6\.2e-02"):
        attrax.certified_conductance(split, xs.astype("float32"), tolerance=1e-3)


@pytest.mark.soak
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
    assert (found.evaluations == 9).all()


def test_what_is_found_not_finite_by_halving_is_given_up_at_once():
    """NaN around a kink, between the nodes of the nested rules."""

    def fn(x, at):
        inside = (x[0] > 0.3005) & (x[0] < 0.302)
        return jnp.sum(jax.nn.relu(x - at)) * jnp.where(inside, jnp.nan, 1)

    ats = jnp.array([[0.3013, 0.6071], [0.7, 0.9]])
    xs = jnp.array([[1.0, 1.0], [0.3, 1.0]])  # the second never comes to the window
    found = explained(fn)(xs, ats, tolerance=1e-5)
    assert found.converged.tolist() == [False, True]
    assert 33 < found.evaluations[0] < 257 - 16


@pytest.mark.soak
def test_a_tolerance_without_end_still_evaluates():
    tolerance = np.where(np.arange(12) < 6, np.inf, 0.1)
    found = explained(smooth)(XS, CLASSES, baselines=BASELINES, tolerance=tolerance)
    assert (found.evaluations >= 9).all() and found.converged.all()


@pytest.mark.soak
def test_further_arguments_may_be_numpy_arrays():
    found = attrax.certified_integrated_gradients(
        lambda x, i: x[i] ** 3, jnp.ones((2, 3)), np.array([0, 2]), tolerance=1e-3
    )
    np.testing.assert_allclose(found.value, [[1, 0, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 1e-7}, r"`tolerance` must be at least 9\.5e-07"),
        ({"tolerance": jnp.ones(3)}, "`tolerance` must be one number, or one for each of the 12"),
        ({"tolerance": 0.1, "max_evaluations": 8}, "`max_evaluations` must be at least 9; got 8"),
        ({"tolerance": 0.1, "batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        attrax.certified_integrated_gradients(jnp.sum, XS, **options)


def test_refusals_of_leading_axes():
    with pytest.raises(ValueError, match="must have one leading axis"):
        attrax.certified_integrated_gradients(smooth, XS, CLASSES[:3], tolerance=0.1)
    with pytest.raises(ValueError, match="at least one example"):
        attrax.certified_integrated_gradients(jnp.sum, XS[:0], tolerance=0.1)
