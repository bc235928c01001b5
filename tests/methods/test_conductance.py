"""Gradients at a layer along a path in input space: internal influence and conductance."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import attrax
from attrax import distributions, paths, quadrature, scores
from comparisons import close

_RNG = np.random.default_rng(5)
DEPTH, WIDTH, FEATURES, CLASSES = 8, 12, 6, 10
_SIZES = (FEATURES, *[WIDTH] * DEPTH)
LAYERS = [1.6 * _RNG.normal(size=s) / np.sqrt(s[0]) for s in itertools.pairwise(_SIZES)]
SHIFTS = 0.3 * _RNG.normal(size=(DEPTH, WIDTH))
HEAD = _RNG.normal(size=(WIDTH, CLASSES)) / np.sqrt(WIDTH)
AROUND = _RNG.normal(size=(FEATURES, CLASSES))
X = jnp.asarray(_RNG.normal(size=FEATURES), "float32")
B = jnp.asarray(_RNG.normal(size=FEATURES), "float32") / 4
SCORE = scores.logit(3)


def network(x):
    """Eight GELU layers, each of which every path crosses."""
    for i, (w, shift) in enumerate(zip(LAYERS, SHIFTS, strict=True)):
        h = x @ jnp.asarray(w, x.dtype) + jnp.asarray(shift, x.dtype)
        x = attrax.tap(f"h{i}", jax.nn.gelu(h))
    return x @ jnp.asarray(HEAD, x.dtype)


def with_skip(x):
    """The same, and a path around all layers."""
    return network(x) + x @ jnp.asarray(AROUND, x.dtype)


def at(layer, model=network, score=SCORE):
    def split(x):
        z, tail = attrax.cut(model, x, at=layer)
        return z, lambda z: score(tail(z))

    return split


def change(model, x=X, baseline=B):
    return float(SCORE(model(x)) - SCORE(model(baseline)))


def explained(method, split, nodes, **settings):
    """`method(split, X, B)` with a Gauss-Legendre rule, compiled."""
    rule = quadrature.gauss_legendre(nodes)
    explain = functools.partial(method, split, rule=rule, batch_size=nodes, **settings)
    return jax.jit(explain)(X, B)


# Answers known on paper.


def squares(x):
    """z = x^2, and the product of its entries behind it."""
    return x**2, lambda z: jnp.prod(z)


def identity(y):
    return y


def test_conductance_of_a_product():
    # dF/dz_0 = z_1 = t^2 9 and dz_0/dt = 2 t 1: the integral of 18 t^3 is 4.5, and so for z_1.
    x = jnp.array([1.0, 3.0])
    close(attrax.conductance(squares, x), np.array([4.5, 4.5]))
    # From the baseline (1, 1): z_0 stays, and z_1 gets all.
    close(attrax.conductance(squares, x, jnp.ones(2)), np.array([0.0, 8.0]))


def test_neuron_conductance_of_a_sum_of_products():
    def split(x):
        return jnp.stack([x[0] * x[1], x[1] ** 2]), lambda z: z[0] + 3 * z[1]

    x = jnp.array([2.0, 5.0])
    found = attrax.neuron_conductance(split, x)
    close(found, np.array([[5.0, 5.0], [0.0, 75.0]]))
    close(attrax.conductance(split, x), np.array([10.0, 75.0]))


def test_internal_influence_of_a_square():
    # The gradient behind z = x^2 is 2 z: along the line, 2 t^2 x^2.
    split = lambda x: (x**2, lambda z: z @ z)  # noqa: E731
    rule, x = quadrature.simpson(3), jnp.array([3.0, 6.0])
    found = attrax.internal_influence(split, x, distributions.linear(), rule=rule)
    close(found, np.array([6.0, 24.0]))
    at_x = attrax.internal_influence(split, x, distributions.point, rule=rule)
    close(at_x, np.array([18.0, 72.0]))
    # The path at the layer is another question: 2 t z.
    at_layer = attrax.influence(lambda z: z @ z, x**2, distributions.linear(), rule=rule)
    close(at_layer, np.array([9.0, 36.0]))


def test_at_the_input_they_are_the_methods_of_the_input():
    fn = lambda x: SCORE(network(x))  # noqa: E731
    at_input = lambda x: (x, fn)  # noqa: E731
    expected = jax.jit(functools.partial(attrax.integrated_gradients, fn))(X, B)
    close(explained(attrax.conductance, at_input, 32), expected)
    # Each neuron is an input feature: a diagonal.
    close(explained(attrax.neuron_conductance, at_input, 32), np.diag(expected))
    rule = quadrature.midpoint(3)
    mean = attrax.internal_influence(at_input, X, distributions.linear(B), rule=rule)
    close(mean, attrax.influence(fn, X, distributions.linear(B), rule=rule))


# Completeness, where it holds and where not.


def differences(layer, nodes):
    """Conductance as peers compute it: gradients times differences between neighbours."""

    def slope(x):
        z, fn = at(layer)(x)
        return z, attrax.gradient(fn, z)

    nodes = quadrature.gauss_legendre(nodes + 1).nodes
    z, slopes = jax.jit(jax.vmap(slope))(paths.interpolate(X, B, nodes))
    return jnp.sum(slopes[:-1] * jnp.diff(z, axis=0), axis=0)


@pytest.mark.parametrize("layer", ["h0", "h3", "h7"])
def test_complete_at_layers_that_every_path_crosses(layer):
    whole = change(network)
    gap = lambda found: abs(float(found.sum()) - whole) / abs(whole)  # noqa: E731
    assert gap(explained(attrax.conductance, at(layer), 16)) < 1e-4
    # The rounding error of float32: more nodes change nothing.
    assert gap(explained(attrax.conductance, at(layer), 33)) < 5e-6
    if layer == "h3":
        assert gap(differences(layer, 33)) > 1e-2


def test_not_complete_with_a_skip_connection_around_the_layer():
    # Exactly what flows around the layer is missing, however many nodes.
    around = float(SCORE((X - B) @ jnp.asarray(AROUND, X.dtype)))
    assert abs(around) > 0.1
    for nodes in (33, 64):
        found = explained(attrax.conductance, at("h3", with_skip), nodes)
        assert change(with_skip) - float(found.sum()) == pytest.approx(around, abs=1e-5)
    # Behind the sum of both branches nothing is missing.
    split = lambda x: (with_skip(x), SCORE)  # noqa: E731
    found = explained(attrax.conductance, split, 16)
    assert float(found.sum()) == pytest.approx(change(with_skip), rel=1e-5)


def test_influence_times_activation_is_not_complete():
    z, rule = attrax.capture(network, X, at="h3"), quadrature.gauss_legendre(32)
    explain = functools.partial(attrax.internal_influence, at("h3"), rule=rule)
    mean = jax.jit(lambda x: explain(x, distributions.linear(B)))(X)
    assert abs(jnp.sum(z * mean) - change(network)) > 0.02 * abs(change(network))


# ReLU layers, where the derivative of the activation jumps.


def relu_network(seed, depth, width):
    rng = np.random.default_rng(seed)
    sizes = (FEATURES, *[width] * depth, 1)
    layers = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    shifts = [0.3 * rng.normal(size=s) for s in sizes[1:]]
    place = depth // 2

    def run(h, first, last):
        for w, b in zip(layers[first:last], shifts[first:last], strict=True):
            h = h @ jnp.asarray(w, h.dtype) + jnp.asarray(b, h.dtype)
            h = jax.nn.relu(h) if len(b) == width else h
        return h

    def split(x):
        return run(x, 0, place + 1), lambda z: run(z, place + 1, None)[0]

    return split


def by_captum(split, x, baseline, n):
    """Gradients times differences between n + 1 nodes of Gauss, as Captum sums them."""

    def slope(x):
        z, fn = split(x)
        return z, attrax.gradient(fn, z)

    z, slopes = jax.vmap(slope)(
        paths.interpolate(x, baseline, quadrature.gauss_legendre(n + 1).nodes)
    )
    return jnp.sum(slopes[:-1] * jnp.diff(z, axis=0), axis=0)


def test_differences_at_relu_layers_are_never_further_off_than_those_of_captum():
    """Ten networks of one to five layers, 50 nodes, and the sum of 5,100 differences."""
    better = []
    with jax.enable_x64(True):
        x, baseline = (jnp.asarray(np.asarray(a), "float64") for a in (X, B))
        for seed in range(10):
            split = relu_network(seed, 1 + seed // 2, 16)
            explain = functools.partial(attrax.conductance, split, x, baseline, batch_size=51)
            rules = quadrature.stieltjes(51), quadrature.gauss_legendre(51)
            ours, gauss = (jax.jit(lambda r=rule, e=explain: e(rule=r))() for rule in rules)
            expected = jax.jit(lambda e=explain: e(rule=quadrature.stieltjes(5_101)))()
            theirs = jax.jit(functools.partial(by_captum, split, n=50))(x, baseline)
            error = lambda value, e=expected: float(jnp.sum(jnp.abs(value - e)))  # noqa: E731
            assert error(ours) <= error(theirs) + 1e-9
            better.append(error(gauss) / (error(ours) + 1e-9))
    assert np.median(better) > 2


def test_differences_in_chunks_with_derivatives_and_on_paper():
    x = jnp.array([1.0, 3.0])
    whole = attrax.conductance(squares, x, rule=quadrature.stieltjes(41), batch_size=40)
    close(whole, np.array([4.5, 4.5]), 2e-3)
    for size in (1, 7, 64):
        explain = functools.partial(attrax.conductance, squares, batch_size=size)
        close(explain(x, rule=quadrature.stieltjes(41)), whole)
    # The whole scales as the square of each entry.
    total = lambda x: jnp.sum(explain(x, rule=quadrature.stieltjes(9)))  # noqa: E731
    close(jax.jit(jax.grad(total))(x), 2 * total(x) / x, 1e-4)


# Neurons.


def test_neurons_sum_to_the_layer():
    rows = explained(attrax.neuron_conductance, at("h2"), 5)
    assert rows.shape == (WIDTH, FEATURES)
    close(rows.sum(axis=1), explained(attrax.conductance, at("h2"), 5))


def test_all_neurons_at_once_are_one_by_one():
    rule = quadrature.gauss_legendre(4)
    explain = functools.partial(attrax.neuron_conductance, at("h2"), X, B, rule=rule, batch_size=4)
    rows = jax.jit(explain)()
    close(jax.jit(lambda: explain(neuron=7))(), rows[7])
    some = jnp.array([7, 0, 11])
    close(jax.jit(jax.vmap(lambda i: explain(neuron=(i,))))(some), rows[some])
    close(jax.jit(lambda: jax.lax.map(lambda i: explain(neuron=i), some))(), rows[some])


def test_neuron_gradients_are_gradients_of_a_captured_activation():
    # One neuron by any method of the input; all of them as a Jacobian.
    fn = lambda x: scores.neuron(4)(attrax.capture(network, x, at="h2"))  # noqa: E731
    rows = jax.jit(jax.jacrev(lambda x: attrax.capture(network, x, at="h2")))(X)
    close(jax.jit(functools.partial(attrax.gradient, fn))(X), rows[4])
    found = jax.jit(functools.partial(attrax.integrated_gradients, fn))(X, B)
    assert float(found.sum()) == pytest.approx(float(fn(X) - fn(B)), rel=1e-5)


def test_neurons_of_layers_and_inputs_that_are_trees():
    def split(x):
        z = {"sum": x["a"] + x["b"][:, 0], "product": jnp.outer(x["a"], x["b"][:, 1])}
        return z, lambda z: jnp.sum(z["sum"] ** 2) + jnp.sum(jnp.sin(z["product"]))

    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.arange(6.0).reshape(2, 3)}
    rows = jax.jit(functools.partial(attrax.neuron_conductance, split))(x)
    whole = jax.jit(functools.partial(attrax.conductance, split))(x)
    assert rows["product"]["b"].shape == (2, 2, 2, 3)
    for name, neurons in rows.items():
        parts = neurons["a"].sum(axis=-1) + neurons["b"].sum(axis=(-1, -2))
        close(parts, whole[name])


# Sharing one forward pass.


def flops(fn, *args):
    """Operations of the compiled program; it must be without loops, whose bodies count once."""
    compiled = jax.jit(fn).lower(*args).compile()
    assert "while" not in compiled.as_text()
    return compiled.cost_analysis()["flops"]


WIDE = [jnp.asarray(_RNG.normal(size=(128, 128)) / 11, "float32") for _ in range(6)]


def wide(weights, x):
    for i, w in enumerate(weights):
        x = attrax.tap(f"h{i}", jax.nn.relu(x @ w))
    return x


def test_ten_targets_cost_eleven_forward_passes():
    x, classes = jnp.ones(128), jnp.arange(10)

    def targets(weights, x):
        explain = lambda i: attrax.gradient(lambda x: scores.logit(i)(wide(weights, x)), x)  # noqa: E731
        return jax.vmap(explain)(classes)

    forward = flops(wide, WIDE, x)
    assert flops(targets, WIDE, x) < 11.5 * forward

    def layer_targets(weights, x):
        model = functools.partial(wide, weights)
        explain = lambda i: attrax.conductance(  # noqa: E731
            at("h2", model, scores.logit(i)), x, rule=quadrature.midpoint(1)
        )
        return jax.vmap(explain)(classes)

    # Half the network forward and its derivative, the other half forward and ten times backward.
    assert flops(layer_targets, WIDE, x) < (2 + 11) / 2 * 1.05 * forward


@pytest.mark.parametrize("jvp", [jax.jvp, attrax.reverse_jvp])
def test_a_node_of_conductance_costs_two_forward_passes(jvp):
    def explain(weights, x):
        split = at("h2", functools.partial(wide, weights), scores.logit(0))
        return attrax.conductance(split, x, rule=quadrature.midpoint(1), jvp=jvp)

    x = jnp.ones(128)
    assert flops(explain, WIDE, x) < 2.1 * flops(wide, WIDE, x)


# Functions without a forward derivative.


@jax.custom_vjp
def kernel(x):
    """A function as hand-written kernels are: with a backward rule only."""
    return jnp.tanh(x)


kernel.defvjp(lambda x: (kernel(x), kernel(x)), lambda y, u: (u * (1 - y * y),))


def by_kernel(x):
    h = attrax.tap("h", kernel(x @ jnp.asarray(LAYERS[0], x.dtype)))
    return kernel(h @ jnp.asarray(LAYERS[1], x.dtype)) @ jnp.asarray(HEAD, x.dtype)


def by_tanh(x):
    h = attrax.tap("h", jnp.tanh(x @ jnp.asarray(LAYERS[0], x.dtype)))
    return jnp.tanh(h @ jnp.asarray(LAYERS[1], x.dtype)) @ jnp.asarray(HEAD, x.dtype)


def test_a_custom_vjp_before_the_layer():
    expected = explained(attrax.conductance, at("h", by_tanh), 8)
    with pytest.raises(TypeError, match=r"cannot differentiate it; pass `jvp=attrax\.reverse_jvp`"):
        explained(attrax.conductance, at("h", by_kernel), 8)
    reverse = {"jvp": attrax.reverse_jvp}
    close(explained(attrax.conductance, at("h", by_kernel), 8, **reverse), expected)
    close(explained(attrax.conductance, at("h", by_tanh), 8, **reverse), expected)
    rows = explained(attrax.neuron_conductance, at("h", by_kernel), 8)
    close(rows.sum(axis=1), expected)


def test_reverse_jvp_is_jvp():
    def fn(x, scale):
        return {"a": jnp.sin(x["b"]) * scale, "c": x["b"] @ x["b"]}, jnp.sum(x["b"])

    primals, tangents = ({"b": X}, jnp.float32(2.0)), ({"b": B}, jnp.float32(0.5))
    found = attrax.reverse_jvp(fn, primals, tangents, has_aux=True)
    jax.tree.map(close, found, jax.jvp(fn, primals, tangents, has_aux=True))
    alone = attrax.reverse_jvp(lambda *args: fn(*args)[0], primals, tangents)
    jax.tree.map(close, alone, found[:2])


# Derivatives, precision and arguments.


def test_derivatives_with_respect_to_everything():
    with jax.enable_x64(True):
        x, b = (jnp.asarray(np.asarray(value), "float64") for value in (X, B))
        rule = quadrature.gauss_legendre(3)

        @jax.jit
        def explain(x, b, scale):
            # What goes around the layer is a value of the tail that depends on x.
            around = jnp.asarray(AROUND, x.dtype)
            model = lambda x: by_tanh(x) * scale + x @ around  # noqa: E731
            return attrax.conductance(at("h", model), x, b, rule=rule, batch_size=2)

        check_grads(explain, (x, b, jnp.float64(0.7)), order=1, modes=["fwd", "rev"])


def test_the_derivative_is_that_of_the_closed_form():
    # For z = x^2 and a sum behind it conductance is x^2.
    total = lambda x: jnp.sum(  # noqa: E731
        attrax.conductance(lambda x: (x**2, jnp.sum), x)
    )
    close(jax.jit(jax.grad(total))(X), 2 * X)


@pytest.mark.parametrize(
    "method", [attrax.conductance, attrax.internal_influence, attrax.neuron_conductance]
)
def test_half_precision_and_chunks(method):
    setting = distributions.linear(B) if method is attrax.internal_influence else B
    rule = quadrature.gauss_legendre(5)

    @functools.partial(jax.jit, static_argnums=1)
    def explain(x, batch_size):
        own = jax.tree.map(lambda b: b.astype(x.dtype), setting) if setting is B else setting
        return method(at("h2"), x, own, rule=rule, batch_size=batch_size)

    whole = explain(X, 5)
    close(explain(X, 2), whole)
    half = explain(X.astype("bfloat16"), 5)
    assert half.dtype == jnp.bfloat16
    # Three layers in bfloat16 before the gradient is taken.
    close(half, whole, 6e-2)


def test_random_distributions_need_a_key_and_use_it():
    rule = quadrature.midpoint(4)
    explain = lambda key: attrax.internal_influence(  # noqa: E731
        at("h2"), X, distributions.gaussian(0.3), rule=rule, key=key, batch_size=4
    )
    drawn = jax.jit(lambda seed: explain(jax.random.key(seed)))
    assert not np.allclose(drawn(0), drawn(1), rtol=1e-3)
    with pytest.raises(ValueError, match="`gaussian` is random: pass `key="):
        explain(None)


def test_tails_written_by_hand():
    # The skip connection is a value of the tail that depends on x.
    def prefix(x):
        return jnp.tanh(x), jnp.sin(x)

    def split(x):
        z, around = prefix(x)
        return z, jax.tree_util.Partial(lambda around, z: z @ around, around)

    def hidden(x):
        z, around = prefix(x)
        return z, lambda z: z @ around

    # By hand: the gradient at the layer is sin(t), the activation grows by 1 - tanh(t)^2.
    t = quadrature.gauss_legendre(20)
    x = np.asarray(X, np.float64)
    slow = sum(
        w * np.sin(t * x) * x * (1 - np.tanh(t * x) ** 2)
        for t, w in zip(t.nodes, t.weights, strict=True)
    )
    for way in (split, hidden):
        for jvp in (jax.jvp, attrax.reverse_jvp):
            explain = functools.partial(attrax.conductance, way, rule=t, jvp=jvp)
            close(jax.jit(explain)(X), slow)
        rows = jax.jit(lambda x, w=way: attrax.neuron_conductance(w, x, rule=t))(X)
        close(jnp.diagonal(rows), slow)


def test_refusals():
    line, rule = distributions.linear(), quadrature.midpoint(2)
    influence = functools.partial(attrax.internal_influence, rule=rule)
    for method, setting in (
        (attrax.conductance, None),
        (attrax.neuron_conductance, None),
        (influence, line),
    ):
        with pytest.raises(TypeError, match=r"`x` must be floating; got int32"):
            method(at("h2"), jnp.arange(6), setting)
        with pytest.raises(ValueError, match=r"must return a scalar; got shape \(10,\)"):
            method(at("h2", score=identity), X, setting)
        with pytest.raises(TypeError, match="`z` must be floating; got int32"):
            method(lambda x: (x.astype(int), jnp.sum), X, setting)
        with pytest.raises(TypeError, match="`rule` must be a Rule"):
            method(at("h2"), X, setting, rule=50)
    for method in (attrax.conductance, attrax.neuron_conductance):
        with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
            method(at("h2"), X, jnp.zeros(1))
    with pytest.raises(ValueError, match=r"`distribution` must have the shapes of `x`; got \(\)"):
        influence(at("h2"), X, lambda x: lambda t, key: t)
    with pytest.raises(ValueError, match="index 12 is out of range"):
        attrax.neuron_conductance(at("h2"), X, neuron=12)
    with pytest.raises(ValueError, match=r"one index for each axis; got 2 for shape \(12,\)"):
        attrax.neuron_conductance(at("h2"), X, neuron=(1, 2))
