"""Answers known on paper, axioms held and not held, and a slow NumPy reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import attrax
from attrax import distributions, paths, quadrature
from attrax.metrics import completeness_gap
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

X = jnp.array([1.0, 2.0, -1.5])
B = jnp.array([0.5, -1.0, 0.25])
_RNG = np.random.default_rng(3)
W = [_RNG.normal(size=shape) / np.sqrt(shape[0]) for shape in ((3, 16), (16, 16), (16,))]


def network(activation, biases=0.0):
    """A fixed network of three inputs, in the dtype of its input."""

    def fn(x):
        for w in W[:-1]:
            x = activation(x @ jnp.asarray(w, x.dtype) + jnp.asarray(biases, x.dtype))
        return x @ jnp.asarray(W[-1], x.dtype)

    return fn


tanh_network = network(jnp.tanh, 0.3)
relu_network = network(jax.nn.relu, 0.3)
homogeneous_network = network(jax.nn.relu)


integrated = jax.jit(attrax.integrated_gradients, static_argnums=0, static_argnames="batch_size")


# Answers known on paper.


def test_gradient_of_a_quadratic_form():
    m = np.array([[2.0, 1.0], [0.0, 3.0]], np.float32)
    x = jnp.array([1.0, -2.0])
    form = lambda x: x @ jnp.asarray(m) @ x  # noqa: E731
    close(attrax.gradient(form, x), (m + m.T) @ np.asarray(x))
    close(attrax.gradient_times_input(form, x), np.asarray(x) * ((m + m.T) @ np.asarray(x)))
    # The path halves the gradient: x_i (S x)_i with S the symmetric part.
    symmetric = (m + m.T) / 2
    close(integrated(form, x), np.asarray(x) * (symmetric @ np.asarray(x)))


def test_integrated_gradients_of_a_quadratic_form_from_a_baseline():
    m = np.array([[2.0, 1.0], [1.0, -3.0]], np.float32)
    x, b = np.array([1.0, -2.0], np.float32), np.array([0.5, 3.0], np.float32)
    attribution = integrated(lambda x: x @ jnp.asarray(m) @ x, jnp.asarray(x), jnp.asarray(b))
    close(attribution, (x - b) * (m @ (x + b)))


@pytest.mark.parametrize("powers", [(1, 1), (3, 1), (2, 5)])
def test_monomials_share_by_their_powers(powers):
    # From zero, x^p y^q gives p/(p+q) of itself to x: the integral of t^(p+q-1) is 1/(p+q).
    p, q = powers
    x = jnp.array([1.5, -0.5])
    value = 1.5**p * (-0.5) ** q
    attribution = integrated(lambda x: x[0] ** p * x[1] ** q, x)
    close(attribution, value * np.array([p, q]) / (p + q))


def test_the_kink_of_the_original_paper():
    # f = 1 - relu(1 - x): at 2 the gradient sees nothing, the path sees the whole change.
    fn = lambda x: 1 - jax.nn.relu(1 - x)  # noqa: E731
    x = jnp.float32(2.0)
    assert attrax.gradient(fn, x) == 0
    assert attrax.gradient_times_input(fn, x) == 0
    assert integrated(fn, x, rule=quadrature.midpoint(50)) == pytest.approx(1)


def test_without_biases_relu_networks_need_no_path():
    expected = attrax.gradient_times_input(homogeneous_network, X)
    for n in (1, 7):
        rule = quadrature.gauss_legendre(n)
        close(integrated(homogeneous_network, X, rule=rule), expected)
    assert expected.sum() == pytest.approx(float(homogeneous_network(X)), rel=1e-5)


def test_relu_is_off_at_zero():
    assert attrax.gradient(jax.nn.relu, jnp.float32(0.0)) == 0


def test_the_path_decides_who_gets_the_product():
    def first_then_second(x, b):
        corner = jnp.stack([x[0], b[1]])
        return paths.polyline(corner)(x, b)

    x = jnp.array([2.0, 3.0])
    product = lambda x: x[0] * x[1]  # noqa: E731
    follow = lambda path: attrax.path_integrated_gradients(product, x, path=path)  # noqa: E731
    close(follow(first_then_second), np.array([0.0, 6.0]))
    close(follow(paths.straight), np.array([3.0, 3.0]))


def test_a_reparametrised_line_changes_nothing():
    curved = lambda x, b: lambda t: b + t**3 * (x - b)  # noqa: E731
    attribution = attrax.path_integrated_gradients(tanh_network, X, B, path=curved)
    close(attribution, integrated(tanh_network, X, B))
    straight = attrax.path_integrated_gradients(tanh_network, X, B, path=paths.straight)
    close(straight, integrated(tanh_network, X, B))


def test_influence_is_the_unmultiplied_average():
    rule = quadrature.gauss_legendre(16)
    mean = attrax.influence(tanh_network, X, distributions.linear(B), rule=rule)
    close((X - B) * mean, integrated(tanh_network, X, B, rule=rule))
    at_x = attrax.influence(tanh_network, X, distributions.point, rule=quadrature.midpoint(1))
    close(at_x, attrax.gradient(tanh_network, X))


def test_gaussian_influence_smooths_the_gradient():
    # E grad sum (x + s e)^3 = 3 (x^2 + s^2)
    cube, rule = lambda x: jnp.sum(x**3), quadrature.midpoint(4000)
    mean = attrax.influence(
        cube, X, distributions.gaussian(0.5), rule=rule, key=jax.random.key(0), batch_size=4000
    )
    # Four standard errors: the standard deviation of 3 (x + s e)^2 is below 6 s |x| + 5 s^2.
    np.testing.assert_allclose(mean, 3 * (X**2 + 0.25), rtol=0, atol=4 * 7.3 / np.sqrt(4000))


def test_random_influence_depends_on_the_key_and_not_on_the_batch_size():
    @functools.partial(jax.jit, static_argnums=1)
    def draw(seed, batch_size):
        return attrax.influence(
            tanh_network,
            X,
            distributions.stochastic_channels(),
            rule=quadrature.riemann_left(10),
            key=jax.random.key(seed),
            batch_size=batch_size,
        )

    close(draw(0, 3), draw(0, 10))
    assert not np.allclose(draw(0, 3), draw(1, 3), rtol=1e-3)


# A slow reference.


def numpy_gradient(x):
    """The gradient of `tanh_network`, written out in float64."""
    h1 = np.tanh(x @ W[0] + 0.3)
    h2 = np.tanh(h1 @ W[1] + 0.3)
    return W[0] @ ((1 - h1**2) * (W[1] @ ((1 - h2**2) * W[2])))


RULES = {
    "riemann_left": quadrature.riemann_left(7),
    "riemann_right": quadrature.riemann_right(7),
    "midpoint": quadrature.midpoint(7),
    "trapezoid": quadrature.trapezoid(7),
    "simpson": quadrature.simpson(7),
    "gauss_legendre": quadrature.gauss_legendre(7),
    "clenshaw_curtis": quadrature.clenshaw_curtis(7),
    "gauss_kronrod": quadrature.gauss_kronrod(7),
    "endpoint_mean": quadrature.endpoint_mean(7),
}


@pytest.mark.parametrize("name", RULES)
def test_against_a_slow_reference(name):
    rule, x, b = RULES[name], np.asarray(X, np.float64), np.asarray(B, np.float64)
    slow = np.zeros(3)
    for node, weight in zip(rule.nodes, rule.weights, strict=True):
        slow += weight * numpy_gradient(b + node * (x - b))
    close(integrated(tanh_network, X, B, rule=rule, batch_size=3), (x - b) * slow)
    with jax.enable_x64(True):
        fast = integrated(tanh_network, jnp.asarray(x), jnp.asarray(b), rule=rule, batch_size=3)
        close(fast, (x - b) * slow, 1e-10)


def test_against_the_trapezoid_written_as_means_of_neighbours():
    # The usual tutorial: m intervals on linspace(0, 1, m + 1), the mean of neighbouring gradients.
    m, x, b = 20, np.asarray(X, np.float64), np.asarray(B, np.float64)
    grads = np.array([numpy_gradient(b + t * (x - b)) for t in np.linspace(0, 1, m + 1)])
    slow = (x - b) * np.mean((grads[:-1] + grads[1:]) / 2, axis=0)
    rule = quadrature.trapezoid(m + 1)
    close(integrated(tanh_network, X, B, rule=rule), slow)


# Axioms held.


@pytest.mark.parametrize("fn", [tanh_network, relu_network], ids=["tanh", "relu"])
def test_completeness(fn):
    attribution = integrated(fn, X, B, rule=quadrature.gauss_legendre(256))
    # At 256 nodes a ReLU network is off by its kinks, not by rounding.
    bound = 1e-5 if fn is tanh_network else 5e-3
    assert abs(completeness_gap(fn, attribution, X, B)) < bound * float(jnp.abs(attribution).max())


def test_completeness_along_any_path():
    path = paths.polyline(jnp.array([2.0, 2.0, 2.0]))
    rule = quadrature.gauss_legendre(32)
    # A rule for each piece: the derivative of the path jumps in the middle.
    halves = quadrature.Rule(
        np.concatenate([rule.nodes / 2, (1 + rule.nodes) / 2]), np.tile(rule.weights / 2, 2)
    )
    attribution = attrax.path_integrated_gradients(tanh_network, X, B, path=path, rule=halves)
    scale = float(jnp.abs(attribution).max())
    assert abs(completeness_gap(tanh_network, attribution, X, B)) < 1e-5 * scale


def test_dummy_and_unchanged_features_get_nothing():
    fn = lambda x: jnp.tanh(x[0] * x[1])  # noqa: E731
    attribution = integrated(fn, X, jnp.array([0.0, 2.0, 0.0]))
    assert attribution[1] == 0
    assert attribution[2] == 0
    assert attribution[0] == pytest.approx(np.tanh(2.0), rel=1e-5)


def test_implementation_invariance():
    # Two programs of one function.
    one = lambda x: jax.nn.relu(jax.nn.relu(x[0] - 1) - jax.nn.relu(x[1]))  # noqa: E731
    two = lambda x: jax.nn.relu(jax.nn.relu(x[0]) - 1 - jax.nn.relu(x[1]))  # noqa: E731
    x = jnp.array([3.0, 1.0])
    rule = quadrature.midpoint(1000)
    for fn in (one, two):
        attribution = integrated(fn, x, rule=rule, batch_size=1000)
        np.testing.assert_allclose(attribution, [1.5, -0.5], rtol=0, atol=2e-3)  # a kink: 1/n


def test_linearity_in_the_function():
    explain = lambda fn: integrated(fn, X, B)  # noqa: E731
    combined = explain(lambda x: 2 * tanh_network(x) - 3 * jnp.sum(x**2))
    close(combined, 2 * explain(tanh_network) - 3 * explain(lambda x: jnp.sum(x**2)))


def test_symmetric_features_get_equal_shares():
    fn = lambda x: jnp.tanh(x[0] + x[1]) * x[2]  # noqa: E731
    attribution = integrated(fn, jnp.array([0.7, 0.7, 2.0]))
    assert attribution[0] == pytest.approx(float(attribution[1]), rel=1e-6)


# Axioms not held.


def test_gradients_are_not_complete():
    for method in (attrax.gradient, attrax.gradient_times_input):
        assert abs(completeness_gap(tanh_network, method(tanh_network, X), X)) > 0.1


def test_influence_is_not_complete():
    rule, key = quadrature.midpoint(8), jax.random.key(0)
    for distribution in (distributions.linear(), distributions.gaussian(0.1)):
        attribution = attrax.influence(tanh_network, X, distribution, rule=rule, key=key)
        assert abs(completeness_gap(tanh_network, attribution, X)) > 0.1


def test_gradient_times_input_sees_only_the_point():
    # Functions that agree around x get the same, however they differ elsewhere.
    kink = lambda x: jax.nn.relu(x[0] - 1)  # noqa: E731
    line = lambda x: x[0] - 1  # noqa: E731
    x = jnp.array([3.0])
    close(attrax.gradient_times_input(kink, x), attrax.gradient_times_input(line, x))
    rule = quadrature.midpoint(300)
    kinked = integrated(kink, x, rule=rule)
    assert kinked[0] == pytest.approx(2.0, rel=1e-5)
    assert integrated(line, x)[0] == pytest.approx(3.0, rel=1e-5)


def test_another_baseline_is_another_question():
    ours = integrated(tanh_network, X)
    assert not np.allclose(ours, integrated(tanh_network, X, B), rtol=1e-2)


def test_no_gap_does_not_mean_no_error():
    # sin(4 pi x) - sin(4 pi y) at x = y: the errors of the two entries cancel in the sum.
    fn = lambda x: jnp.sin(4 * jnp.pi * x[0]) - jnp.sin(4 * jnp.pi * x[1])  # noqa: E731
    x = jnp.array([0.9, 0.9])
    poor = integrated(fn, x, rule=quadrature.midpoint(2))
    good = integrated(fn, x)
    assert abs(completeness_gap(fn, poor, x)) < 1e-5
    assert jnp.abs(poor - good).max() > 0.1


def test_a_chosen_maximum_changes_along_the_path():
    logits = lambda x: jnp.stack([x[0], 1.0 - x[0]])  # noqa: E731
    rule, x = quadrature.midpoint(100), jnp.array([1.0])
    changing = lambda x: attrax.scores.max_logit()(logits(x))  # noqa: E731
    fixed = lambda x: attrax.scores.logit(0)(logits(x))  # noqa: E731
    assert integrated(changing, x, rule=rule)[0] == pytest.approx(0.0, abs=1e-6)
    assert integrated(fixed, x, rule=rule)[0] == pytest.approx(1.0)


# Convergence and precision.


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (quadrature.riemann_left, 1),
        (quadrature.midpoint, 2),
        (quadrature.trapezoid, 2),
        (quadrature.simpson, 4),
    ],
)
def test_order_on_a_smooth_network(make, order):
    with jax.enable_x64(True):
        x, b = (jnp.asarray(np.asarray(v), "float64") for v in (X, B))
        explain = lambda rule: integrated(  # noqa: E731
            tanh_network, x, b, rule=rule, batch_size=65
        )
        exact = explain(quadrature.gauss_legendre(64))
        errors = [jnp.abs(explain(make(n)) - exact).max() for n in (33, 65)]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


def test_sixteen_nodes_reach_the_rounding_error_of_a_smooth_network():
    exact = integrated(tanh_network, X, B, rule=quadrature.gauss_legendre(64))
    for rule in (quadrature.gauss_legendre(16), quadrature.clenshaw_curtis(17)):
        close(integrated(tanh_network, X, B, rule=rule), exact)


def test_bfloat16_keeps_the_nodes():
    # Linear in t: exact in the nodes, so only the rounding of points and products remains.
    x = jnp.full((4,), 3.0, jnp.bfloat16)
    attribution = integrated(
        lambda x: jnp.sum(x * x), x, rule=quadrature.midpoint(100), batch_size=100
    )
    assert attribution.dtype == jnp.bfloat16
    close(attribution, np.full(4, 9.0), 2e-2)


def test_mixed_dtypes_stay_mixed():
    x = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    fn = lambda x: jnp.sum(x["half"].astype("float32") * x["single"])  # noqa: E731
    for attribution in (
        integrated(fn, x),
        attrax.path_integrated_gradients(fn, x, path=paths.straight),
        attrax.influence(fn, x, distributions.linear(), rule=quadrature.midpoint(3)),
        attrax.gradient_times_input(fn, x),
    ):
        assert attribution["half"].dtype == jnp.bfloat16
        assert attribution["single"].dtype == jnp.float32


# Derivatives and arguments.


def test_second_derivatives_with_respect_to_everything():
    with jax.enable_x64(True):
        x, b = (jnp.asarray(np.asarray(v), "float64") for v in (X, B))
        scale = jnp.asarray([1.0, 0.5, 2.0], "float64")
        rule = quadrature.gauss_legendre(5)

        @jax.jit
        def explain(x, b, scale):
            fn = lambda x: tanh_network(x * scale)  # noqa: E731
            return attrax.integrated_gradients(fn, x, b, rule=rule, batch_size=2)

        check_grads(explain, (x, b, scale), order=2, modes=["rev"])


def test_the_derivative_is_that_of_the_closed_form():
    # For the sum of cubes the attribution is x^3, and its derivative 3 x^2.
    total = lambda x: jnp.sum(  # noqa: E731
        integrated(lambda x: jnp.sum(x**3), x, rule=quadrature.simpson(3))
    )
    close(jax.jit(jax.grad(total))(X), 3 * X**2)
    close(jnp.diagonal(jax.jit(jax.hessian(total))(X)), 6 * X)


def test_nodes_can_be_learned():
    slope = jax.grad(lambda rule: integrated(lambda x: x**3, jnp.float32(2.0), rule=rule))(
        quadrature.midpoint(1)
    )
    # 8 * 3 t^2 at t = 1/2: the derivative with respect to t is 24, to the weight 6.
    assert slope.nodes.tolist() == pytest.approx([24.0])
    assert slope.weights.tolist() == pytest.approx([6.0])


def test_targets_are_mapped_over_the_class_index():
    model = lambda x: jnp.tanh(x @ jnp.asarray(W[0][:, :4], x.dtype))  # noqa: E731

    def explain(i):
        score = attrax.scores.logit(i)
        return attrax.integrated_gradients(lambda x: score(model(x)), X)

    mapped = jax.jit(jax.vmap(explain))(jnp.arange(4))
    close(mapped, jnp.stack([explain(i) for i in range(4)]))


def test_plain_numbers_and_numpy_arrays_are_taken():
    assert attrax.gradient(lambda x: x**2, 3.0) == 6.0
    close(integrated(jnp.sum, np.ones(3), np.zeros(3)), np.ones(3))


# What is refused.

EXPLAIN = {
    "gradient": attrax.gradient,
    "gradient_times_input": attrax.gradient_times_input,
    "integrated_gradients": attrax.integrated_gradients,
    "path_integrated_gradients": lambda *args: attrax.path_integrated_gradients(
        *args, path=paths.straight
    ),
    "influence": lambda *args: attrax.influence(
        *args, distributions.linear(), rule=quadrature.midpoint(9)
    ),
}
BASELINED = ("gradient_times_input", "integrated_gradients", "path_integrated_gradients")


@pytest.mark.parametrize("name", EXPLAIN)
def test_refusals_of_every_method(name):
    explain = EXPLAIN[name]
    with pytest.raises(TypeError, match=r"got int32\. There is no gradient .* embedding layer"):
        explain(jnp.sum, jnp.arange(3))
    with pytest.raises(TypeError, match="`x` must hold arrays; got str"):
        explain(jnp.sum, "cat")
    with pytest.raises(ValueError, match="`x` holds no array"):
        explain(jnp.sum, {})
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(3,\)"):
        explain(lambda x: x, X)
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got a tuple"):
        explain(lambda x: (x[0], x[1]), X)
    with pytest.raises(ValueError, match="`fn` must return a floating scalar; got int32"):
        explain(lambda x: jnp.argmax(x), X)


@pytest.mark.parametrize("name", BASELINED)
@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (np.zeros(1), r"`baseline` must have the shapes of `x`; got \(1,\) against \(3,\)"),
        (0.0, r"got \(\) against \(3,\)\. For one constant use `jnp.full_like"),
        (np.zeros((1, 3)), r"`baseline` must have the shapes of `x`; got \(1, 3\) against \(3,\)"),
        ([X], "`baseline` must have the structure of `x`"),
        (np.zeros(3, int), "`baseline` must be floating, as `x` is; got int32 against float32"),
    ],
)
def test_baselines_are_not_broadcast(name, baseline, message):
    with pytest.raises(ValueError, match=message):
        EXPLAIN[name](jnp.sum, X, baseline)


def test_other_refusals():
    with pytest.raises(TypeError, match=r"`rule` must be a Rule, such as .*gauss_legendre\(32\)"):
        attrax.integrated_gradients(jnp.sum, X, rule=50)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        attrax.integrated_gradients(jnp.sum, X, batch_size=0)
    with pytest.raises(ValueError, match=r"`path` must have the shapes of `x`; got \(2, 3\)"):
        attrax.path_integrated_gradients(
            jnp.sum, X, path=lambda x, b: lambda t: jnp.stack([x, b]) * t
        )
    with pytest.raises(ValueError, match=r"`distribution` must have the shapes of `x`; got \(\)"):
        attrax.influence(jnp.sum, X, lambda x: lambda t, key: t * x[0], rule=quadrature.midpoint(2))
    with pytest.raises(ValueError, match="`gaussian` is random: pass `key="):
        attrax.influence(jnp.sum, X, distributions.gaussian(1.0), rule=quadrature.midpoint(2))
