"""Reading a model does not change it: containers, orders of keys, identity, users' objects."""

import collections
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax.core import freeze

import attrax
from attrax._models._containers import Journal, in_order, key_orders, replaced
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])


def joined(values):
    return jnp.concatenate(list(values))


def agrees(model, *inputs, at):
    """What is read computes what the model computes."""
    wanted = attrax.as_model(model)(*inputs)
    for name in at:
        z, tail = attrax.cut(model, *inputs, at=name)
        close(tail(z), wanted)
        same = attrax.intervene(model, *inputs, at={name: lambda z: z})
        close(same, wanted)
        for found in (tail(z), same):
            if isinstance(wanted, dict):
                assert list(found) == list(wanted)


class Heads(nn.Module):
    wrap: object = dict

    @nn.compact
    def __call__(self, x):
        return self.wrap({"wide": nn.Dense(3, name="w")(x), "deep": nn.Dense(2, name="d")(x)})


class Join(nn.Module):
    @nn.compact
    def __call__(self, heads):
        return nn.Dense(2, name="out")(joined(heads.values()))


class Order(nn.Module):
    wrap: object = dict

    @nn.compact
    def __call__(self, x):
        heads = Heads(self.wrap, name="heads")(x)
        return Join(name="join")(heads), joined(heads.values())


def default(values):
    return collections.defaultdict(list, values)


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, freeze, default])
def test_dicts_between_modules_keep_the_order_of_their_keys(wrap):
    module = Order(wrap)
    variables = module.init(jax.random.key(0), X)
    close(attrax.from_linen(module, variables)(X), module.apply(variables, X))
    agrees(attrax.from_linen(module, variables), X, at=["heads/d", "join/out"])


def test_inputs_outputs_and_weights_keep_the_order_of_their_keys():
    def model(weights, inputs):
        x = attrax.tap("x", joined(inputs.values()))
        return {"second": x * joined(weights.values()), "first": attrax.tap("two", 2 * x)}

    inputs = {"b": X, "a": 2 * X}
    partial = jax.tree_util.Partial(model, {"z": X, "y": 1 + X})
    agrees(partial, inputs, at=["x"])
    other = {"a": 2 * X, "b": X}
    close(attrax.capture(partial, inputs, at="x"), joined([X, 2 * X]))
    close(attrax.capture(partial, other, at="x"), joined([2 * X, X]))
    nested = (freeze({"b": 1, "a": {"d": 2, "c": 3}}), [collections.OrderedDict(b=1, a=2)])
    again = in_order(jax.tree.map(lambda leaf: leaf, nested), key_orders(nested))
    assert repr(again) == repr(nested)


def test_writes_into_arguments_are_kept():
    class Stage(nn.Module):
        @nn.compact
        def __call__(self, x, seen, order):
            x = nn.relu(nn.Dense(3)(x))
            seen[self.name] = x
            order.insert(0, seen["x"] + x)
            return x

    class Backbone(nn.Module):
        @nn.compact
        def __call__(self, x):
            seen, order = {"x": x}, [x]
            for k in range(2):
                x = Stage(name=f"stage{k}")(x, seen, order)
            assert seen["x"] is order[-1]
            return {"features": seen, "order": order}

    model = attrax.from_linen(Backbone(), Backbone().init(jax.random.key(0), X))
    agrees(model, X, at=["stage0", "stage1/Dense_0", "stage0/relu#0"])
    assert list(attrax.cut(model, X, at="stage0")[1](model(X)["features"]["stage0"])) == [
        "features", "order",
    ]  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    x: jax.Array
    total: jax.Array


def test_writes_into_registered_objects_are_kept():
    class Add(nnx.Module):
        def __call__(self, state):
            state.total = state.total + state.x

    class Model(nnx.Module):
        def __init__(self):
            self.add = Add()

        def __call__(self, x):
            state = State(x, x)
            self.add(state)
            self.add(state)
            return attrax.tap("total", state.total)

    close(attrax.capture(attrax.from_nnx(Model()), X, at="total"), 3 * X)


def test_one_array_given_twice_is_one_array():
    class Attend(nn.Module):
        @nn.compact
        def __call__(self, q, k, options):
            same = q is k and options["v"] is q
            return nn.Dense(2)(q) if same else nn.Dense(3)(q + k)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Attend(name="attend")(x, x, {"v": x})

    model = attrax.from_linen(Model(), Model().init(jax.random.key(0), X))
    agrees(model, X, at=["attend", "attend:in"])
    close(attrax.capture(model, X, at="attend:in"), X)


def test_what_users_hold_is_left_as_it_was():
    table = {"b": X, "a": [2 * X]}

    class Lookup(nn.Module):
        def __call__(self, x):
            return table

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            found = Lookup(name="lookup")(x)
            return found["b"] + found["a"][0] * x

    model = attrax.from_linen(Model(), {})
    before = [table["b"], table["a"], table["a"][0]]
    close(attrax.capture(model, X, at="lookup"), table)
    assert all(a is b for a, b in zip(before, [table["b"], table["a"], table["a"][0]], strict=True))


def test_a_tap_by_hand_leaves_its_argument():
    def model(x):
        values = {"b": x, "a": 2 * x}
        tapped = attrax.tap("values", values)
        assert values["b"] is x and list(tapped) == ["b", "a"]
        return joined(tapped.values()) + joined(values.values())

    z, tail = attrax.cut(model, X, at="values")
    close(tail(z), model(X))
    close(tail(jax.tree.map(jnp.zeros_like, z)), model(X) / 2)


class Base(nnx.Module):
    def skip(self, x):
        return x

    def __call__(self, x):
        return 2 * self.skip(x) if type(self).skip is not Base.skip else self.skip(x)


class Plain(Base):
    pass


class Skips(Base):
    def skip(self, x):
        return 3 * super().skip(x)


def test_inherited_methods_of_nnx_stay_inherited():
    net = nnx.Sequential(Plain(), Skips(), nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    close(attrax.from_nnx(net)(X), net(X))
    agrees(attrax.from_nnx(net), X, at=["layers/0", "layers/1.skip", "layers/2"])
    assert "skip" not in vars(Plain) and Plain.skip is Base.skip


class Callable:
    def __call__(self, x):
        return jnp.tanh(x)


class Functions(nnx.Module):
    partial = functools.partial(jnp.multiply, 2.0)
    instance = Callable()
    static = staticmethod(jnp.sin)
    custom = jax.nn.relu
    builtin = abs
    cell = nnx.Linear

    def __init__(self, rngs):
        self.inner = type(self).cell(3, 3, rngs=rngs)
        self.act = Callable()

    @classmethod
    def scaled(cls, x):
        return cls.partial(x)

    def __call__(self, x):
        x = self.static(self.instance(self.partial(self.inner(x))))
        return self.act(self.builtin(self.custom(self.scaled(x))))


def test_class_attributes_of_nnx_that_are_functions():
    net = Functions(nnx.Rngs(0))
    agrees(attrax.from_nnx(net), X, at=["inner", "relu#0"])


def test_the_journal_leaves_what_was_written_since():
    held = {"a": 1, "b": [2, 3]}
    journal = Journal()
    replaced(held, lambda leaf: str(leaf), lambda leaf: False, journal)
    assert held == {"a": "1", "b": ["2", "3"]}
    held["a"] = "new"
    held["b"].insert(0, "0")
    journal.undo()
    assert held == {"a": "new", "b": ["0", 2, 3]}


class Output:
    """Looks at its fields, as the outputs of other libraries do."""

    def __init__(self, last, hidden=None):
        if not hasattr(last, "shape"):
            raise ValueError(f"the first field must be an array; got {last!r}.")
        self.last, self.hidden = last, hidden


jax.tree_util.register_pytree_node(
    Output, lambda o: ((o.last, o.hidden), None), lambda _, children: Output(*children)
)


def test_outputs_and_arguments_whose_class_looks_at_its_fields():
    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(3)(x)
            return Output(h, (x, h))

    class Pool(nn.Module):
        def __call__(self, output):
            return Output(output.last + output.hidden[0])

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Pool(name="pool")(Encoder(name="encoder")(x))

    model = attrax.from_linen(Model(), Model().init(jax.random.key(0), X))
    assert [layer.name for layer in attrax.layers(model, X)] == [
        "encoder/Dense_0",
        "encoder",
        "pool",
    ]
    for name in ("encoder/Dense_0", "encoder", "pool", "pool:in"):
        z, tail = attrax.cut(model, X, at=name)
        close(tail(z).last, model(X).last)
        close(attrax.intervene(model, X, at={name: lambda z: z}).last, model(X).last)
        attrax.gradients_at(model, X, score=lambda y: y.last.sum(), at=name)
    assert isinstance(attrax.capture(model, X, at="encoder"), Output)


def test_arguments_of_apply_keep_the_order_of_their_keys():
    class Joined(nn.Module):
        def __call__(self, x, feats):
            return jnp.concatenate([x, *feats.values()])

    feats = {"wide": jnp.array([1.0]), "deep": jnp.array([2.0])}
    model = attrax.from_linen(Joined(), {}, feats=feats)
    close(model(X[:1]), Joined().apply({}, X[:1], feats=feats))
