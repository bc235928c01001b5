"""Integrated Hessians, by products with vectors and whole, and the rule that makes them cheap."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import quadrature
from attrax.quadrature import Rule, gauss_logarithmic
from comparisons import close

_RNG = np.random.default_rng(11)
FEATURES, WIDTH = 4, 8
IN, SHIFT = _RNG.normal(size=(FEATURES, WIDTH)), _RNG.normal(size=WIDTH)
OUT = _RNG.normal(size=WIDTH) / 2
X, B = (jnp.asarray(_RNG.normal(size=FEATURES), "float32") for _ in range(2))


def network(x, activation=jnp.tanh):
    hidden = activation(x @ jnp.asarray(IN, x.dtype) + jnp.asarray(SHIFT, x.dtype))
    return hidden @ jnp.asarray(OUT, x.dtype)


def matrix(fn, x, baseline=None, **settings):
    return jax.jit(functools.partial(attrax.integrated_hessians, fn, **settings))(x, baseline)


def product(fn, x, vector, baseline=None, **settings):
    explain = functools.partial(attrax.integrated_hessian_product, fn, **settings)
    return jax.jit(explain)(x, vector, baseline)


# The rule.


@pytest.mark.parametrize("n", [1, 2, 3, 8, 32, 256])
def test_rule_is_exact_to_degree_2n_minus_1_and_not_beyond(n):
    rule = gauss_logarithmic(n)
    assert abs(rule.weights.sum() - 1) < 1e-12
    assert np.all(rule.weights > 0)
    assert np.all(np.diff(rule.nodes) > 0)
    assert np.all((rule.nodes > 0) & (rule.nodes < 1))
    powers = np.arange(2 * n)
    moments = rule.weights @ rule.nodes[:, None] ** powers
    assert np.abs(moments - 1 / (powers + 1.0) ** 2).max() < 1e-14
    # Legendre polynomials show what monomials hide behind rounding.
    legendre = np.polynomial.legendre.legvander(2 * rule.nodes - 1, 2 * n)[:, -1]
    assert abs(rule.weights @ legendre - 1 / (2 * n * (2 * n + 1))) > 1e-2


def test_rule_of_two_nodes_in_closed_form():
    # The orthogonal polynomial of degree 2 is t^2 - 5/7 t + 17/252.
    root = math.sqrt(25 / 49 - 17 / 63)
    nodes = np.array([5 / 7 - root, 5 / 7 + root]) / 2
    rule = gauss_logarithmic(2)
    np.testing.assert_allclose(rule.nodes, nodes, rtol=0, atol=1e-15)
    weight = (nodes[1] - 1 / 4) / (nodes[1] - nodes[0])
    np.testing.assert_allclose(rule.weights, [weight, 1 - weight], rtol=0, atol=1e-15)


def test_one_integral_is_the_double_integral():
    outer, values = quadrature.gauss_legendre(20), np.exp
    double = outer.weights @ values(np.outer(outer.nodes, outer.nodes)) @ outer.weights
    series = sum(1 / (math.factorial(k) * (k + 1) ** 2) for k in range(25))
    rule = gauss_logarithmic(8)
    assert double == pytest.approx(series, abs=1e-14)
    assert rule.weights @ values(rule.nodes) == pytest.approx(series, abs=1e-14)


def test_rule_needs_a_node():
    with pytest.raises(ValueError, match="`n` must be at least 1; got 0"):
        gauss_logarithmic(0)


# Answers known on paper.


@pytest.mark.parametrize("powers", [(1, 1), (2, 1, 3), (0, 4), (5, 1)])
def test_monomials(powers):
    # For a monomial of degree d every integral is fn(x) over d^2, times the powers.
    powers = np.array(powers)
    degree = powers.sum()
    fn = lambda x: jnp.prod(x**powers)  # noqa: E731
    x = jnp.arange(1, len(powers) + 1, dtype="float32") / 2 + 1
    b = jnp.linspace(-1, 1, len(powers), dtype="float32")
    expected = np.outer(powers, powers) / degree**2 * float(fn(x))
    enough = gauss_logarithmic(-(-degree // 2))
    close(matrix(fn, x, rule=enough), expected)
    close(matrix(lambda x: fn(x - b), x + b, b, rule=enough), expected)
    if degree > 2:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            close(matrix(fn, x, rule=gauss_logarithmic(-(-degree // 2) - 1)), expected, 1e-2)


def test_what_is_only_added_up_does_not_interact():
    fn = lambda x: jnp.sum(jnp.sin(x) + x**3)  # noqa: E731
    found = matrix(fn, X, B)
    assert np.array_equal(found, np.diag(np.diag(found)))
    close(np.diag(found), jnp.sin(X) + X**3 - jnp.sin(B) - B**3)


def test_not_all_of_a_product_is_an_interaction():
    found = matrix(lambda x: x[0] * x[1], jnp.array([2.0, 5.0]))
    close(found, np.full((2, 2), 2.5))


# Axioms.


def test_symmetric_with_rows_that_are_integrated_gradients():
    found = matrix(network, X, B)
    close(found, found.T, 1e-6)
    attribution = jax.jit(functools.partial(attrax.integrated_gradients, network))(X, B)
    close(found.sum(axis=1), attribution)
    assert float(found.sum()) == pytest.approx(float(network(X) - network(B)), rel=1e-5)
    assert np.abs(found - np.diag(np.diag(found))).max() > 0.1 * np.abs(found).max()


def test_a_feature_at_its_baseline_interacts_with_none():
    found = matrix(network, X, B.at[2].set(X[2]))
    assert not found[2].any() and not found[:, 2].any()
    assert np.delete(found[1], 2).all()


def test_relu_has_no_interactions_and_what_bends_is_missing():
    piecewise = functools.partial(network, activation=jax.nn.relu)
    found = matrix(piecewise, X, B, rule=gauss_logarithmic(64))
    assert np.array_equal(found, np.diag(np.diag(found)))
    change = float(piecewise(X) - piecewise(B))
    assert abs(float(found.sum()) - change) > 0.1 * abs(change)
    # A smooth copy, which is another function, has what the kinks hide.
    smooth = functools.partial(network, activation=lambda h: jax.nn.softplus(10 * h) / 10)
    found = matrix(smooth, X, B, rule=gauss_logarithmic(64))
    assert float(found.sum()) == pytest.approx(float(smooth(X) - smooth(B)), rel=1e-4)
    assert np.abs(found - np.diag(np.diag(found))).max() > 0.05 * np.abs(found).max()


# Against slow references.


def grid(rule):
    """The products of the nodes of `rule` with each other, and of their weights."""
    return Rule(
        np.outer(rule.nodes, rule.nodes).ravel(), np.outer(rule.weights, rule.weights).ravel()
    )


def double_sum(rule):
    """The definition: two sums over times r and s, with derivatives of tanh by hand."""
    x, b = np.asarray(X, np.float64), np.asarray(B, np.float64)
    total = np.zeros((FEATURES, FEATURES))
    for r, v in zip(rule.nodes, rule.weights, strict=True):
        for s, w in zip(rule.nodes, rule.weights, strict=True):
            h = np.tanh((b + r * s * (x - b)) @ IN + SHIFT)
            slope = IN @ (OUT * (1 - h**2))
            hessian = (IN * (OUT * -2 * h * (1 - h**2))) @ IN.T
            total += v * w * np.outer(x - b, x - b) * r * s * hessian
            total += v * w * np.diag((x - b) * slope)
    return total


def test_against_the_double_sum():
    few = quadrature.midpoint(3)
    close(matrix(network, X, B, rule=grid(few)), double_sum(few))
    close(matrix(network, X, B), double_sum(quadrature.gauss_legendre(24)))
    # 12 products do better than the 144 of a grid with both ends, and than 12 x 12 midpoints.
    exact = double_sum(quadrature.gauss_legendre(24))
    close(matrix(network, X, B, rule=gauss_logarithmic(12)), exact, 1e-4)
    for coarse in (quadrature.endpoint_mean(12), quadrature.midpoint(12)):
        assert np.abs(double_sum(coarse) - exact).max() > 1e-3 * np.abs(exact).max()


def test_products_are_those_of_the_matrix():
    found = matrix(network, X, B)
    for vector in (
        jnp.eye(FEATURES)[2],
        jnp.array([1.0, 0.0, 1.0, 0.0]),
        jnp.array([2.0, -1, 0, 3]),
    ):
        close(product(network, X, vector, B), found @ vector)
    ones = product(network, X, jnp.ones(FEATURES), B)
    assert float(ones.sum()) == pytest.approx(float(network(X) - network(B)), rel=1e-5)
    rows = jax.jit(
        lambda x: jax.lax.map(
            lambda e: attrax.integrated_hessian_product(network, x, e, B), jnp.eye(FEATURES)
        )
    )
    close(rows(X), found)


def test_trees():
    tree = {"a": X[:1].reshape(1, 1), "b": [X[1:]]}
    base = {"a": B[:1].reshape(1, 1), "b": [B[1:]]}
    fn = lambda tree: network(jnp.concatenate([tree["a"][0], tree["b"][0]]))  # noqa: E731
    expected = matrix(network, X, B)
    found = matrix(fn, tree, base)
    assert jax.tree.structure(found) == jax.tree.structure({"a": tree, "b": [tree]})
    close(found["a"]["a"], expected[:1, :1].reshape(1, 1, 1, 1))
    close(found["a"]["b"][0], expected[:1, 1:].reshape(1, 1, 3))
    close(found["b"][0]["a"], expected[1:, :1].reshape(3, 1, 1))
    close(found["b"][0]["b"][0], expected[1:, 1:])
    group = {"a": jnp.zeros((1, 1)), "b": [jnp.ones(3)]}
    close(product(fn, tree, group, base)["a"][0], expected[:1, 1:].sum(axis=1))


# Cost.


def compiled(fn, *args):
    return jax.jit(fn).lower(*args).compile()


def test_a_product_costs_two_gradients_and_holds_no_matrix():
    features = 1024
    weights = [jnp.asarray(_RNG.normal(size=(features, 64)) / 30, "float32") for _ in range(2)]

    def wide(weights, x):
        return jnp.sum(jnp.tanh(weights[0].T @ x) * jnp.sin(weights[1].T @ x))

    def one(weights, x):
        rule = gauss_logarithmic(1)
        return attrax.integrated_hessian_product(functools.partial(wide, weights), x, x, rule=rule)

    x = jnp.ones(features)
    gradient = compiled(lambda weights, x: jax.grad(wide, 1)(weights, x), weights, x)
    program = compiled(one, weights, x)
    assert "while" not in program.as_text()
    assert program.cost_analysis()["flops"] < 2.2 * gradient.cost_analysis()["flops"]
    assert program.memory_analysis().temp_size_in_bytes < 4 * features**2 / 10


# Functions without a forward derivative.


@jax.custom_vjp
def kernel(x):
    """A function as hand-written kernels are: with a backward rule only."""
    return jnp.tanh(x)


kernel.defvjp(lambda x: (kernel(x), kernel(x)), lambda y, u: (u * (1 - y * y),))


def test_a_custom_vjp():
    fn, vector = functools.partial(network, activation=kernel), jnp.array([1.0, 0.0, 2.0, 0.0])
    for explain in (lambda: product(fn, X, vector), lambda: matrix(fn, X)):
        with pytest.raises(TypeError, match=r"backward rule only.*pass `jvp=attrax\.reverse_jvp`"):
            explain()
    reverse = {"jvp": attrax.reverse_jvp}
    close(product(fn, X, vector, **reverse), product(network, X, vector))
    close(matrix(fn, X, **reverse), matrix(network, X))


# Arguments.


def test_a_rule_can_be_an_argument():
    explain = jax.jit(lambda x, rule: attrax.integrated_hessians(network, x, rule=rule))
    close(explain(X, gauss_logarithmic(32)), matrix(network, X))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"vector": jnp.ones(1)}, ValueError, r"`vector` must have the shapes of `x`; got \(1,\)"),
        ({"baseline": jnp.ones(1)}, ValueError, "`baseline` must have the shapes of `x`; got"),
        ({"x": jnp.arange(4)}, TypeError, "`x` must be floating; got int32"),
        ({"fn": lambda x: x}, ValueError, r"`fn` must return a scalar; got shape \(4,\)"),
        ({"rule": 32}, TypeError, "`rule` must be a Rule, .* got 32"),
        (
            {"rule": quadrature.gauss_legendre(16)},
            ValueError,
            r"`rule` must be one for integrals against -log\(t\), where the mean of t is 1/4; got "
            r"the mean 0\.5\. Take `attrax.quadrature.gauss_logarithmic\(16\)`\.",
        ),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1; got 0"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"fn": network, "x": X, "vector": X, **change}
    with pytest.raises(error, match=message):
        attrax.integrated_hessian_product(**arguments)
    if "vector" not in change:
        del arguments["vector"]
        with pytest.raises(error, match=message):
            attrax.integrated_hessians(**arguments)
