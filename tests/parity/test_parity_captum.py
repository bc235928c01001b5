"""Numbers computed by Captum 0.9.0, each to its own tolerance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import parity_models
from attrax import distributions, metrics, quadrature, scores
from differences import DIFFERENCES

FILE = parity_models.load("captum_foundation.json")
cases = functools.partial(parity_models.cases, "captum_foundation.json")
KEY = jax.random.key(5)
RULES = {
    "riemann_left": quadrature.riemann_left,
    "riemann_right": quadrature.riemann_right,
    "riemann_middle": quadrature.midpoint,
    "riemann_trapezoid": quadrature.trapezoid,
    "gausslegendre": quadrature.gauss_legendre,
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def examples(case):
    """For each example: the inputs as a tuple, the baseline like it or None, and the score."""
    inputs = [np.asarray(value, np.float64) for value in case["inputs"]]
    size = len(inputs[0])
    for i in range(size):
        x = tuple(jnp.asarray(value[i]) for value in inputs)
        yield x, _baseline(case, x, i), _score(case["target"], i)


def _baseline(case, x, i):
    """Captum broadcasts numbers and single rows over the batch; here every example has its own."""
    if case["baselines"] is None:
        return None
    rows = []
    for value, model in zip(case["baselines"], x, strict=True):
        value = np.asarray(value, np.float64)
        if value.ndim == 0:
            rows.append(jnp.full_like(model, float(value)))
        else:
            rows.append(jnp.asarray(value[i if len(value) > 1 else 0]))
    return tuple(rows)


def _score(target, i):
    if target is None:
        return lambda y: y.reshape(())
    if isinstance(target, list):
        target = target[i]
    return scores.neuron(*target["tuple"]) if isinstance(target, dict) else scores.logit(target)


def rule_of(case):
    arguments = case["method_args"]
    return RULES[arguments["method"]](arguments["n_steps"])


def check(case, attributions, expected=None):
    """`attributions`: for each example a tuple with one array for each input."""
    expected = case["expected"] if expected is None else expected
    columns = [expected] if len(case["model"]["inputs"]) == 1 or case["layer"] else expected
    for column, *parts in zip(columns, *attributions, strict=True):
        np.testing.assert_allclose(
            np.stack(parts), np.asarray(column), rtol=0, atol=case["tolerance"]
        )


@pytest.mark.parametrize("row", FILE["quadrature"], ids=parity_models.identity)
def test_quadrature(row):
    rule, n = RULES[row["method"]](row["n"]), row["n"]
    # The nodes of the file are rounded to float32.
    np.testing.assert_allclose(rule.nodes, row["alphas"], rtol=0, atol=1e-7)
    weights = rule.weights
    if difference := DIFFERENCES.get(parity_models.identity(row)):
        assert weights.sum() == pytest.approx(difference.textbook, abs=1e-15)
        assert row["weight_sum"] == pytest.approx((n - 1) / n)
        weights = weights * (n - 1) / n
    np.testing.assert_allclose(weights, row["weights"], rtol=0, atol=1e-8)


@cases("Saliency")
def test_saliency(case):
    model = parity_models.from_spec(case["model"])
    found = [attrax.gradient(lambda x, s=s: s(model(*x)), x) for x, _, s in examples(case)]
    if case["method_args"]["abs"]:
        found = jax.tree.map(jnp.abs, found)
    check(case, found)


@cases("InputXGradient")
def test_input_times_gradient(case):
    model = parity_models.from_spec(case["model"])
    check(
        case,
        [attrax.gradient_times_input(lambda x, s=s: s(model(*x)), x) for x, _, s in examples(case)],
    )


@cases("IntegratedGradients")
def test_integrated_gradients(case):
    model, rule = parity_models.from_spec(case["model"]), rule_of(case)
    expected = np.asarray(case["expected"])
    smaller = 1.0
    if case["captum_quirk"]:
        # Captum's number is smaller by the sum of its weights; ours is known on paper.
        textbook, smaller = DIFFERENCES[case["name"]].textbook, (rule.n - 1) / rule.n
        np.testing.assert_allclose(expected / smaller, textbook, rtol=1e-6)
        expected = np.asarray(textbook)
    found, gaps = [], []
    for x, baseline, score in examples(case):
        fn = lambda x, s=score: s(model(*x))  # noqa: E731
        found.append(attrax.integrated_gradients(fn, x, baseline, rule=rule, batch_size=rule.n))
        as_captum = jax.tree.map(lambda a: a * smaller, found[-1])
        gaps.append(metrics.completeness_gap(fn, as_captum, x, baseline))
    check(case, found, expected)
    # Captum's convergence delta.
    atol = case["tolerance"] * sum(part.size for part in found[0])
    np.testing.assert_allclose(gaps, case["expected_delta"], rtol=0, atol=atol)


def test_the_textbook_trapezoid_of_a_cube():
    # 3 x^2 on [0, 2] and on [1, -1] in three intervals, by hand.
    x, b = jnp.array([2.0, -1.0]), jnp.array([0.0, 1.0])
    attribution = attrax.integrated_gradients(
        lambda x: jnp.sum(x**3), x, b, rule=quadrature.trapezoid(4)
    )
    by_hand = [24 * (5 / 27 + 1 / 6), -22 / 9]
    np.testing.assert_allclose(attribution, by_hand, rtol=1e-12)
    textbook = DIFFERENCES["ig_cube_n4_riemann_trapezoid"].textbook[0]
    np.testing.assert_allclose(textbook, by_hand, rtol=1e-12)


def layer_name(case):
    if case["layer_io"] == "input":
        return parity_models.producer(case["model"], case["layer"])
    return case["layer"]


@cases("LayerActivation")
def test_layer_activation(case):
    model = parity_models.from_spec(case["model"], attrax.tap)
    found = [attrax.cut(model, *x, at=layer_name(case))[0] for x, _, _ in examples(case)]
    captured = [attrax.capture(model, *x, at=layer_name(case)) for x, _, _ in examples(case)]
    check(case, [(value,) for value in found])
    check(case, [(value,) for value in captured])


@cases("LayerGradientXActivation")
def test_layer_gradient_times_activation(case):
    model, found = parity_models.from_spec(case["model"], attrax.tap), []
    for x, _, score in examples(case):
        z, tail = attrax.cut(model, *x, at=layer_name(case))
        found.append((attrax.gradient_times_input(lambda z, s=score, t=tail: s(t(z)), z),))
    check(case, found)


@cases("LayerIntegratedGradients")
def test_layer_integrated_gradients(case):
    model, rule = parity_models.from_spec(case["model"], attrax.tap), rule_of(case)
    found = []
    for x, baseline, score in examples(case):
        if baseline is None:
            baseline = jax.tree.map(jnp.zeros_like, x)
        z, tail = attrax.cut(model, *x, at=layer_name(case))
        start = attrax.cut(model, *baseline, at=layer_name(case))[0]
        fn = lambda z, s=score, t=tail: s(t(z))  # noqa: E731
        if case["method_args"].get("multiply_by_inputs", True):
            attribution = attrax.integrated_gradients(fn, z, start, rule=rule, batch_size=rule.n)
        else:
            line = distributions.linear(start)
            attribution = attrax.influence(fn, z, line, rule=rule, batch_size=rule.n)
        found.append((attribution,))
    check(case, found)


# Class activation maps, one map for all channels. The first axis of Captum's layers is their
# channels.


@parity_models.cases("captum_cam.json", "LayerGradCam")
def test_grad_cam(case):
    model, at = parity_models.from_spec(case["model"], attrax.tap), layer_name(case)
    to_first, to_last = (lambda z: jnp.moveaxis(z, -1, 0)), (lambda z: jnp.moveaxis(z, 0, -1))
    found = []
    for (x,), _, score in examples(case):
        z, tail = (x, model) if at == "x" else attrax.cut(model, x, at=at)
        fn = lambda z, s=score, t=tail: s(t(to_first(z)))  # noqa: E731
        found_map = attrax.grad_cam(fn, to_last(z))[None]
        if case["method_args"].get("relu_attributions"):
            found_map = jax.nn.relu(found_map)
        found.append((found_map,))
    check(case, found)


# Metrics. Every perturbation is the same, so that nothing is random.


def check_metric(case, measure):
    """`measure(model, x)` for each example."""
    model = parity_models.from_spec(case["model"])
    xs = jnp.asarray(np.array(case["inputs"][0]))
    value = jax.jit(jax.vmap(lambda x: measure(model, x)))(xs)
    np.testing.assert_allclose(value, case["expected"], rtol=0, atol=case["tolerance"])


def shifted(by):
    return lambda x: lambda t, key: x + by


@parity_models.cases("captum_metrics.json", "infidelity")
def test_infidelity(case):
    def measure(model, x):
        slope = attrax.gradient(model, x)
        found = metrics.infidelity(model, slope, x, shifted(-0.25), key=KEY, num_samples=3)
        # Every sample is the same: the error is zero, but for rounding.
        return jnp.where(found.standard_error < 1e-12, found.value, jnp.nan)

    check_metric(case, measure)


@parity_models.cases("captum_metrics.json", "sensitivity_max")
def test_max_sensitivity(case):
    def measure(model, x):
        explain = lambda x: attrax.gradient(model, x)  # noqa: E731
        return metrics.max_sensitivity(explain, x, shifted(0.02), key=KEY, num_samples=2)

    check_metric(case, measure)
