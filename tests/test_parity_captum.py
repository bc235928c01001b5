"""Numbers computed by Captum 0.9.0, each to its own tolerance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import parity_models
from attrax import paths, quadrature, scores

FILE = parity_models.load("captum_foundation.json")
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


def cases(*methods):
    chosen = [case for case in FILE["cases"] if case["method"] in methods]
    assert {case["method"] for case in chosen} == set(methods)
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case["name"])


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


@pytest.mark.parametrize("row", FILE["quadrature"], ids=lambda row: f"{row['method']}({row['n']})")
def test_quadrature(row):
    rule, n = RULES[row["method"]](row["n"]), row["n"]
    # The nodes of the file are rounded to float32.
    np.testing.assert_allclose(rule.nodes, row["alphas"], rtol=0, atol=1e-7)
    weights = rule.weights
    if row["method"] == "riemann_trapezoid":
        # Captum weighs by 1/n where there are n - 1 intervals; ours is the textbook rule.
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
    if case["captum_quirk"]:
        # Captum's trapezoid sums to (n - 1)/n. The textbook value is its value times n/(n - 1).
        assert case["method_args"]["method"] == "riemann_trapezoid"
        expected = expected * rule.n / (rule.n - 1)
    found = [
        attrax.integrated_gradients(lambda x, s=s: s(model(*x)), x, b, rule=rule, batch_size=rule.n)
        for x, b, s in examples(case)
    ]
    check(case, found, expected)


def test_the_textbook_trapezoid_of_a_cube():
    # 3 x^2 on [0, 2] and on [1, -1] in three intervals, by hand.
    (case,) = (c for c in FILE["cases"] if c["captum_quirk"])
    x, b = jnp.array([2.0, -1.0]), jnp.array([0.0, 1.0])
    attribution = attrax.integrated_gradients(
        lambda x: jnp.sum(x**3), x, b, rule=quadrature.trapezoid(4)
    )
    np.testing.assert_allclose(attribution, [24 * (5 / 27 + 1 / 6), -22 / 9], rtol=1e-12)
    np.testing.assert_allclose(np.asarray(case["expected"])[0] * 4 / 3, attribution, rtol=1e-6)


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
            line = paths.linear(start)
            attribution = attrax.influence(fn, z, line, rule=rule, batch_size=rule.n)
        found.append((attribution,))
    check(case, found)
