"""Attributions in a training loop: exact derivatives, bounded memory, the loops of Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import attrax
from attrax import priors
from attrax.quadrature import gauss_legendre, midpoint
from comparisons import close


def test_right_reasons_sums_squares_in_the_region():
    attribution = jnp.array([[1.0, -2.0], [3.0, 4.0]])
    region = jnp.array([[True, True], [False, False]])
    assert priors.right_reasons(attribution, region) == 5
    slope = jax.grad(priors.right_reasons)(attribution, region)
    np.testing.assert_array_equal(slope, [[2, -4], [0, 0]])


def test_total_variation_is_that_of_a_loop():
    a = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("f")
    down = sum(abs(a[i + 1, j, c] - a[i, j, c]) for i, j, c in np.ndindex(3, 5, 3))
    across = sum(abs(a[i, j + 1, c] - a[i, j, c]) for i, j, c in np.ndindex(4, 4, 3))
    assert priors.total_variation(jnp.asarray(a)) == pytest.approx(down + across, rel=1e-5)
    assert priors.total_variation(jnp.asarray(a), axes=(1,)) == pytest.approx(across, rel=1e-5)


def test_total_variation_of_equal_attributions_is_flat():
    flat = jnp.ones((3, 3), jnp.bfloat16)
    value, slope = jax.jit(jax.value_and_grad(priors.total_variation))(flat)
    assert value == 0 and value.dtype == jnp.float32
    np.testing.assert_array_equal(slope, np.zeros((3, 3)))


def test_total_variation_grows_with_the_scale():
    attribution = jnp.array([[0.0, 1.0], [3.0, 1.0]])
    assert priors.total_variation(attribution / 2) == priors.total_variation(attribution) / 2


def test_penalties_explain_what_they_refuse():
    with pytest.raises(ValueError, match=r"`region` must have the shape .* got \(1,\) against"):
        priors.right_reasons(jnp.ones(3), jnp.ones(1, bool))
    with pytest.raises(TypeError, match="`region` must be boolean; got float32"):
        priors.right_reasons(jnp.ones(3), jnp.ones(3))
    with pytest.raises(TypeError, match="`attribution` must be floating"):
        priors.right_reasons(jnp.arange(3), jnp.ones(3, bool))
    with pytest.raises(TypeError, match="`attribution` must be floating"):
        priors.total_variation(jnp.ones((2, 2), int))
    with pytest.raises(ValueError, match=r"`axes` must lie in \[-1, 1\) here; got 1"):
        priors.total_variation(jnp.ones(3))


def attribution_of(w, x, batch_size=1):
    """`w x^3`, exactly: two nodes of Gauss-Legendre integrate squares."""
    fn = lambda x: jnp.sum(w * x**3)  # noqa: E731
    return attrax.integrated_gradients(fn, x, rule=gauss_legendre(2), batch_size=batch_size)


def test_the_derivative_of_a_prior_on_paper():
    """The penalty of `a = w x^3` in the region is `w^2 x^6`, and its derivative `2 w x^6`."""
    w, xs = jnp.array([0.5, -1.0, 2.0]), jnp.array([[1.0, 2.0, 1.0], [2.0, 1.0, -1.0]])
    regions = jnp.array([[True, True, False], [True, False, False]])

    def loss(w):
        prior = lambda x, region: priors.right_reasons(attribution_of(w, x), region)  # noqa: E731
        return priors.batch_mean(prior, xs, regions, batch_size=1)

    sixth = np.where(regions, np.asarray(xs) ** 6, 0).mean(axis=0)
    value, slope = jax.jit(jax.value_and_grad(loss))(w)
    assert value == pytest.approx((np.asarray(w) ** 2 * sixth).sum(), rel=1e-5)
    np.testing.assert_allclose(slope, 2 * np.asarray(w) * sixth, rtol=1e-5)


def test_batch_mean_is_the_mean_of_vmap():
    """Of any pytree, with its derivative by what the function closes over."""
    xs = {"a": jax.random.normal(jax.random.key(0), (5, 3)), "b": jnp.arange(5.0)}
    ys, keys = jnp.arange(5), jax.random.split(jax.random.key(1), 5)

    def one(w, x, y, key):
        noisy = x["a"] + jax.random.normal(key, (3,))
        return {"size": jnp.abs(attribution_of(w, noisy)), "rest": x["b"] * w[y % 3]}

    def chunked(w):
        rows = lambda *row: one(w, *row)  # noqa: E731
        return priors.batch_mean(rows, xs, ys, keys, batch_size=2)

    def at_once(w):
        means = jax.vmap(lambda *row: one(w, *row))(xs, ys, keys)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), means)

    w = jnp.array([0.5, -1.0, 2.0])
    found, expected = (
        jax.jit(lambda w, fn=fn: (fn(w), jax.jacrev(fn)(w)))(w) for fn in (chunked, at_once)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_numbers_of_any_kind_are_averaged_in_float32_or_wider():
    xs = jnp.arange(4)
    found = priors.batch_mean(lambda x: (x > 0, x, x.astype(jnp.bfloat16), 2), xs)
    assert [value.item() for value in found] == [0.75, 1.5, 1.5, 2.0]
    assert {value.dtype for value in found} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        found = priors.batch_mean(jnp.exp, jnp.linspace(0.0, 1.0, 5, dtype="float64"))
        assert found.item() == pytest.approx(np.exp(np.linspace(0, 1, 5)).mean(), rel=1e-14)


def test_sharded_examples_have_the_same_mean():
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    xs = jax.random.normal(jax.random.key(0), (16, 3))
    mean = jax.jit(lambda xs: priors.batch_mean(jnp.tanh, xs, batch_size=4))
    sharded = jax.device_put(xs, NamedSharding(mesh, PartitionSpec("batch")))
    np.testing.assert_allclose(mean(sharded), mean(xs), rtol=1e-6)


def test_batch_mean_explains_what_it_refuses():
    with pytest.raises(
        ValueError, match=r"one leading axis of the same length.* got shapes \(3,\)"
    ):
        priors.batch_mean(jnp.add, jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match=r"same length, 1 or more; got shapes \(\)"):
        priors.batch_mean(jnp.sin, jnp.ones(()))
    with pytest.raises(ValueError, match="same length, 1 or more; got no array"):
        priors.batch_mean(jnp.sin, {})
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        priors.batch_mean(jnp.sin, jnp.ones(3), batch_size=0)


class Perceptron(nnx.Module):
    def __init__(self, width=8, *, dtype=None, seed=0):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(6, width, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(width, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


def batch(n=4):
    """Examples, labels, regions."""
    xs = jax.random.normal(jax.random.key(1), (n, 6))
    return xs, jnp.arange(n) % 3, xs > 0.5


def prior_of(model):
    def prior(x, y, region):
        attribution = attrax.integrated_gradients(lambda x: model(x)[y], x, rule=gauss_legendre(3))
        return priors.right_reasons(attribution.astype(jnp.float32), region)

    return prior


def loss_of(model, xs, ys, regions):
    entropy = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(xs), ys).mean()
    return entropy + 0.5 * priors.batch_mean(prior_of(model), xs, ys, regions)


gradient_of_loss = jax.jit(jax.grad(loss_of))


def naive_prior(weights, x, y, region, nodes=4):
    """Grad of grad without the library: an unrolled sum of gradients, everything kept."""

    def score(x):
        return (jnp.tanh(x @ weights["a"] + weights["b"]) @ weights["c"])[y]

    rule = gauss_legendre(nodes)
    pairs = zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True)
    slope = sum(w * jax.grad(score)(t * x) for t, w in pairs)
    return jnp.sum(jnp.where(region, x * slope, 0) ** 2)


def test_the_gradient_is_that_of_grad_of_grad():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shapes = {"a": (6, 8), "b": (8,), "c": (8, 3)}
        weights = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
        rows = jnp.asarray(rng.normal(size=(4, 6))), jnp.arange(4) % 3, jnp.ones((4, 6), bool)

        def mine(weights):
            model = lambda x: jnp.tanh(x @ weights["a"] + weights["b"]) @ weights["c"]  # noqa: E731

            def prior(x, y, region):
                attribution = attrax.integrated_gradients(
                    lambda x: model(x)[y], x, rule=gauss_legendre(4), batch_size=1
                )
                return priors.right_reasons(attribution, region)

            return priors.batch_mean(prior, *rows, batch_size=1)

        def naive(weights):
            return jnp.mean(jax.vmap(lambda *row: naive_prior(weights, *row))(*rows))

        found, expected = jax.jit(jax.grad(mine))(weights), jax.jit(jax.grad(naive))(weights)
        close(found, expected, 1e-10)


def flops(fn, *args):
    return jax.jit(fn).lower(*args).cost_analysis()["flops"]


def test_a_batch_mean_does_not_compute_the_points_a_third_time():
    """Without loops in the programs, whose bodies are counted once."""
    model, rows = attrax.from_nnx(Perceptron(256)), batch(2)

    def chunked(model):
        return priors.batch_mean(prior_of(model), *rows)

    def at_once(model):
        return jnp.mean(jax.vmap(prior_of(model))(*rows))

    assert flops(jax.grad(chunked), model) < 1.03 * flops(jax.grad(at_once), model)


def temporary_bytes(fn, *args):
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_examples_or_nodes():
    w = jnp.ones(10_000)

    def loss(w, examples, nodes):
        def prior(c):
            fn = lambda x: jnp.sum(jnp.tanh(w * x) ** 2)  # noqa: E731
            return jnp.sum(
                attrax.integrated_gradients(fn, c * w, rule=midpoint(nodes), batch_size=1) ** 2
            )

        return priors.batch_mean(prior, jnp.arange(1.0, 1 + examples), batch_size=1)

    few = temporary_bytes(jax.grad(lambda w: loss(w, 4, 8)), w)
    # For each example one attribution is kept, and for no node anything.
    many = temporary_bytes(jax.grad(lambda w: loss(w, 8, 64)), w)
    assert many < few + 5 * w.nbytes


def test_a_kink_that_moves_is_not_seen_by_the_sum():
    """`relu(x + b)` at x = 2, b = -1: the integral of 1 grows with b, the sum does not."""

    def attribution(b, activation):
        fn = lambda x: activation(x + b)  # noqa: E731
        return attrax.integrated_gradients(fn, jnp.array(2.0), rule=midpoint(64))

    relu = jax.value_and_grad(attribution)(-1.0, jax.nn.relu)
    assert [value.item() for value in relu] == [1.0, 0.0]
    smooth = jax.grad(attribution)(-1.0, jax.nn.softplus)
    assert smooth == pytest.approx(np.tanh(0.5), rel=1e-4)  # sigmoid(1) - sigmoid(-1)


TWINS = jax.random.normal(jax.random.key(0), (8, 1)) * jnp.ones((1, 2))  # a feature and its copy


def twin_loss(model, strength):
    """The first feature is to be predicted; the second, its copy, is out of bounds."""
    error = jnp.mean((jax.vmap(model)(TWINS)[:, 0] - TWINS[:, 0]) ** 2)
    region = jnp.array([False, True])

    def prior(x):
        attribution = attrax.integrated_gradients(lambda x: model(x)[0], x, rule=midpoint(2))
        return priors.right_reasons(attribution, region)

    return error + strength * priors.batch_mean(prior, TWINS)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, [0.5, 0.5]), (1.0, [1.0, 0.0])])
def test_nnx_loop(strength, expected):
    """Gradient descent from zero shares the weight between the twins; the prior takes one out."""
    model = nnx.Linear(2, 1, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, strength):
        optimizer.update(model, nnx.grad(twin_loss)(model, strength))

    for _ in range(150):
        train_step(model, optimizer, strength)
    np.testing.assert_allclose(model.kernel[...][:, 0], expected, atol=0.02)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, [0.5, 0.5]), (1.0, [1.0, 0.0])])
def test_linen_loop(strength, expected):
    """The same, with all steps in one compiled scan and the prior watched on the way."""
    module, optimizer = (
        nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros),
        optax.adam(0.1),
    )
    variables = module.init(jax.random.key(0), TWINS[0])

    def train_step(carry, step):
        variables, state = carry
        model = attrax.from_linen(module, variables)

        def share(x):
            attribution = attrax.gradient_times_input(lambda x: model(x)[0], x)
            region = jnp.array([False, True])
            return attrax.metrics.relevance_mass(jnp.abs(attribution), region)

        log = priors.monitor(share, step, TWINS, every=50)
        gradient = jax.grad(lambda v: twin_loss(lambda x: module.apply(v, x), strength))(variables)
        updates, state = optimizer.update(gradient, state, variables)
        return (optax.apply_updates(variables, updates), state), log

    @jax.jit
    def train(variables):
        return jax.lax.scan(train_step, (variables, optimizer.init(variables)), jnp.arange(151))

    (variables, _), log = train(variables)
    np.testing.assert_allclose(variables["params"]["kernel"][:, 0], expected, atol=0.02)
    assert np.isfinite(log).tolist() == [step % 50 == 0 for step in range(151)]
    assert log[150] == pytest.approx(expected[1], abs=0.02)


def trained(optimizer, model, *batches):
    """The model after one call of the optimizer for each batch."""
    state, update = optimizer.init(model), jax.jit(optimizer.update)
    for part in batches:
        updates, state = update(gradient_of_loss(model, *part), state, model)
        model = optax.apply_updates(model, updates)
    return model


def halves(rows):
    return [jax.tree.map(lambda leaf, k=k: leaf[4 * k : 4 * k + 4], rows) for k in range(2)]


def test_gradient_accumulation():
    """Two half batches under `optax.MultiSteps` are one whole batch: the prior is a mean."""
    rows, model = batch(8), attrax.from_nnx(Perceptron())
    whole = trained(optax.sgd(0.1), model, rows)
    parts = trained(optax.MultiSteps(optax.sgd(0.1), 2), model, *halves(rows))
    close(parts, whole, 1e-6)


def test_mixed_precision():
    """Layers that compute in bfloat16 on float32 weights: the gradient is float32, and near.

    So it is accumulated over half batches, and what it changes are the float32 weights: by steps
    that are too small for bfloat16, whose numbers next to 1 are 0.008 apart.
    """
    rows, optimizer = batch(8), optax.MultiSteps(optax.sgd(1e-4), 2)
    exact, mixed = (attrax.from_nnx(Perceptron(dtype=dtype)) for dtype in (None, jnp.bfloat16))
    found, expected = (gradient_of_loss(model, *rows) for model in (mixed, exact))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    close(jax.tree.leaves(found), jax.tree.leaves(expected), 2e-2)
    step, wanted = (
        jax.tree.map(jnp.subtract, trained(optimizer, model, *halves(rows)), model)
        for model in (mixed, exact)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(step)} == {jnp.dtype("float32")}
    close(jax.tree.leaves(step), jax.tree.leaves(wanted), 2e-2)


def test_the_monitor_measures_every_kth_step_only():
    seen = []

    def measured(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return {"double": 2 * x, "right": x > 0}

    log = jax.jit(lambda step, xs: priors.monitor(measured, step, xs, every=3, batch_size=1))
    found = [log(step, jnp.array([1.0])) for step in range(7)]
    jax.effects_barrier()
    assert [value["double"].item() for value in found[::3]] == [2.0, 2.0, 2.0]
    assert all(np.isnan(found[k]["double"]) and np.isnan(found[k]["right"]) for k in (1, 2, 4, 5))
    assert len(seen) == 3


def test_the_monitor_explains_what_it_refuses():
    with pytest.raises(ValueError, match="`every` must be at least 1; got 0"):
        priors.monitor(jnp.sin, 0, jnp.ones(3), every=0)
    with pytest.raises(ValueError, match="one leading axis of the same length"):
        priors.monitor(jnp.add, 0, jnp.ones(3), jnp.ones(2), every=2)
