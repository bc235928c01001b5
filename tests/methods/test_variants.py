"""Variants of integrated gradients: other weights, several baselines, tokens in turn, panels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import paths, quadrature
from attrax.metrics import completeness_gap
from attrax.quadrature import composite, gauss_legendre
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

X = jnp.array([1.0, 2.0, -1.5])
B = jnp.array([0.5, -1.0, 0.25])
_RNG = np.random.default_rng(3)
W = [_RNG.normal(size=shape) / np.sqrt(shape[0]) for shape in ((3, 16), (16, 16), (16,))]


def network(activation):
    def fn(x):
        for w in W[:-1]:
            x = activation(x @ jnp.asarray(w, x.dtype) + 0.3)
        return x @ jnp.asarray(W[-1], x.dtype)

    return fn


tanh_network, relu_network = network(jnp.tanh), network(jax.nn.relu)
important = jax.jit(attrax.idgi, static_argnums=0, static_argnames=("steps", "path", "batch_size"))
integrated = jax.jit(attrax.integrated_gradients, static_argnums=0, static_argnames="batch_size")
decision = jax.jit(
    attrax.integrated_decision_gradients, static_argnums=0, static_argnames="batch_size"
)
along = jax.jit(
    attrax.path_integrated_gradients, static_argnums=0, static_argnames=("path", "batch_size")
)


def gap(fn, attribution, x=X, b=B):
    return abs(float(completeness_gap(fn, attribution, x, b)))


# Important direction gradient integration.


def test_idgi_of_a_linear_function():
    # The whole change, shared by the squared weights.
    weights = np.array([3.0, 0.0, -1.0])
    change = weights @ np.asarray(X - B)
    for steps in (1, 5):
        attribution = important(lambda x: x @ jnp.asarray(weights, x.dtype), X, B, steps=steps)
        close(attribution, change * weights**2 / 10)


def test_idgi_of_a_square_norm():
    # From zero the direction is that of x everywhere: x_i^2 / |x|^2 of |x|^2.
    close(important(lambda x: x @ x, X, steps=3), X * X)


def test_idgi_of_a_quadratic_form():
    # diag(1, 3) from zero to (1, 1): the gradient is t (2, 6) all along, the change 4.
    form = lambda x: x[0] ** 2 + 3 * x[1] ** 2  # noqa: E731
    close(important(form, jnp.ones(2), steps=4), np.array([4 * 4 / 40, 4 * 36 / 40]))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_idgi_is_complete_by_construction(steps, batch_size):
    for fn in (tanh_network, relu_network):
        attribution = important(fn, X, B, steps=steps, batch_size=batch_size)
        assert gap(fn, attribution) < 1e-5 * float(jnp.abs(attribution).max())
    close(attribution, important(relu_network, X, B, steps=steps, batch_size=steps))


def test_idgi_takes_the_direction_of_the_other_end():
    # A cube from -1 to 1 in two steps: no gradient in the middle.
    attribution = important(lambda x: jnp.sum(x**3), jnp.ones(1), -jnp.ones(1), steps=2)
    close(attribution, np.array([2.0]))
    # ReLU is off at zero, where every path from zero begins.
    fn = lambda x: jax.nn.relu(x[0] + 2 * x[1])  # noqa: E731
    close(important(fn, jnp.array([1.0, 2.0]), steps=1), np.array([1.0, 4.0]))


def test_idgi_is_not_complete_where_the_gradient_vanishes():
    # A ramp between two flat pieces: one step has no direction at either end.
    ramp = lambda x: jnp.clip(x[0], 0, 1)  # noqa: E731
    x, b = jnp.array([2.0]), jnp.array([-1.0])
    lost = important(ramp, x, b, steps=1)
    assert lost.tolist() == [0.0] and gap(ramp, lost, x, b) == 1
    close(important(ramp, x, b, steps=2), np.array([1.0]))


def numpy_idgi(fn, grad, x, b, steps):
    """In float64, with the direction at both ends of a step, and at the first end alone."""
    points = [b + t * (x - b) for t in np.arange(steps + 1) / steps]
    directions = [grad(point) ** 2 / np.sum(grad(point) ** 2) for point in points]
    rises = np.diff([fn(point) for point in points])
    pairs = list(zip(rises, directions[:-1], directions[1:], strict=True))
    return sum(r * (d + e) / 2 for r, d, e in pairs), sum(r * d for r, d, _ in pairs)


def numpy_tanh_network(x):
    return np.tanh(np.tanh(x @ W[0] + 0.3) @ W[1] + 0.3) @ W[2]


def numpy_gradient(x):
    h1 = np.tanh(x @ W[0] + 0.3)
    h2 = np.tanh(h1 @ W[1] + 0.3)
    return W[0] @ ((1 - h1**2) * (W[1] @ ((1 - h2**2) * W[2])))


def test_idgi_against_a_slow_reference_and_its_order():
    x, b = np.asarray(X, np.float64), np.asarray(B, np.float64)
    slow = lambda n: numpy_idgi(numpy_tanh_network, numpy_gradient, x, b, n)  # noqa: E731
    close(important(tanh_network, X, B, steps=5, batch_size=2), slow(5)[0])
    with jax.enable_x64(True):
        args = jnp.asarray(x), jnp.asarray(b)
        close(important(tanh_network, *args, steps=7, batch_size=3), slow(7)[0], 1e-10)
    limit = slow(4096)[0]
    errors = np.array([[np.abs(one - limit).max() for one in slow(n)] for n in (256, 512)])
    ours, original = np.log2(errors[0] / errors[1])
    assert ours == pytest.approx(2, abs=0.1)
    assert original == pytest.approx(1, abs=0.1)


def test_idgi_of_small_gradients():
    # Squares of 1e-30 are zero in float32.
    attribution = important(lambda x: 1e-30 * (x[0] + 2 * x[1]), jnp.ones(2), steps=2)
    close(attribution, np.array([3e-30 / 5, 12e-30 / 5]))


def test_idgi_dummies_get_nothing_and_unchanged_features_may():
    fn = lambda x: jnp.tanh(x[0] * x[1])  # noqa: E731
    attribution = important(fn, X, jnp.array([0.0, 2.0, 0.0]), steps=8)
    assert attribution[2] == 0
    assert attribution[1] > 0.01


def test_idgi_depends_on_units():
    # The same question with the first feature in another unit.
    other = jnp.array([10.0, 1.0, 1.0])
    ours = important(tanh_network, X, B, steps=8)
    theirs = important(lambda x: tanh_network(x * other), X / other, B / other, steps=8)
    assert theirs[0] / ours[0] > 3
    line = integrated(lambda x: tanh_network(x * other), X / other, B / other)
    close(line, integrated(tanh_network, X, B))


def test_idgi_along_another_path():
    image = jnp.asarray(_RNG.normal(size=(5, 4)), jnp.float32)
    path, fn = paths.blur(1.0), lambda x: jnp.sum(jnp.tanh(x) ** 2)
    attribution = important(fn, image, steps=3, path=path)
    start = path(image, None)(0.0)
    assert gap(fn, attribution, image, start) < 1e-5
    fixed = paths.polyline()
    close(
        important(tanh_network, X, B, steps=4, path=fixed), important(tanh_network, X, B, steps=4)
    )


def test_idgi_of_a_flat_function_has_derivatives():
    fn = lambda x: jnp.sum(jax.nn.relu(x - 9) ** 2)  # noqa: E731

    def total(x):
        attribution = attrax.idgi(fn, x, steps=3)
        return jnp.sum(attribution**2), attribution

    for zeros in jax.jit(jax.grad(total, has_aux=True))(X):
        np.testing.assert_array_equal(zeros, np.zeros(3))


# Integrated decision gradients.


def test_decision_gradients_of_a_line_and_a_square():
    # F' is 5 all along: five times what integrated gradients gives.
    weights = jnp.array([3.0, 0.0, -1.0])
    x = jnp.array([2.0, 7.0, 1.0])
    close(decision(lambda x: weights @ x, x), 5 * weights * x)
    # F = |t x|^2, F' = 2 t |x|^2: the integral of 2 t x_i^2 2 t |x|^2 is 4/3 x_i^2 |x|^2.
    close(decision(lambda x: x @ x, X), 4 / 3 * X * X * (X @ X))


def test_decision_gradients_sum_to_the_squared_speed():
    attribution = decision(tanh_network, X, B)
    speed = jax.vmap(jax.grad(lambda t: tanh_network(B + t * (X - B))))
    rule = gauss_legendre(32)
    squared = rule.weights @ np.asarray(speed(jnp.asarray(rule.nodes, X.dtype))) ** 2
    assert attribution.sum() == pytest.approx(squared, rel=1e-5)
    assert squared > (tanh_network(X) - tanh_network(B)) ** 2
    assert gap(tanh_network, attribution) > 0.1


def test_decision_gradients_are_even_and_quadratic():
    ours = decision(tanh_network, X, B)
    close(decision(lambda x: -tanh_network(x), X, B), ours)
    close(decision(lambda x: 3 * tanh_network(x), X, B), 9 * ours)


def test_decision_gradients_look_where_the_decision_is():
    # x decides between 0 and 0.1 of the line, y creeps along it: both change the score by 1.
    fn = lambda x: jax.nn.sigmoid(200 * (x[0] - 0.05)) + x[1]  # noqa: E731
    rule = composite(gauss_legendre(16), [0, 0.05, 0.1, 1])
    attribution = decision(fn, jnp.ones(2), rule=rule)
    assert attribution[0] > 10 * attribution[1]
    line = integrated(fn, jnp.ones(2), rule=rule)
    close(line, np.ones(2), 1e-4)  # sigmoid(-10) is left out


def test_decision_gradients_ignore_dummies_and_unchanged_features():
    fn = lambda x: jnp.tanh(x[0] * x[1])  # noqa: E731
    attribution = decision(fn, X, jnp.array([0.0, 2.0, 0.0]))
    assert attribution[0] > 0
    assert attribution[1:].tolist() == [0.0, 0.0]


# Several baselines: a map and a mean, and no function of its own.


def test_several_baselines_are_a_map_and_a_mean():
    baselines = jnp.asarray(_RNG.normal(size=(5, 3)), jnp.float32)
    weights = jnp.array([0.4, 0.3, 0.1, 0.1, 0.1])
    explain = jax.jit(
        jax.vmap(lambda b: attrax.integrated_gradients(tanh_network, X, b, batch_size=4))
    )
    attribution = weights @ explain(baselines)
    alone = [integrated(tanh_network, X, b) for b in baselines]
    close(attribution, np.asarray(weights) @ np.stack(alone))
    # Complete against the mean score of the baselines.
    expected = tanh_network(X) - weights @ jax.vmap(tanh_network)(baselines)
    assert attribution.sum() == pytest.approx(float(expected), rel=1e-4)
    # One baseline at a time in memory.
    mapped = jax.lax.map(lambda b: attrax.integrated_gradients(tanh_network, X, b), baselines)
    close(weights @ mapped, attribution)


# Tokens in turn.

TEXT = jnp.asarray(_RNG.normal(size=(3, 2)), jnp.float32)
BLANK = jnp.full((3, 2), 0.2)


def reader(x):
    """A smooth function of three tokens in which they interact."""
    return jnp.tanh(jnp.sum(x[0] * x[1])) + jnp.sin(jnp.sum(x[1] + x[2] * x[0]))


def test_tokenwise_is_a_polyline_over_partial_texts():
    order = [2, 0, 1]
    partial = [BLANK]
    for token in order[:-1]:
        partial.append(partial[-1].at[token].set(TEXT[token]))
    curve = paths.tokenwise(order)(TEXT, BLANK)
    same = paths.polyline(*partial[1:])(TEXT, BLANK)
    for t in (0.0, 0.2, 1 / 3, 0.5, 2 / 3, 0.9, 1.0):
        one, two = (jax.jvp(path, (jnp.float32(t),), (jnp.float32(1),)) for path in (curve, same))
        close(one[0], two[0])
        close(one[1], two[1])
    np.testing.assert_array_equal(curve(0.0), BLANK)
    close(curve(1.0), TEXT)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_each_token_gets_what_its_arrival_changes(order):
    rule = composite(gauss_legendre(8), 3)
    attribution = along(reader, TEXT, BLANK, path=paths.tokenwise(order), rule=rule)
    text = BLANK
    for token in order:
        after = text.at[token].set(TEXT[token])
        arrival = float(reader(after) - reader(text))
        assert attribution[token].sum() == pytest.approx(arrival, abs=1e-5)
        text = after


def test_the_mean_over_all_orders_is_the_shapley_value():
    rule = composite(gauss_legendre(8), 3)
    orders = jnp.asarray(list(itertools.permutations(range(3))))
    explain = lambda order: attrax.path_integrated_gradients(  # noqa: E731
        reader, TEXT, BLANK, path=paths.tokenwise(order), rule=rule
    )
    attribution = attrax.positions(jax.jit(jax.vmap(explain))(orders).mean(0))
    here = np.array(list(itertools.product([False, True], repeat=3)))
    texts = jnp.where(here[:, :, None], TEXT, BLANK)
    score = dict(zip(map(tuple, here.tolist()), jax.vmap(reader)(texts).tolist(), strict=True))
    for token in range(3):
        value = 0.0
        for others in itertools.product([False, True], repeat=2):
            arrivals = [(*others[:token], here, *others[token:]) for here in (False, True)]
            # One of three orders has both others before, one none, and the third one of them.
            share = 1 / 6 if sum(others) == 1 else 1 / 3
            value += share * (score[arrivals[1]] - score[arrivals[0]])
        assert attribution[token] == pytest.approx(value, abs=1e-5)


def test_tokenwise_trees_and_dtypes():
    x = {"half": TEXT.astype(jnp.bfloat16), "mask": jnp.ones(3)}
    point = paths.tokenwise(np.arange(3))(x, None)(0.5)
    assert point["half"].dtype == jnp.bfloat16
    close(point["half"], TEXT * jnp.array([[1.0], [0.5], [0.0]]), 2e-2)
    assert point["mask"].tolist() == [1.0, 0.5, 0.0]


def test_what_tokenwise_refuses():
    with pytest.raises(ValueError, match=r"`order` must be one-dimensional; got shape \(\)"):
        paths.tokenwise(3)
    with pytest.raises(TypeError, match="`order` must hold integers; got float64"):
        paths.tokenwise([0.0, 1.0])
    for order in ([0, 0, 1], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"`order` must name each of 3 tokens once; got \["):
            paths.tokenwise(order)
    for x in (jnp.ones((4, 2)), jnp.ones(())):
        with pytest.raises(ValueError, match=r"`order` must name every token .* got 3 tokens agai"):
            paths.tokenwise([0, 1, 2])(x, None)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
        paths.tokenwise([0, 1, 2])(TEXT, jnp.ones(1))


# Panels.


def test_a_composite_rule_is_exact_on_a_polyline_where_a_plain_one_is_not():
    corner = jnp.array([2.0, 2.0, 2.0])
    path = paths.polyline(corner)
    cube = lambda x: jnp.sum(x**2 * x[::-1])  # noqa: E731
    # Degree 2 along each piece: two nodes are exact there; sixteen over both pieces are not.
    exact = along(cube, X, B, path=path, rule=composite(gauss_legendre(2), 2))
    close(exact, integrated(cube, corner, B) + integrated(cube, X, corner))
    assert gap(cube, exact) < 1e-5
    plain = along(cube, X, B, path=path, rule=gauss_legendre(17))
    assert gap(cube, plain) > 1e-3
    # A rule with nodes at the ends of the panels sees the wrong side of the corner.
    ends = along(cube, X, B, path=path, rule=composite(quadrature.simpson(3), 2))
    assert gap(cube, ends) > 1e-1


@pytest.mark.parametrize(
    ("rule", "degree"),
    [
        (quadrature.midpoint(1), 1),
        (quadrature.simpson(3), 3),
        (gauss_legendre(3), 5),
        (quadrature.clenshaw_curtis(5), 5),
        (quadrature.gauss_kronrod(7), 11),
    ],
)
@pytest.mark.parametrize("ends", [[0, 0.3, 1], [0, 0.25, 0.5, 0.75, 1]])
def test_exact_to_its_degree_on_every_panel(rule, degree, ends):
    panelled = composite(rule, ends)
    assert abs(panelled.weights.sum() - 1) < 1e-12
    assert np.all(np.diff(panelled.nodes) > 0)
    # Continuous at the joint, zero before it: t -> max(t - joint, 0)^degree.
    for joint in ends[:-1]:
        values = np.maximum(panelled.nodes - joint, 0) ** degree
        assert panelled.weights @ values == pytest.approx(
            (1 - joint) ** (degree + 1) / (degree + 1)
        )


@pytest.mark.parametrize(
    ("panelled", "whole"),
    [
        (composite(quadrature.midpoint(2), 3), quadrature.midpoint(6)),
        (composite(quadrature.riemann_left(1), 5), quadrature.riemann_left(5)),
        (composite(quadrature.trapezoid(2), 5), quadrature.trapezoid(6)),
        (composite(quadrature.simpson(3), 2), quadrature.simpson(5)),
        (composite(gauss_legendre(4), 1), gauss_legendre(4)),
        (composite(gauss_legendre(4), [0, 1]), gauss_legendre(4)),
    ],
)
def test_panels_of_simple_rules_are_simple_rules(panelled, whole):
    # Nodes that two panels share are evaluated once.
    np.testing.assert_allclose(panelled.nodes, whole.nodes, rtol=0, atol=1e-15)
    np.testing.assert_allclose(panelled.weights, whole.weights, rtol=0, atol=1e-15)
    assert isinstance(panelled, quadrature.Rule)


def test_composite_rules_compose():
    twice = composite(composite(gauss_legendre(2), 2), 3)
    once = composite(gauss_legendre(2), 6)
    np.testing.assert_allclose(twice.nodes, once.nodes, rtol=0, atol=1e-15)


def test_what_composite_refuses():
    with pytest.raises(TypeError, match=r"`rule` must be a Rule of known nodes, .* got 8"):
        composite(8, 2)
    with pytest.raises(TypeError, match=r"`rule` must be a Rule of known nodes, such as `attrax"):
        jax.jit(lambda rule: composite(rule, 2).nodes)(gauss_legendre(2))
    with pytest.raises(ValueError, match="`panels` must be at least 1; got 0"):
        composite(gauss_legendre(2), 0)
    with pytest.raises(TypeError, match=r"`panels` must be an int; got 2\.0"):
        composite(gauss_legendre(2), 2.0)
    for ends in ([0.5], [[0, 1]]):
        with pytest.raises(ValueError, match=r"`panels` must hold the ends of at least one panel"):
            composite(gauss_legendre(2), ends)
    for ends in ([0, 0.5], [0.1, 1], [0, 0.7, 0.7, 1], [0, float("nan"), 1]):
        with pytest.raises(ValueError, match=r"`panels` must increase from 0 to 1; got \["):
            composite(gauss_legendre(2), ends)


# What is refused by the methods.


@pytest.mark.parametrize(
    "explain",
    [
        lambda *args: attrax.idgi(*args, steps=2),
        lambda *args: attrax.integrated_decision_gradients(*args, rule=gauss_legendre(2)),
    ],
    ids=["idgi", "integrated_decision_gradients"],
)
def test_refusals_of_both_methods(explain):
    with pytest.raises(TypeError, match=r"got int32\. There is no gradient .* embedding layer"):
        explain(jnp.sum, jnp.arange(3))
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(3,\)"):
        explain(lambda x: x, X)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
        explain(jnp.sum, X, jnp.ones(1))


def test_other_refusals():
    with pytest.raises(ValueError, match="`steps` must be at least 1; got 0"):
        attrax.idgi(jnp.sum, X, steps=0)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        attrax.idgi(jnp.sum, X, steps=2, batch_size=0)
    with pytest.raises(ValueError, match=r"`path` must have the shapes of `x`; got \(2, 3\)"):
        attrax.idgi(jnp.sum, X, steps=2, path=lambda x, b: lambda t: jnp.stack([x, b]) * t)
    with pytest.raises(TypeError, match=r"`rule` must be a Rule, such as .*gauss_legendre\(32\)"):
        attrax.integrated_decision_gradients(jnp.sum, X, rule=50)


def test_mixed_dtypes_stay_mixed():
    x = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    fn = lambda x: jnp.sum(x["half"].astype("float32") * x["single"])  # noqa: E731
    for attribution in (important(fn, x, steps=3), decision(fn, x)):
        assert attribution["half"].dtype == jnp.bfloat16
        assert attribution["single"].dtype == jnp.float32
