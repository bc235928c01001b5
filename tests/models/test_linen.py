"""Linen models: taps against Flax's own capture, lifted transforms against the plain model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from comparisons import close

X = jnp.array([[0.3, -0.5, 0.8]])


class Block(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x, _=None):
        h = nn.Dense(self.features, name="ff")(nn.LayerNorm(name="norm")(x))
        return x + nn.relu(h), None


class Plain(nn.Module):
    """`lift` wraps the block: nn.remat, nn.jit, or nothing."""

    lift: object = staticmethod(lambda block: block)

    @nn.compact
    def __call__(self, x):
        block = self.lift(Block)
        for k in range(3):
            x, _ = block(name=f"block{k}")(x)
        return nn.Dense(2, name="head")(x)


class Scanned(nn.Module):
    lift: object = staticmethod(lambda block: block)

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            self.lift(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = scan(name="layers")(x, None)
        return nn.Dense(2, name="head")(x)


def init(module, *inputs, seed=0):
    return module.init(jax.random.key(seed), *inputs)


def score(y):
    return jnp.sum(jnp.sin(y))


@pytest.fixture(scope="module")
def plain():
    """The unlifted model, what Flax captures in it, and its gradients at every block."""
    variables = init(Plain(), X)
    output, state = Plain().apply(variables, X, capture_intermediates=True)
    model = attrax.from_linen(Plain(), variables)
    at = [f"block{k}/ff" for k in range(3)]
    return (
        variables,
        output,
        state["intermediates"],
        attrax.gradients_at(model, X, score=score, at=at),
    )


def test_layers_are_listed_in_the_order_of_execution(plain):
    names = [layer.name for layer in attrax.layers(attrax.from_linen(Plain(), plain[0]), X)]
    assert names[:4] == ["block0/norm", "block0/ff", "block0/relu#0", "block0"]
    assert names[-1] == "head"
    assert len(names) == 13


def test_captures_are_those_of_flax(plain):
    variables, _, intermediates, _ = plain
    model = attrax.from_linen(Plain(), variables)
    found = attrax.capture(model, X, at=["block0/norm", "block1/ff", "block2", "head", "block1:in"])
    close(found["block0/norm"], intermediates["block0"]["norm"]["__call__"][0])
    close(found["block1/ff"], intermediates["block1"]["ff"]["__call__"][0])
    close(found["block2"], intermediates["block2"]["__call__"][0])
    close(found["head"], intermediates["head"]["__call__"][0])
    close(found["block1:in"], intermediates["block0"]["__call__"][0][0])


@pytest.mark.parametrize("lift", [nn.remat, nn.jit], ids=["remat", "jit"])
def test_lifted_modules_keep_their_own_names(plain, lift):
    variables, output, intermediates, gradients = plain
    model = attrax.from_linen(Plain(lift=lift), variables)
    for k in range(3):
        at = f"block{k}/ff"
        z, tail = attrax.cut(model, X, at=at)
        close(z, intermediates[f"block{k}"]["ff"]["__call__"][0])
        close(tail(z), output)
        close(jax.grad(lambda z, tail=tail: score(tail(z)))(z), gradients[at])
    close(attrax.gradients_at(model, X, score=score, at=list(gradients)), gradients)


@pytest.mark.parametrize("lift", [lambda block: block, nn.remat], ids=["plain", "remat"])
def test_scanned_layers_equal_the_unrolled_model(plain, lift):
    variables, output, intermediates, gradients = plain
    params = dict(variables["params"])
    blocks = [params.pop(f"block{k}") for k in range(3)]
    params["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    model = attrax.from_linen(Scanned(lift=lift), {"params": params})
    stacked = attrax.gradients_at(model, X, score=score, at="layers/ff")
    captured = attrax.capture(model, X, at="layers/ff")
    for k in range(3):
        z, tail = attrax.cut(model, X, at=f"layers[{k}]/ff")
        close(z, intermediates[f"block{k}"]["ff"]["__call__"][0])
        close(captured[k], z)
        close(tail(z), output)
        close(jax.grad(lambda z, tail=tail: score(tail(z)))(z), gradients[f"block{k}/ff"])
        close(stacked[k], gradients[f"block{k}/ff"])
        close(attrax.capture(model, X, at=f"layers[{k}]/relu#0"), jax.nn.relu(z))


def test_a_module_called_twice_has_two_calls():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3, name="shared")
            return dense(jnp.sin(dense(x)))

    variables = init(Twice(), X)
    model = attrax.from_linen(Twice(), variables)
    with pytest.raises(ValueError, match="'shared#0', 'shared#1'"):
        attrax.cut(model, X, at="shared")
    first, tail = attrax.cut(model, X, at="shared#0")
    close(tail(first), model(X))
    close(attrax.capture(model, X, at="shared#1:in"), jnp.sin(first))
    assert not np.allclose(first, attrax.capture(model, X, at="shared#1"))


def test_methods_other_than_call_and_inputs_of_several_arrays():
    class Encoder(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)

        def encode(self, x, *, shift):
            return self.dense(x) + shift

    class Model(nn.Module):
        def setup(self):
            self.encoder = Encoder()

        def __call__(self, x):
            return self.encoder.encode(x, shift=2 * x).sum()

    variables = init(Model(), X)
    model = attrax.from_linen(Model(), variables)
    z, tail = attrax.cut(model, X, at="encoder.encode")
    close(tail(z), z.sum())
    inputs = attrax.capture(model, X, at="encoder.encode:in")
    close(inputs, (X, 2 * X))


def test_attention_weights_of_an_unmodified_module():
    class Attend(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.MultiHeadDotProductAttention(num_heads=1, name="attention")(x, x)

    x = jax.random.normal(jax.random.key(1), (4, 3))
    model = attrax.from_linen(Attend(), init(Attend(), x))
    weights, tail = attrax.cut(model, x, at="attention/softmax#0")
    close(weights.sum(-1), np.ones((1, 4)))
    close(tail(weights), model(x))
    close(attrax.capture(model, x, at="attention:div#1"), weights)


def test_vmapped_modules_and_recurrent_cells():
    class Mapped(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = nn.vmap(Block, variable_axes={"params": None}, split_rngs={"params": False})
            return block(name="each")(x)[0].sum()

    x = jax.random.normal(jax.random.key(1), (5, 3))
    model = attrax.from_linen(Mapped(), init(Mapped(), x))
    z, tail = attrax.cut(model, x, at="each/ff")
    assert z.shape == (5, 3)
    close(tail(z), model(x))

    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.RNN(nn.SimpleCell(2, name="cell"), name="rnn")(x).sum()

    model = attrax.from_linen(Recurrent(), init(Recurrent(), x[None]))
    z, tail = attrax.cut(model, x[None], at="cell[2]/i")
    close(tail(z), model(x[None]))
    assert attrax.gradients_at(model, x[None], score=lambda y: y, at="cell/i").shape == (5, 1, 2)


def test_options_of_apply_and_a_dropout_stream():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            return nn.Dropout(0.5, deterministic=not train, name="drop")(nn.Dense(3)(x))

    module = Noisy()
    variables = module.init(jax.random.key(0), X, train=False)
    still = attrax.from_linen(module, variables, train=False)
    close(attrax.capture(still, X, at="drop"), still(X))
    noisy = attrax.from_linen(module, variables, train=True, rngs={"dropout": jax.random.key(3)})
    close(attrax.capture(noisy, X, at="drop"), noisy(X))
    with pytest.raises(ValueError, match="`mutable` must not be given"):
        attrax.from_linen(module, variables, mutable=["batch_stats"])


def test_modules_with_unhashable_fields_and_bound_modules():
    class Sizes(nn.Module):
        sizes: list

        @nn.compact
        def __call__(self, x):
            for n in self.sizes:
                x = nn.Dense(n)(x)
            return x

    module = Sizes([4, 2])
    variables = init(module, X)
    traces = []

    @jax.jit
    def explain(model, x):
        traces.append(1)
        return attrax.cut(model, x, at="Dense_0")[0]

    explain(attrax.from_linen(module, variables), X)
    explain(attrax.from_linen(module, variables), X + 1)
    assert len(traces) == 1
    close(attrax.capture(module.bind(variables), X, at="Dense_1"), module.apply(variables, X))
    with pytest.raises(TypeError, match=r"write attrax.from_linen"):
        attrax.layers(module, X)


def test_weights_are_arguments_of_the_compiled_program():
    module = nn.Dense(512)
    model = attrax.from_linen(module, init(module, jnp.ones(512)))
    text = jax.jit(lambda model, x: model(x)).lower(model, jnp.ones(512)).as_text()
    assert len(text) < 5_000


def test_two_models_of_one_jitted_class_keep_their_names():
    jitted = nn.jit(Block)

    class Order(nn.Module):
        names: tuple

        @nn.compact
        def __call__(self, x):
            for name in self.names:
                x, _ = jitted(name=name)(x)
            return x

    first, second = Order(("a", "b")), Order(("b", "a"))
    variables = init(first, X)
    attrax.layers(attrax.from_linen(first, variables), X)
    model = attrax.from_linen(second, variables)
    wanted = Block().apply({"params": variables["params"]["b"]}, X)[0]
    close(attrax.capture(model, X, at="b")[0], wanted)


def test_methods_without_arrays_and_of_the_parent_class():
    class Silent(nn.Module):
        @nn.compact
        def __call__(self, x):
            return None

    class Doubled(nn.Dense):
        @nn.compact
        def __call__(self, inputs):
            return 2 * super().__call__(inputs)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            Silent(name="silent")(x)
            return Doubled(3, name="doubled")(nn.relu(x))

    model = attrax.from_linen(Model(), init(Model(), X))
    names = [layer.name for layer in attrax.layers(model, X)]
    assert names == ["relu#0", "doubled"]
    close(attrax.capture(model, X, at="doubled"), model(X))


def test_numpy_values_reach_modules_as_they_are():
    class Tiled(nn.Module):
        @nn.compact
        def __call__(self, x, times):
            return jnp.tile(x, int(times))

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return Tiled(name="tiled")(x, np.int64(2)) if train else x

    model = attrax.from_linen(Model(), {})
    assert attrax.capture(model, X, np.bool_(True), at="tiled").shape == (1, 6)


def test_a_method_of_a_bound_module_is_refused():
    bound = Plain().bind(init(Plain(), X))
    with pytest.raises(TypeError, match=r"write attrax.from_linen\(module, variables\)\."):
        attrax.as_model(bound.__call__)
    assert jax.tree.structure(attrax.as_model(bound)) == jax.tree.structure(attrax.as_model(bound))
