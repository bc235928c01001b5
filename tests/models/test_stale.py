"""A function that has changed is read anew, and nothing that it held is kept alive."""

import dataclasses
import functools
import gc
import types
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])
WEIGHTS = {"w": jnp.ones(3)}
SCALE = 1.0
MODULE = nnx.Linear(3, 3, rngs=nnx.Rngs(0))


def module():
    return nnx.Linear(3, 3, rngs=nnx.Rngs(0))


def doubled(linear):
    linear.kernel[...] = 2 * linear.kernel[...]


def tapped(value):
    return attrax.tap("h", value).sum()


class Holder:
    def __init__(self):
        self.w = jnp.ones(3)
        self.net = module()

    def __call__(self, x):
        return tapped(self.w * x)

    def through(self, x):
        return tapped(self.net(x))


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: jax.Array = dataclasses.field(compare=False)

    def __call__(self, x):
        return tapped(self.w * x)


class Field(nn.Module):
    inner: Frozen

    def __call__(self, x):
        return self.inner(x)


class Global(nn.Module):
    def __call__(self, x):
        return tapped(SCALE * x * WEIGHTS["w"])


class Attribute(nn.Module):
    options: types.SimpleNamespace

    def __call__(self, x):
        return tapped(self.options.scale * x)


class NnxGlobal(nnx.Module):
    def __call__(self, x):
        return tapped(SCALE * x)


def rebound_global():
    def change():
        WEIGHTS["w"] = 2 * WEIGHTS["w"]

    return lambda x: tapped(WEIGHTS["w"] * x), change


def global_number(model):
    def change():
        global SCALE
        SCALE = 2 * SCALE

    return model, change


def attribute():
    holder = Holder()
    return holder, lambda: setattr(holder, "w", 2 * holder.w)


def method_of_a_holder():
    holder = Holder()
    return holder.through, lambda: doubled(holder.net)


def mutable_default():
    def model(x, w={"w": 1.0}):  # noqa: B006
        return tapped(w["w"] * x)

    return model, lambda: model.__defaults__[0].update(w=jnp.array(2.0))


def new_default():
    def model(x, w=1.0):
        return tapped(w * x)

    return model, lambda: setattr(model, "__defaults__", (2.0,))


def numpy_in_place():
    w = np.ones(3, np.float32)
    return lambda x: tapped(w * x), lambda: w.__imul__(2)


def nested_closure():
    linear = module()

    def inner(x):
        return tapped(linear(x))

    return lambda x: inner(x), lambda: doubled(linear)


def partial():
    linear = module()
    return functools.partial(lambda net, x: tapped(net(x)), linear), lambda: doubled(linear)


def global_module():
    return lambda x: tapped(MODULE(x)), lambda: doubled(MODULE)


def training_step():
    linear = module()
    optimizer = nnx.Optimizer(linear, optax.sgd(1.0), wrt=nnx.Param)

    @nnx.jit
    def step(linear, optimizer):
        optimizer.update(linear, nnx.grad(lambda linear: jnp.sum(linear(X)))(linear))

    return lambda x: tapped(linear(x)), lambda: step(linear, optimizer)


def field_of_a_module():
    options = types.SimpleNamespace(scale=1.0)
    model = attrax.from_linen(Attribute(options), {})
    return model, lambda: setattr(options, "scale", 2.0)


CASES = {
    "global": rebound_global,
    "attribute": attribute,
    "method of a holder": method_of_a_holder,
    "mutable default": mutable_default,
    "new default": new_default,
    "numpy in place": numpy_in_place,
    "nested closure": nested_closure,
    "partial": partial,
    "global module": global_module,
    "training step": training_step,
    "field of a module": field_of_a_module,
    "global of a function": lambda: global_number(lambda x: tapped(SCALE * x)),
    "global of a Linen module": lambda: global_number(attrax.from_linen(Global(), {})),
    "global of an NNX module": lambda: global_number(attrax.from_nnx(NnxGlobal())),
    "global under unbatched": lambda: global_number(
        attrax.unbatched(lambda x: attrax.tap("h", SCALE * x).sum(1))
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_changed_function_is_read_anew(case):
    model, change = case()
    call = attrax.as_model(model)
    before = call(X)
    for _ in range(2):
        close(attrax.capture(model, X, at="h").sum(), before)
    change()
    after = attrax.as_model(model)(X)
    assert abs(after - before) > 1e-3
    z, tail = attrax.cut(model, X, at="h")
    close(z.sum(), after)
    close(tail(z), after)
    close(attrax.capture(model, X, at="h").sum(), after)
    close(attrax.intervene(model, X, at={"h": lambda h: 2 * h}), 2 * after)
    close(attrax.gradients_at(model, X, score=lambda y: y**2 / 2, at="h")[0], after)


def test_objects_that_compare_equal_are_not_the_same_function():
    one, two = Frozen(jnp.ones(3)), Frozen(2 * jnp.ones(3))
    assert one == two
    for wrap in (lambda inner: inner, lambda inner: attrax.from_linen(Field(inner), {})):
        found = [attrax.capture(wrap(inner), X, at="h") for inner in (one, two)]
        close(found, [X, 2 * X])
        jitted = jax.jit(lambda model: attrax.capture(model, X, at="h"))
        close([jitted(attrax.as_model(wrap(inner))) for inner in (one, two)], [X, 2 * X])


def test_numbers_of_another_type_or_sign_are_other_fields():
    class Scaled(nn.Module):
        by: object

        def __call__(self, x):
            return attrax.tap("h", jnp.full(2, self.by))

    found = [
        attrax.capture(attrax.from_linen(Scaled(by), {}), X, at="h") for by in (0.0, -0.0, 0, False)
    ]
    assert [str(f.dtype) for f in found] == ["float32", "float32", "int32", "bool"]
    assert np.signbit(found[1]).all() and not np.signbit(found[0]).any()


def test_arrays_closed_over_are_not_kept_alive():
    def explain():
        w = jax.random.normal(jax.random.key(0), (3, 3))

        def model(x):
            return attrax.tap("h", jax.nn.relu(w @ x)).sum()

        z, tail = attrax.cut(model, X, at="h")
        tail(z)
        attrax.cut(tail, z, at=":reduce_sum#0")
        attrax.capture(model, X, at="h")
        attrax.capture(attrax.from_linen(Field(Frozen(w[0])), {}), X, at="h")
        attrax.intervene(model, X, at={"h": 2 * z})
        return weakref.ref(w)

    found = [explain() for _ in range(3)]
    gc.collect()
    assert [ref() for ref in found] == [None, None, None]


def test_a_variable_that_is_assigned_later():
    def model(x):
        return attrax.tap("h", weights * x).sum()

    read = attrax.as_model(model)
    weights = jnp.ones(3)
    close(attrax.capture(read, X, at="h"), X)
    weights = 2 * weights
    close(attrax.capture(read, X, at="h"), 2 * X)


def test_usual_modules_are_read_once():
    class Usual(nn.Module):
        act: object = nn.relu

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4, kernel_init=nn.initializers.he_normal(), dtype=jnp.float32)(x)
            return nn.LayerNorm()(self.act(x))

    def program(model, x):
        return attrax.cut(model, x, at=first)[1].program

    x = jnp.ones((2, 3))
    variables = Usual().init(jax.random.key(0), x)
    first = "Dense_0"
    again = jax.tree.map(lambda leaf: 2 * leaf, variables)
    one = program(attrax.from_linen(Usual(), variables), x)
    assert program(attrax.from_linen(Usual(), again), 2 * x) is one
    assert program(attrax.from_linen(Usual(nn.gelu), variables), x) is not one
    first = "layers/0"
    sequences = [
        nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(k)), nnx.relu, nnx.Dropout(0.5))
        for k in range(2)
    ]
    for net in sequences:
        net.eval()
    one, two = (program(attrax.from_nnx(net), x) for net in sequences)
    assert one is two


class Calls(nn.Module):
    """Calls whatever it holds."""

    act: object

    def __call__(self, x):
        return attrax.tap("h", 2 * self.act(x)).sum()


def ruled(slope):
    """The identity with a derivative of its own."""

    @jax.custom_jvp
    def identity(x):
        return x

    identity.defjvp(lambda primals, tangents: (primals[0], slope * tangents[0]))
    return identity


def backward(slope):
    @jax.custom_vjp
    def identity(x):
        return x

    identity.defvjp(lambda x: (x, None), lambda _, g: (slope * g,))
    return identity


class Wrapper:
    def __init__(self, scale):
        self.scale = scale
        functools.update_wrapper(self, jnp.sin)

    def __call__(self, x):
        return self.scale * x


class Slots:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return self.scale * x


class Inherits(Slots):
    """Has a `__dict__`, which does not show the slot."""


def with_attribute(make, scale):
    value = make()
    value.scale = scale
    return value


def function_with_attribute():
    def scaled(x):
        return scaled.scale * x

    return scaled


@dataclasses.dataclass
class Extra:
    """Sets what is no field."""

    def __post_init__(self):
        self.scale = 1.0

    def __call__(self, x):
        return self.scale * x


OUTER = types.ModuleType("outer")
OUTER.inner = types.ModuleType("inner")


class Doubles:
    def __mul__(self, x):
        return SCALE * x


def deep(x):
    return OUTER.inner.scale * x


HIDDEN = {
    "update_wrapper": lambda scale: Wrapper(scale),
    "slots": lambda scale: Slots(scale),
    "a slot in a base": lambda scale: Inherits(scale),
    "a function with attributes": lambda scale: with_attribute(function_with_attribute, scale),
    "no field": lambda scale: with_attribute(Extra, scale),
}


@pytest.mark.parametrize("make", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_differs_out_of_sight_is_another_field(make):
    for scale in (2.0, 5.0):
        model = attrax.from_linen(Calls(make(scale)), {})
        close(attrax.capture(model, X, at="h"), 2 * scale * X)


class Behind(nn.Module):
    act: object

    def __call__(self, x):
        return self.act(attrax.tap("h", x)).sum()


@pytest.mark.parametrize("make", [ruled, backward])
def test_another_derivative_rule_is_another_function(make):
    explain = jax.jit(lambda model, x: attrax.gradient(model, x))
    for slope in (1.0, 10.0):
        model = attrax.from_linen(Behind(make(slope)), {})
        close(attrax.gradients_at(model, X, score=lambda y: y, at="h"), jnp.full(3, slope))
        close(explain(model, X), jnp.full(3, slope))


def test_modules_of_modules_are_looked_into():
    model = attrax.from_linen(Calls(deep), {})
    for scale in (2.0, 5.0):
        OUTER.inner.scale = scale
        close(attrax.capture(model, X, at="h"), 2 * scale * X)


def test_numpy_arrays_that_are_written_to_later():
    buffer, tails = np.zeros(2, np.float32), []
    for fill in ([1.0, 2.0], [3.0, 4.0]):
        buffer[:] = fill
        tails.append(attrax.cut(lambda x: attrax.tap("h", 2 * x) + x, buffer, at="h"))
    (z, tail), _ = tails
    close(z, [2.0, 4.0])
    close(tail(z), [3.0, 6.0])
    weights = np.ones(2, np.float32)
    z, tail = attrax.cut(lambda x: attrax.tap("h", x) * weights, jnp.ones(2), at="h")
    weights[:] = 10
    close(tail(z), [1.0, 1.0])
