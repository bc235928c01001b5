"""Adapters of other libraries; those that are not installed are left out, and say so."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])


def agrees(model, x, names):
    wanted = model(x)
    assert [layer.name for layer in attrax.layers(model, x) if "#" not in layer.name] == names
    for name in names:
        z, tail = attrax.cut(model, x, at=name)
        close(tail(z), wanted)
    attrax.check(model, x)
    close(jax.jit(lambda model, x: model(x))(model, x), wanted)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    w: jax.Array
    b: jax.Array

    def __call__(self, x):
        return self.w @ x + self.b


class Doubled(Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


jax.tree_util.register_dataclass(Doubled, ["w", "b"], [])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    layers: list
    heads: dict
    act: object = dataclasses.field(metadata={"static": True}, default=jax.nn.relu)

    def __call__(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.heads["out"](x)


def network():
    w = jax.random.normal(jax.random.key(0), (3, 3))
    return Network([Linear(w, X), Doubled(-w, X)], {"out": Linear(w[:2], X[:2])})


def test_a_pytree_of_modules():
    net = network()
    model = attrax.from_equinox(net)
    close(model(X), net(X))
    agrees(model, X, ["layers/0", "layers/1", "heads/out"])
    assert Linear.__call__.__qualname__ == "Linear.__call__"
    assert not hasattr(Linear.__call__, "__wrapped__")
    assert len(jax.tree.leaves(model)) == 6
    with pytest.raises(TypeError, match="`module` must be callable; got list"):
        attrax.from_equinox([net])


def test_equinox():
    eqx = pytest.importorskip("equinox", reason="not among the packages of the tests")
    net = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    close(attrax.from_equinox(net)(X), net(X))
    agrees(attrax.from_equinox(net), X, ["layers/0", "layers/1", "layers/2"])


NAMES = ("mlp/linear_0", "mlp/linear_1", "mlp", "linear")


def test_haiku():
    hk = pytest.importorskip("haiku", reason="not among the packages of the tests")

    def forward(x):
        return hk.Linear(2)(hk.nets.MLP([4, 3])(x))

    transformed = hk.without_apply_rng(hk.transform(forward))
    with_rng, stateful = hk.transform(forward), hk.transform_with_state(forward)
    params = transformed.init(jax.random.key(0), X)
    model = attrax.from_haiku(with_rng, params)
    close(model(X), transformed.apply(params, X))
    agrees(model, X, list(NAMES))
    names = attrax.layers(lambda x: transformed.apply(params, x), X)
    assert names == attrax.layers(model, X)
    params, state = stateful.init(jax.random.key(0), X)
    agrees(attrax.from_haiku(stateful, params, state), X, list(NAMES))


def test_keras():
    keras = pytest.importorskip("keras", reason="not among the packages of the tests")
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.layers.Dense(4, name="a"), keras.layers.ReLU(name="b")], name="inner"
    )
    net = keras.Sequential(
        [
            inner,
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="drop"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    net.build((None, 3))
    model = attrax.from_keras(net)
    with jax.numpy_rank_promotion("allow"):
        close(model(X[None]), net(X[None], training=False))
        agrees(model, X[None], ["inner/a", "inner/b", "inner", "norm", "drop", "out"])
        assert attrax.capture(attrax.unbatched(model), X, at="inner").shape == (4,)
    with pytest.raises(TypeError, match="must be a Keras model; got list"):
        attrax.from_keras([])


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras", None)
    with pytest.raises(ImportError, match="pip install keras"):
        attrax.from_keras(network())
