"""NNX models: nothing in attrax depends on the module system."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8, 0.1])


class Block(nnx.Module):
    def __init__(self, rngs, features=4):
        self.norm = nnx.LayerNorm(features, rngs=rngs)
        self.ff = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.mix(self.norm(x)))

    def mix(self, x):
        return self.ff(x)


class Unrolled(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs) for _ in range(3)])
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = self.call(block, x)
        return self.head(x)

    def call(self, block, x):
        return block(x)


class Remat(Unrolled):
    def call(self, block, x):
        return nnx.remat(lambda block, x: block(x))(block, x)


class Jitted(Unrolled):
    def call(self, block, x):
        return nnx.jit(lambda block, x: block(x))(block, x)


class Scanned(nnx.Module):
    def __init__(self, rngs):
        make = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: Block(rngs)))
        self.layers = make(rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def scan(layer, x):
            return nnx.remat(lambda layer, x: layer(x))(layer, x)

        return self.head(scan(self.layers, x))

    def unrolled(self, x):
        graph, state = nnx.split(self.layers)
        for k in range(3):
            layer = nnx.merge(graph, jax.tree.map(lambda leaf, k=k: leaf[k], state))
            x = attrax.tap(f"out{k}", layer(x))
        return self.head(x)


def score(y):
    return jnp.sum(jnp.sin(y))


def test_names_captures_and_cuts():
    module = Unrolled(nnx.Rngs(0))
    model = attrax.from_nnx(module)
    names = [layer.name for layer in attrax.layers(model, X)]
    assert names[:5] == [f"blocks/0{s}" for s in ("/norm", "/ff", ".mix", "/relu#0", "")]
    assert ".call#0" in names
    assert names[-1] == "head"
    close(attrax.capture(model, X, at="blocks/0/norm"), module.blocks[0].norm(X))
    z, tail = attrax.cut(model, X, at="blocks/1.mix")
    close(tail(z), module(X))
    close(attrax.capture(model, X, at="blocks/1:in"), module.blocks[0](X))


@pytest.mark.parametrize("kind", [Remat, Jitted])
def test_lifted_modules_keep_their_paths(kind):
    plain, lifted = (attrax.from_nnx(cls(nnx.Rngs(0))) for cls in (Unrolled, kind))
    at = [f"blocks/{k}/ff" for k in range(3)]
    close(attrax.capture(lifted, X, at=at), attrax.capture(plain, X, at=at))
    close(
        attrax.gradients_at(lifted, X, score=score, at=at),
        attrax.gradients_at(plain, X, score=score, at=at),
    )


def test_scanned_layers_equal_the_unrolled_model():
    module = Scanned(nnx.Rngs(1))
    model = attrax.from_nnx(module)
    unrolled = module.unrolled
    wanted = attrax.gradients_at(unrolled, X, score=score, at=["out0", "out1", "out2"])
    stacked = attrax.gradients_at(model, X, score=score, at="layers")
    for k in range(3):
        z, tail = attrax.cut(model, X, at=f"layers[{k}]")
        close(z, attrax.capture(unrolled, X, at=f"out{k}"))
        close(tail(z), module(X))
        close(jax.grad(lambda z, tail=tail: score(tail(z)))(z), wanted[f"out{k}"])
        close(stacked[k], wanted[f"out{k}"])
        z, tail = attrax.cut(model, X, at=f"layers[{k}]/ff")
        close(tail(z), module(X))


def test_bound_methods_are_models():
    module = Block(nnx.Rngs(0))
    model = attrax.as_model(module.mix)
    close(model(X), module.ff(X))
    close(attrax.capture(model, X, at="ff"), module.ff(X))
    assert len(jax.tree.leaves(model)) == 4


def test_the_users_module_is_left_as_it_was():
    module = Unrolled(nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(module))
    call = Block.__call__
    attrax.layers(attrax.from_nnx(module), X)
    assert Block.__call__ is call
    assert "mix" in vars(Block) and "__call__" not in vars(Remat)
    assert not hasattr(module.head, "_attrax_path")
    close(nnx.to_pure_dict(nnx.state(module)), before)


def test_other_threads_see_no_taps():
    module = Block(nnx.Rngs(0))
    programs = []

    class Slow(nnx.Module):
        def __init__(self):
            self.block = module

        def __call__(self, x):
            other = threading.Thread(
                target=lambda: programs.append(str(jax.make_jaxpr(lambda x: module(x))(x_outside)))
            )
            other.start()
            other.join()
            return self.block(x)

    x_outside = jnp.ones(4)
    attrax.layers(attrax.from_nnx(Slow()), X)
    assert len(programs) == 2  # the model is traced with taps, and once without
    assert not any("attrax_tap" in program for program in programs)


def test_a_model_in_training_mode_is_refused_by_name():
    class Training(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.norm(x))

    module = Training(nnx.Rngs(0))
    training = attrax.from_nnx(module)
    with pytest.raises(ValueError, match=r"changes the variables norm.mean, norm.var, and how"):
        training(X[None])
    with pytest.raises(ValueError, match="changes the variables"):
        attrax.layers(training, X[None])
    mean = module.norm.mean[...]
    module.eval()
    with pytest.raises(ValueError, match="call `from_nnx` again"):
        training(X[None])
    model = attrax.from_nnx(module)
    close(model(X[None]), X[None] / jnp.sqrt(1 + 1e-5))
    close(module.norm.mean[...], mean)


@pytest.mark.filterwarnings("ignore:.*Module.sow:DeprecationWarning")
def test_sown_values_are_no_change_of_state():
    class Sower(nnx.Module):
        def __call__(self, x):
            self.sow(nnx.Intermediate, "seen", x)
            return 2 * x

    close(attrax.from_nnx(Sower())(X), 2 * X)


def test_a_second_model_of_the_same_kind_finds_the_trace_of_the_first():
    traces = []

    @jax.jit
    def explain(model, x):
        traces.append(1)
        z, tail = attrax.cut(model, x, at="blocks/1/ff")
        return jax.grad(lambda z: score(tail(z)))(z)

    a = explain(attrax.from_nnx(Unrolled(nnx.Rngs(0))), X)
    b = explain(attrax.from_nnx(Unrolled(nnx.Rngs(5))), X)
    assert len(traces) == 1
    assert not np.allclose(a, b)


def test_inherited_methods_and_those_of_the_parent_class_are_tapped_once():
    class Child(Block):
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Heir(Block):
        pass

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b, self.c = Block(rngs), Child(rngs), Heir(rngs)

        def __call__(self, x):
            return self.c(self.b(self.a(x)))

    module = Model(nnx.Rngs(0))
    model = attrax.from_nnx(module)
    names = [layer.name for layer in attrax.layers(model, X)]
    assert [name for name in names if "/" not in name and "." not in name] == ["a", "b", "c"]
    close(attrax.capture(model, X, at="b"), module.b(module.a(X)))


def test_objects_of_nnx_reach_a_method_as_they_are():
    class Write(nnx.Module):
        def __call__(self, cache, x):
            cache[...] = cache[...] + x
            return x

    class Model(nnx.Module):
        def __init__(self):
            self.write = Write()

        def __call__(self, x):
            cache = nnx.Cache(jnp.zeros(4))
            self.write(cache, x)
            self.write(cache, 2 * x)
            return attrax.tap("total", cache[...])

    close(attrax.capture(attrax.from_nnx(Model()), X, at="total"), 3 * X)


def test_training_mode_is_refused_also_where_modules_are_arguments():
    class Caller(nnx.Module):
        def __call__(self, module, x):
            return module(x)

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.caller, self.norm = Caller(), nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.caller(self.norm, x)

    with pytest.raises(ValueError, match=r"changes the variables norm\.mean, norm\.var"):
        attrax.layers(attrax.from_nnx(Model(nnx.Rngs(0))), X[None])


def test_a_function_over_a_module_sees_it_as_it_is_now():
    module = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

    def function(x):
        return attrax.tap("h", module(x))

    before = attrax.capture(function, X, at="h")
    module.kernel[...] = 2 * module.kernel[...]
    close(attrax.capture(function, X, at="h"), 2 * before)
