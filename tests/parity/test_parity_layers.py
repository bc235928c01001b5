"""Captum's layers, neurons and noise, and the rest of TruLens: reproduced, or a stated difference.

Each case is a composition of public functions. Where attrax computes something else on purpose, the
case stands in `differences.py`, with the reason and the textbook value that is met instead.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import parity_models
from attrax import distributions, paths, quadrature, scores
from differences import DIFFERENCES
from test_parity_captum import check, examples, layer_name, rule_of

cases = functools.partial(parity_models.cases, "captum_layers.json")
TRULENS = parity_models.load("trulens_layers.json")
CASES = {case["id"]: case for case in TRULENS["cases"]}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def tapped(case):
    return parity_models.from_spec(case["model"], attrax.tap)


def splitting(case, score):
    """The model of a case, cut at its layer: a function of the tuple of its inputs."""
    model, at = tapped(case), layer_name(case)

    def split(x):
        z, tail = attrax.cut(model, *x, at=at)
        return z, lambda z: score(tail(z))

    return split


def selected(case):
    """The neuron of a case, as a function of the tuple of inputs."""
    model, at, neuron = tapped(case), layer_name(case), case["neuron"]
    score = jnp.sum if isinstance(neuron, str) else scores.neuron(*neuron)
    return lambda x: score(attrax.capture(model, *x, at=at))


# Captum: layers.


@cases("InternalInfluence")
def test_internal_influence(case):
    rule, found = rule_of(case), []
    for x, baseline, score in examples(case):
        split, line = splitting(case, score), distributions.linear(baseline)
        explain = lambda x, s=split, d=line: attrax.internal_influence(  # noqa: E731
            s, x, d, rule=rule, batch_size=rule.n
        )
        found.append((jax.jit(explain)(x),))
    check(case, found)


def pieces(*ends):
    """A rule that is exact where the integrand is constant between `ends`."""
    ends = np.array([0, *ends, 1])
    return quadrature.Rule((ends[1:] + ends[:-1]) / 2, np.diff(ends))


# Where a ReLU of the model switches on the line from zero to the example.
KINKS = {"multilayer": pieces(10 / 100), "oneconv": pieces(50 / 90, 50 / 81, 75 / 90, 75 / 81)}


@cases("LayerConductance")
def test_conductance_meets_the_textbook(case):
    rule = KINKS[case["model_id"]]
    for x, _, score in examples(case):
        split = splitting(case, score)
        explain = lambda x, s=split: attrax.conductance(  # noqa: E731
            s, x, rule=rule, batch_size=rule.n
        )
        found = jax.jit(explain)(x)
        np.testing.assert_allclose(found, DIFFERENCES[case["name"]].textbook[0], atol=1e-9)
        # Every path crosses these layers, and the score of the example counts from that of zero.
        ends = [score(tapped(case)(*place)) for place in (x, jax.tree.map(jnp.zeros_like, x))]
        assert found.sum() == pytest.approx(float(ends[0] - ends[1]), abs=1e-9)


@cases("LayerConductance")
def test_conductance_as_captum_sums_it(case):
    arguments = dict(case["method_args"])
    nodes = rule_of({"method_args": arguments | {"n_steps": arguments["n_steps"] + 1}}).nodes
    for x, baseline, score in examples(case):
        split = splitting(case, score)

        def slope(place, split=split):
            z, fn = split(place)
            return z, attrax.gradient(fn, z)

        z, slopes = jax.jit(jax.vmap(slope))(paths.interpolate(x, baseline, nodes))
        check(case, [(jnp.sum(slopes[:-1] * jnp.diff(z, axis=0), axis=0),)])


@cases("LayerGradientShap")
def test_expected_gradients_at_a_layer(case):
    # One baseline, and a gradient that is the same everywhere: no draw changes anything.
    rule, found = quadrature.midpoint(case["method_args"]["n_samples"]), []
    for x, baseline, score in examples(case):
        split = splitting(case, score)

        @jax.jit
        def explain(x, baseline, split=split):
            line = distributions.linear(baseline)
            mean = attrax.internal_influence(split, x, line, rule=rule)
            return (split(x)[0] - split(baseline)[0]) * mean

        found.append((explain(x, baseline),))
    check(case, found)


@cases("LayerFeatureAblation")
def test_ablation_at_a_layer(case):
    model, at, found = tapped(case), layer_name(case), []
    for x, _, score in examples(case):
        z = attrax.capture(model, *x, at=at)
        filling = jnp.asarray(case["method_args"].get("layer_baselines", jnp.zeros_like(z)[None]))

        def without(index, x=x, score=score, z=z, filling=filling[0]):
            return score(attrax.intervene(model, *x, at={at: z.at[index].set(filling[index])}))

        where = tuple(jnp.indices(z.shape).reshape(z.ndim, -1))
        drops = score(model(*x)) - jax.jit(jax.vmap(without))(where)
        found.append((drops.reshape(z.shape),))
    check(case, found)


# Captum: neurons. A neuron is a score of a captured activation, and any method explains it.


@cases("NeuronGradient")
def test_neuron_gradient(case):
    fn = selected(case)
    check(case, [attrax.gradient(fn, x) for x, _, _ in neuron_examples(case)])


def neuron_examples(case):
    return examples(case | {"target": 0})


@cases("NeuronIntegratedGradients")
def test_neuron_integrated_gradients(case):
    fn, rule, found = selected(case), rule_of(case), []
    for x, baseline, _ in neuron_examples(case):
        if case["method_args"].get("multiply_by_inputs", True):
            explain = lambda x, b=baseline: attrax.integrated_gradients(  # noqa: E731
                fn, x, b, rule=rule, batch_size=rule.n
            )
        else:
            explain = lambda x, b=baseline: attrax.influence(  # noqa: E731
                fn, x, distributions.linear(b), rule=rule, batch_size=rule.n
            )
        found.append(jax.jit(explain)(x))
    check(case, found)


@cases("NeuronConductance")
def test_neuron_conductance(case):
    rule, neuron, found = rule_of(case), tuple(case["neuron"]), []
    for x, baseline, score in examples(case):
        split = splitting(case, score)

        @jax.jit
        def explain(x, split=split, baseline=baseline):
            settings = {"rule": rule, "batch_size": rule.n}
            one = attrax.neuron_conductance(split, x, baseline, neuron=neuron, **settings)
            return one, attrax.neuron_conductance(split, x, baseline, **settings)

        one, all_of_them = explain(x)
        found.append(one)
        for part, parts in zip(one, all_of_them, strict=True):
            np.testing.assert_allclose(part, parts[neuron], atol=1e-12)
    check(case | {"layer": None}, found)


@cases("NeuronFeatureAblation")
def test_neuron_ablation(case):
    fn, found = selected(case), []
    for (x,), _, _ in neuron_examples(case):
        without = jax.vmap(lambda i, x=x: fn((x.at[i].set(0.0),)))(jnp.arange(x.shape[0]))
        found.append((fn((x,)) - without,))
    check(case, found)


# Captum: noise and expectation. Nothing is random in these cases: no noise, and one baseline.


def check_draws(case, explain):
    """`explain(score, x)` estimates without an error, and what Captum finds."""
    rows = list(examples(case | {"baselines": None}))
    explain = jax.jit(functools.partial(explain, rows[0][2]))  # one class for all examples
    found = [explain(x) for x, _, _ in rows]
    check(case, [value for value, _ in found])
    for _, error in found:
        np.testing.assert_allclose(error[0], 0, atol=1e-12)


@cases("NoiseTunnel(Saliency)")
def test_noise(case):
    arguments, model = case["method_args"], parity_models.from_spec(case["model"])
    method = {"smoothgrad": attrax.smoothgrad, "vargrad": attrax.vargrad}[arguments["nt_type"]]

    def explain(score, x):
        return method(
            of(lambda x: model(*x), score, attrax.gradient),
            x,
            key=jax.random.key(0),
            sigma=arguments["stdevs"],
            num_samples=arguments["nt_samples"],
        )

    check_draws(case, explain)


@cases("GradientShap")
def test_expected_gradients(case):
    model, arguments = parity_models.from_spec(case["model"]), case["method_args"]
    baselines = tuple(jnp.asarray(np.array(rows)) for rows in case["baselines"])

    def explain(score, x):
        return attrax.expected_gradients(
            lambda x: score(model(*x)),
            x,
            baselines,
            key=jax.random.key(0),
            sigma=arguments["stdevs"],
            num_samples=arguments["n_samples"],
        )

    check_draws(case, explain)


# TruLens. Each entry computes one case; inputs and models are those of the file.


def weights(model, *names):
    return [np.array(TRULENS["models"][model][name], np.float64) for name in names]


def tiny(x):
    w1, w2, w3 = weights("tiny_mlp", "W1", "W2", "W3")
    h1 = attrax.tap("l1_relu", jax.nn.relu(attrax.tap("input", x) @ w1))
    return attrax.tap("logits", attrax.tap("l2_relu", jax.nn.relu(h1 @ w2)) @ w3)


def first_of_tiny(x):
    return attrax.tap("l1_relu", jax.nn.relu(x @ weights("tiny_mlp", "W1")[0]))


def deep(x):
    w1, b1, w2, b2, w3, b3 = weights("axioms_deep", "W1", "b1", "W2", "b2", "W3", "b3")
    h1 = attrax.tap("l1_relu", jax.nn.relu(x @ w1 + b1))
    return jax.nn.relu(attrax.tap("l2", h1 @ w2 + b2)) @ w3 + b3


def linear(x):
    w, b = weights("axioms_linear", "W", "b")
    return x @ w + b


def anchors(x):
    z = jax.nn.relu(x @ jnp.array([[1.0, 0.0], [0.0, -1.0]]))
    return attrax.tap("z2", z) @ jnp.array([[1.0], [1.0]])


def powers(x):
    return 7 * attrax.tap("layer1", 2 * x**5) ** 3


def power_of_arguments(x, coefficients, divisor, *, degree, offset):
    return attrax.tap("layer1", x) ** degree * coefficients / divisor + offset


def inputs(name, field="x"):
    return jnp.asarray(np.array(CASES[name]["inputs"][field], np.float64))


def each(name, explain, field="x"):
    """`explain` of each example of a case, stacked."""
    return jax.vmap(explain)(inputs(name, field))


def at_layer(model, at, score, method):
    """`method(fn, z)` where fn is the score as a function of the activation at a layer."""

    def explain(x):
        z, tail = attrax.cut(model, x, at=at)
        return method(lambda z: score(tail(z)), z)

    return explain


def line_to(baseline=None, resolution=10):
    """Integrated gradients with the points of TruLens: both ends, all of equal weight."""
    rule = quadrature.endpoint_mean(resolution)
    return lambda fn, x: attrax.integrated_gradients(fn, x, baseline, rule=rule, batch_size=rule.n)


def of(model, score, method):
    return lambda x: method(lambda x: score(model(x)), x)


def path_in_input_space(x):
    rule, line = quadrature.endpoint_mean(10), distributions.linear()

    def split(x):
        z, tail = attrax.cut(deep, x, at="l1_relu")
        return z, lambda z: scores.logit(1)(tail(z))

    return split(x)[0] * attrax.internal_influence(split, x, line, rule=rule, batch_size=10)


def replaced(name):
    """TruLens' intervention at l1_relu, one value for each example."""

    def explain(x, value):
        tail = attrax.cut(tiny, x, at="l1_relu")[1]
        return attrax.gradient(lambda z: maximum(tail(z)), value)

    return jax.vmap(explain)(inputs(name), inputs(name, "intervention"))


def at_points(distribution, x):
    """The gradient at layer1 of the powers, at the one point of a distribution of interest."""
    z, tail = attrax.cut(powers, x, at="layer1")
    rule = quadrature.midpoint(1)
    return attrax.influence(lambda z: jnp.sum(tail(z)), z, distribution(x), rule=rule)


def points(baseline, z):
    """The points of a line: from the baseline to z here, from z to the baseline in TruLens."""
    sampler = distributions.linear(baseline)(z)
    return jax.vmap(lambda t: sampler(t, None))(quadrature.endpoint_mean(10).nodes)[::-1]


def all_arguments():
    x = [inputs("kwargs.fprop", name) for name in ("X", "Coeffs", "divisor", "Degree", "offset")]

    def one(x, coefficients, divisor, degree, offset):
        # Both ways of passing arguments, through a cut.
        named = {"degree": degree, "offset": offset}
        z, tail = attrax.cut(power_of_arguments, x, coefficients, divisor, at="layer1", **named)
        return tail(z)

    return jax.vmap(one, in_axes=(0, 0, None, 0, None))(x[0], x[1], x[2][0], x[3], x[4][0])


def points_of(name, sampler):
    return jax.vmap(sampler)(inputs(name, "z"))


maximum = scores.max_logit()
softmaximum = lambda y: jnp.max(jax.nn.softmax(y))  # noqa: E731
BASELINE = jnp.arange(5.0)
INNER_BASELINE = np.array([0.0, 1, 2, 3, 4, 3, 2, 1, 0, -1])

REPRODUCED = {
    "tiny.fprop_to_cut": lambda n: each(n, lambda x: attrax.capture(tiny, x, at="l2_relu")),
    "tiny.fprop_multi": lambda n: [
        each(n, lambda x, at=at: attrax.capture(tiny, x, at=["l2_relu", "logits"])[at])
        for at in ("l2_relu", "logits")
    ],
    "tiny.fprop_identity": lambda n: jax.vmap(
        lambda x, value: attrax.intervene(first_of_tiny, x, at={"l1_relu": value})
    )(inputs(n), inputs(n, "intervention")),
    "tiny.qoi_bprop_full": lambda n: each(n, of(tiny, maximum, attrax.gradient)),
    "tiny.qoi_bprop_identity": lambda n: each(n, of(lambda x: x, maximum, attrax.gradient)),
    "tiny.qoi_bprop_internal_doi": replaced,
    "tiny.qoi_bprop_multi_input": lambda n: [
        each(
            n,
            lambda x, at=at: attrax.gradients_at(tiny, x, score=maximum, at=["input", "l1_relu"])[
                at
            ],
        )
        for at in ("input", "l1_relu")
    ],
    "anchor.out": lambda n: each(n, at_layer(anchors, "z2", scores.logit(0), attrax.gradient)),
    "lin.linear_agreement": lambda n: each(n, of(linear, scores.logit(1), attrax.gradient)),
    "kwargs.fprop": lambda n: all_arguments(),
    "doi.model_inputs_on_cut": lambda n: each(
        n, lambda x: at_points(lambda x: distributions.point, x)
    ),
    "doi.model_inputs_on_input": lambda n: each(
        n, lambda x: at_points(lambda x: lambda z: lambda t, key: x, x)
    ),
    "doi.point": lambda n: [points_of(n, lambda z: distributions.point(z)(0.5, None))],
    "doi.linear_default_last": lambda n: {"last": points_of(n, lambda z: points(None, z)[-1])},
    "doi.linear_callable": lambda n: {
        "first": points_of(n, lambda z: points(lambda z: z + 42, z)[0]),
        "last": points_of(n, lambda z: points(lambda z: z + 42, z)[-1]),
    },
    "deep.fprop": lambda n: each(n, deep),
    "deep.fprop_l1_relu": lambda n: each(n, lambda x: attrax.capture(deep, x, at="l1_relu")),
    "deep.point_max_nomult": lambda n: each(n, of(deep, maximum, attrax.gradient)),
    "deep.max_softmax": lambda n: each(n, of(deep, softmaximum, attrax.gradient)),
    "deep.threshold_sigmoid": lambda n: each(
        n, of(deep, lambda y: scores.threshold(0.5)(jax.nn.sigmoid(y)), attrax.gradient)
    ),
    "deep.comparative": lambda n: each(
        n, at_layer(deep, "l1_relu", scores.contrast(0, 2), attrax.gradient_times_input)
    ),
    "deep.InputAttribution_default": lambda n: each(
        n, of(deep, maximum, attrax.gradient_times_input)
    ),
    "deep.InputAttribution_l2_3": lambda n: each(
        n,
        of(
            lambda x: attrax.capture(deep, x, at="l2"),
            scores.neuron(3),
            attrax.gradient_times_input,
        ),
    ),
    "deep.IntegratedGradients_res3": lambda n: each(n, of(deep, maximum, line_to(resolution=3))),
    "deep.IntegratedGradients_res50": lambda n: each(n, of(deep, maximum, line_to(resolution=50))),
    "deep.IntegratedGradients_base_q0": lambda n: each(
        n, of(deep, scores.logit(0), line_to(inputs(n, "baseline")[0]))
    ),
    # The file does not say which class the next two score: class 2 gives every digit.
    "deep.ig100_zero": lambda n: each(n, of(deep, scores.logit(2), line_to(resolution=100))),
    "deep.ig100_internal_baseline": lambda n: each(
        n, at_layer(deep, "l1_relu", scores.logit(2), line_to(jnp.asarray(INNER_BASELINE), 100))
    ),
    # The path at the layer, and the path in input space: one word apart in TruLens.
    "deep.linear_shorthand_internal": lambda n: each(
        n, at_layer(deep, "l1_relu", scores.logit(1), line_to())
    ),
    "deep.linear_object_internal": lambda n: each(n, path_in_input_space),
    "qoi.0": lambda n: each(n, maximum, "y"),
    "qoi.1": lambda n: jax.vmap(maximum, in_axes=1)(inputs(n, "y")),
    "qoi.2": lambda n: each(n, softmaximum, "y"),
    "qoi.3": lambda n: each(n, scores.channel(2), "y"),
    "qoi.5": lambda n: each(n, scores.contrast(1, 0), "y"),
    "qoi.8": lambda n: each(n, lambda y: -scores.threshold(1.5)(y), "y"),
    "qoi.9": lambda n: each(n, lambda y: scores.threshold(0.75)(jax.nn.sigmoid(y)), "y"),
}


@pytest.mark.parametrize("name", REPRODUCED)
def test_trulens(name):
    case = CASES[name]
    found = jax.jit(lambda: REPRODUCED[name](name))()
    rtol = 1e-6 if case["tol"] == "1e-6" else 1e-9
    if isinstance(found, jax.Array):
        agree(found, case["expected"], rtol)
    elif isinstance(found, list):
        for actual, expected in zip(found, case["expected"], strict=True):
            agree(actual, expected, rtol)
    else:
        assert found.keys() == case["expected"].keys()
        for part, actual in found.items():
            agree(actual, case["expected"][part], rtol)


def agree(actual, expected, rtol):
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@parity_models.cases("trulens_layers.json", "deep.ClassSeqQoI_actual")
def test_a_sequence_of_classes_is_one_for_each_example(case):
    name = case["id"]
    labels = jnp.array([0, 2])
    found = jax.vmap(lambda x, i: scores.logit(i)(deep(x)))(inputs(name), labels)
    np.testing.assert_allclose(found, DIFFERENCES[name].textbook, rtol=1e-9)
    np.testing.assert_allclose(jnp.diagonal(jnp.asarray(case["expected"])), found, rtol=1e-9)


@parity_models.cases("trulens_layers.json", "qoi.lambda_two_args_error")
def test_a_score_of_two_arguments_is_refused_when_it_is_called(case):
    assert DIFFERENCES[case["id"]].textbook == TypeError.__name__
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        attrax.gradient(lambda x: (lambda y1, y2: y1)(deep(x)), jnp.ones(5))
