"""Modules are named wherever they are called: in plain functions, in one another, in objects."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import attrax
from comparisons import close

X = jnp.array([[0.3, -0.5, 0.8]])


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.relu(nn.Dense(3, name="ff")(nn.LayerNorm(name="norm")(x)))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for k in range(2):
            x = Block(name=f"block{k}")(x)
        return nn.Dense(2, name="head")(x)


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.ff = nnx.LayerNorm(3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.ff(self.norm(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


MODULE = NnxNet(nnx.Rngs(0))


class Agent:
    def __init__(self, net):
        self.net = net

    def act(self, x):
        return self.net(x)


@pytest.fixture(scope="module")
def variables():
    return Net().init(jax.random.key(0), X)


def names(model, x=X):
    return [layer.name for layer in attrax.layers(model, x)]


def agrees(model, at, x=X):
    for name in at:
        z, tail = attrax.cut(model, x, at=name)
        close(tail(z), attrax.as_model(model)(x))


def test_linen_in_a_plain_function(variables):
    wanted = names(attrax.from_linen(Net(), variables))
    state = TrainState.create(apply_fn=Net().apply, params=variables, tx=optax.sgd(0.1))
    bound = Net().bind(variables)
    functions = [
        lambda x: Net().apply(variables, x),
        lambda x: state.apply_fn(state.params, x),
        jax.jit(lambda x: state.apply_fn(state.params, x)),
        jax.tree_util.Partial(state.apply_fn, state.params),
        functools.partial(Net().apply, variables),
        lambda x: bound(x),
        Agent(bound).act,
        lambda x: attrax.from_linen(Net(), variables)(x),
    ]
    for function in functions:
        assert names(function) == wanted
        agrees(function, ["block1/ff"])


def test_nnx_in_a_plain_function():
    wanted = names(attrax.from_nnx(MODULE))
    graph, state = nnx.split(MODULE)
    functions = [
        lambda x: MODULE(x),
        nnx.jit(lambda x: MODULE(x)),
        Agent(MODULE).act,
        lambda x: nnx.merge(graph, state)(x),
        jax.tree_util.Partial(lambda state, x: nnx.merge(graph, state)(x), state),
        functools.partial(lambda net, x: net(x), MODULE),
    ]
    for function in functions:
        assert names(function) == wanted
        agrees(function, ["blocks/1/ff"])
    assert not any(hasattr(module, "_attrax_path") for _, module in nnx.iter_modules(MODULE))
    assert attrax.layers(MODULE.blocks[0], X)[0].name == "norm"


def test_two_networks_in_one_function(variables):
    def both(x):
        return Net().apply(variables, x) + Net().apply(variables, 2 * x) + MODULE(x)

    found = names(both)
    assert [n for n in found if n.startswith(("head", "block1/ff"))] == [
        "block1/ff#0", "head#0", "block1/ff#1", "head#1", "head#2",
    ]  # fmt: skip
    agrees(both, ["block1/ff#1", "head#2", "blocks/0/ff"])


def test_nnx_in_linen_and_linen_in_nnx(variables):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="out")(nnx.bridge.ToLinen(NnxBlock, name="inner")(x))

    model = attrax.from_linen(Outer(), Outer().init(jax.random.key(0), X))
    initial = "inner/clip#0"  # Flax draws initial weights to build the NNX module
    assert names(model) == [initial, "inner/norm", "inner/ff", "inner/relu#0", "inner", "out"]
    agrees(model, ["inner/ff", "inner"])

    class NnxOuter(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.bridge.ToNNX(Net(), rngs=rngs).lazy_init(X)
            self.head = nnx.Linear(2, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(self.inner(x))

    model = attrax.from_nnx(NnxOuter(nnx.Rngs(0)))
    assert names(model)[:2] == ["inner/block0/norm", "inner/block0/ff"]
    assert names(model)[-2:] == ["inner", "head"]
    agrees(model, ["inner/block1/ff", "inner"])


def test_unbound_modules_and_apply_inside_of_a_module(variables):
    class Helper(nn.Module):
        def scale(self, x):
            return 2 * x

    class Outer(nn.Module):
        frozen: object

        @nn.compact
        def __call__(self, x):
            x = Helper(parent=None).scale(x)
            return nn.Dense(2, name="out")(Inner(self.frozen, name="inner")(x))

    class Inner(nn.Module):
        frozen: object

        @nn.compact
        def __call__(self, x):
            return self.frozen(x)

    frozen = functools.partial(Net().apply, variables)
    module = Outer(frozen)
    model = attrax.from_linen(module, module.init(jax.random.key(0), X))
    assert names(model)[0] == "inner/block0/norm" and names(model)[-1] == "out"
    agrees(model, ["inner/block1/ff", "inner"])


def test_readings_leave_the_modules_of_users_alone():
    with pytest.raises(ZeroDivisionError):
        attrax.layers(lambda x: MODULE(x) * (1 // 0), X)
    assert not any("_attrax_path" in vars(module) for _, module in nnx.iter_modules(MODULE))
    assert NnxBlock.__call__.__qualname__ == "NnxBlock.__call__"
    assert not hasattr(NnxBlock.__call__, "__wrapped__")
