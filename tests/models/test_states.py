"""Models that write to their variables: what is dropped, what is refused, what may be discarded."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import attrax
from comparisons import close

X = jnp.array([[0.3, -0.5, 0.8], [0.1, 0.2, -0.4]])


class Counter(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.calls = nnx.Linear(3, 3, rngs=rngs), nnx.Variable(jnp.zeros((), int))

    def __call__(self, x):
        self.calls[...] += 1
        return self.linear(x)


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.drop = nnx.Linear(3, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.again = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.again(self.drop(self.linear(x)) + 1)


class Cached(nnx.Module):
    def __init__(self, rngs):
        self.attend = nnx.MultiHeadAttention(1, 3, decode=True, rngs=rngs)
        self.attend.init_cache((1, 4, 3))

    def __call__(self, x):
        return self.attend(x)


class WeightNormed(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.WeightNorm(nnx.Linear(3, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.inner(x)


class SpectralNormed(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.SpectralNorm(nnx.Linear(3, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.inner(x, update_stats=True)


def recurrent(rngs):
    return nnx.RNN(nnx.GRUCell(3, 3, rngs=rngs))


def bidirectional(rngs):
    forward, backward = (nnx.RNN(nnx.SimpleCell(3, 3, rngs=rngs)) for _ in range(2))
    return nnx.Bidirectional(forward, backward)


def agrees(model, x, at):
    wanted = attrax.as_model(model)(x)
    z, tail = attrax.cut(model, x, at=at)
    close(tail(z), wanted)
    return wanted


@pytest.mark.parametrize(
    ("make", "x", "at"),
    [
        (Counter, X, "linear"),
        (WeightNormed, X, "inner"),
        (SpectralNormed, X, "inner"),
        (recurrent, X[None], "cell[1]"),
        (bidirectional, X[None], "forward_rnn"),
    ],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_changes_that_do_not_depend_on_the_input_are_dropped(make, x, at, mode):
    net = make(nnx.Rngs(0))
    getattr(net, mode)()
    model = attrax.from_nnx(net)
    before = jax.tree.leaves(nnx.state(net, nnx.Param))
    found = agrees(model, x, at)
    close(jax.tree.leaves(nnx.state(net, nnx.Param)), before)
    close(found, model(x))
    close(found, net(x))


def test_monte_carlo_dropout():
    net = Noisy(nnx.Rngs(params=0, dropout=1))
    model = attrax.from_nnx(net)
    first = agrees(model, X, "linear")
    close(model(X), first)
    close(attrax.from_nnx(net)(X), net(X))
    close(model(X), first)
    assert not np.allclose(attrax.from_nnx(net)(X), first)

    def sample(key):
        return attrax.from_nnx(net, rngs={"dropout": key})(X)

    keys = jax.random.split(jax.random.key(0), 400)
    samples = jax.jit(jax.vmap(sample))(keys)
    close(samples[0], sample(keys[0]))
    assert len({str(s) for s in np.asarray(samples).round(3)}) > 10
    dropped = np.asarray(samples == 0).mean(0)
    assert np.abs(dropped - 0.5).max() < 0.15
    close(attrax.from_nnx(net, rngs=nnx.Rngs(3))(X), attrax.from_nnx(net, rngs=nnx.Rngs(3))(X))
    close(
        attrax.from_nnx(net, rngs={"default": 3})(X), attrax.from_nnx(net, rngs={"dropout": 3})(X)
    )
    unnamed = attrax.from_nnx(Noisy(nnx.Rngs(0)), rngs={"dropout": 3})
    close(unnamed(X), attrax.from_nnx(Noisy(nnx.Rngs(0)), rngs={"default": 3})(X))
    with pytest.raises(ValueError, match=r"names the stream 'noise'; .* streams \['dropout'\]"):
        attrax.from_nnx(net, rngs={"noise": 0})


def test_a_cache_is_refused_and_may_be_discarded():
    net = Cached(nnx.Rngs(0))
    x = X[:1, None]
    with pytest.raises(ValueError, match=r"cached_key, attend.cached_value.*updates='discard'"):
        attrax.from_nnx(net)(x)
    model = attrax.from_nnx(net, updates="discard")
    first = agrees(model, x, "attend/query")
    close(model(x), first)
    close(net(x), first)
    later = attrax.from_nnx(net, updates="discard")
    assert not np.allclose(later(2 * x), model(2 * x))


def test_batch_statistics_may_be_discarded():
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    model = attrax.from_nnx(norm, updates="discard")
    assert jnp.abs(model(X).mean(0)).max() < 1e-5
    with pytest.raises(ValueError, match="`updates` must be 'refuse' or 'discard'; got 'keep'"):
        attrax.from_nnx(norm, updates="keep")

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            calls = self.variable("counts", "calls", lambda: jnp.zeros((), int))
            calls.value += 1
            return nn.BatchNorm(use_running_average=False, name="norm")(nn.Dense(3, name="d")(x))

    variables = Linen().init(jax.random.key(0), X)
    model = attrax.from_linen(Linen(), variables, updates="discard")
    wanted, _ = Linen().apply(variables, X, mutable=["counts", "batch_stats"])
    close(agrees(model, X, "d"), wanted)
    with pytest.raises(ValueError, match="`updates` must be 'refuse' or 'discard'"):
        attrax.from_linen(Linen(), variables, updates="yes")


def test_a_model_is_a_value():
    net = nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), nnx.relu)
    before = attrax.from_nnx(net)
    wanted, captured = before(X), attrax.capture(before, X, at="layers/0")
    optimizer = nnx.Optimizer(net, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        optimizer.update(net, nnx.grad(lambda net: jnp.sum(net(X) ** 2))(net))

    for _ in range(3):
        step(net, optimizer)
    close(before(X), wanted)
    close(attrax.capture(before, X, at="layers/0"), captured)
    assert not np.allclose(attrax.capture(net, X, at="layers/0"), captured)
    close(attrax.capture(net, X, at="layers/0"), net.layers[0](X))

    module = nn.Dense(3)
    variables = jax.tree.map(np.array, module.init(jax.random.key(0), X))
    model = attrax.from_linen(module, variables)
    wanted = model(X)
    variables["params"]["kernel"] *= 2
    variables["params"]["bias"] = variables["params"]["bias"] + 1
    close(model(X), wanted)

    weights = {"w": np.ones(3, np.float32)}
    partial = jax.tree_util.Partial(lambda weights, x: weights["w"] * x, weights)
    model = attrax.as_model(partial)
    weights["w"] *= 2
    close(model(X[0]), X[0])
    close(attrax.as_model(partial)(X[0]), 2 * X[0])
