"""What is read is what runs: loud where a model looks at more than values, silent elsewhere."""

import random

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import attrax
from attrax._models import _check

X = jnp.array([0.3, -0.5, 0.8])


class Same(nn.Module):
    def __call__(self, x):
        return x


class Identity(nn.Module):
    """Whether a layer hands its argument on as it is changes while the argument is tapped."""

    @nn.compact
    def __call__(self, x):
        h = Same(name="same")(x)
        return 2 * h if h is x else jnp.sin(h)


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Identity(name="inner")(nn.Dense(3, name="dense")(x))


class Harmless(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = Same(name="same")(x)
        return h + h if h is x else 2 * h


class Base(nnx.Module):
    def skip(self, x):
        return x

    def __call__(self, x):
        return 2 * x if type(self).skip is ORIGINAL else jnp.sin(x)


ORIGINAL = Base.skip


def test_a_model_that_looks_at_more_than_values_is_refused_by_name():
    model = attrax.from_linen(Outer(), Outer().init(jax.random.key(0), X))
    message = r"something else while attrax reads it: .* at `sin` in the layer 'inner'"
    for read in (attrax.check, attrax.layers):
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                read(model, X)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda model, x: attrax.capture(model, x, at="dense"))(model, X)
    with pytest.raises(ValueError, match=message):
        attrax.layers(model, jax.ShapeDtypeStruct((3,), jnp.float32))
    with pytest.raises(ValueError, match="in the model itself"):
        attrax.capture(attrax.from_nnx(Base()), X, at=":sin#0")


def test_a_model_that_is_another_at_every_call_is_refused():
    numbers = random.Random(0)
    with pytest.raises(ValueError, match="or it is not the same at every call"):
        attrax.check(lambda x: numbers.random() * x, X)


def test_outputs_of_another_structure_are_refused():
    class Structure(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = Same(name="same")(x)
            return (h,) if h is x else [h]

    with pytest.raises(ValueError, match="at `output` in the model itself"):
        attrax.check(attrax.from_linen(Structure(), {}), X)


def test_another_program_of_the_same_values_passes():
    attrax.check(attrax.from_linen(Harmless(), {}), X)
    assert attrax.layers(attrax.from_linen(Harmless(), {}), X)[0].name == "same"


def scanned(x):
    def step(carry, x):
        return attrax.tap("carry", jnp.sin(carry * x)), jax.nn.relu(carry)

    carry, ys = jax.lax.scan(step, x[0], x)
    chosen = jax.lax.cond(carry > 0, lambda y: attrax.tap("yes", 2 * y), lambda y: -y, ys)
    return jax.jit(jax.checkpoint(lambda y: y * carry))(chosen), jax.nn.softmax(x @ jnp.eye(3))


def mapped(x):
    return jax.vmap(lambda row: jnp.where(attrax.tap("row", row) > 0, row, 0.1))(x)


@pytest.mark.parametrize("model", [scanned, mapped, jax.nn.gelu, jax.grad(lambda x: x @ x)])
def test_both_programs_are_the_same_without_a_computation(model, monkeypatch):
    monkeypatch.setattr(_check, "_agree", None)
    attrax.check(model, X)


def test_modules_are_compared_without_a_computation(monkeypatch):
    monkeypatch.setattr(_check, "_agree", None)

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.MultiHeadDotProductAttention(1)(x, x)
            x = nn.RNN(nn.GRUCell(3))(nn.LayerNorm()(x))
            return nn.remat(nn.Dense)(2)(nn.jit(nn.Dense)(2)(x))

    x = jnp.ones((2, 4, 3))
    attrax.check(attrax.from_linen(Linen(), Linen().init(jax.random.key(0), x)), x)
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.relu, nnx.LayerNorm(3, rngs=rngs))
    attrax.check(net, x)
    attrax.check(lambda x: net(x), x)


def test_what_failed_fails_again_and_another_closure_is_compared_too():
    def applied(module, variables):
        return lambda x: module.apply(variables, x) * 1.5

    for module in (Dense(), Outer()):
        read = applied(module, module.init(jax.random.key(0), X))
        for _ in range(2):
            if isinstance(module, Dense):
                attrax.layers(read, X)
            else:
                with pytest.raises(ValueError, match="something else while attrax reads it"):
                    attrax.layers(read, X)


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)
