"""Models as pytrees, and models with a batch axis of their own seen as functions of one example."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])


def test_a_callable_pytree_has_its_arrays_as_weights():
    partial = jax.tree_util.Partial(lambda w, x: attrax.tap("h", w * x).sum(), X)
    model = attrax.as_model(partial)
    assert attrax.as_model(model) is model
    close(jax.tree.leaves(model), [X])
    close(model(X), jnp.sum(X**2))
    close(attrax.capture(partial, X + 1, at="h"), X * (X + 1))


def test_equal_functions_give_equal_programs():
    class Holder:
        def method(self, x):
            return 2 * x

    holder = Holder()
    a, b = attrax.as_model(holder.method), attrax.as_model(holder.method)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    partial = functools.partial(jnp.multiply, 3.0)
    close(attrax.as_model(partial)(X), 3 * X)


def batched(xs, scale=1.0):
    """Batch axis in front, then in the middle; a table without one; a reduction over features."""
    h = attrax.tap("rows", jnp.sin(xs))
    t = attrax.tap("columns", h.T * scale)
    p = attrax.tap("table", jnp.arange(3.0))
    y = jax.nn.relu(t.T + p[None])
    return {"sum": y.sum(axis=1), "time_major": jnp.stack([t, 2 * t])}


def test_unbatched_is_the_batched_model_one_example_at_a_time():
    model = attrax.unbatched(batched)
    xs = jnp.stack([X, 2 * X, -X])
    ys = batched(xs)
    for i, x in enumerate(xs):
        y = model(x)
        close(y["sum"], ys["sum"][i])
        close(y["time_major"], ys["time_major"][:, :, i])


def test_the_batch_axis_of_each_activation_is_found():
    model = attrax.unbatched(batched)
    shapes = {layer.name: layer.shape for layer in attrax.layers(model, X)}
    assert shapes == {"rows": (3,), "columns": (3,), "table": (3,), "relu#0": (3,)}
    for at in shapes:
        z, tail = attrax.cut(model, X, at=at)
        close(tail(z), model(X))
    close(attrax.capture(model, X, at="columns"), jnp.sin(X))


def test_unbatched_maps_and_differentiates():
    model = attrax.unbatched(batched)
    xs = jnp.stack([X, 2 * X])

    def explain(x):
        z, tail = attrax.cut(model, x, at="columns")
        return jax.grad(lambda z: tail(z)["sum"])(z) * z

    mapped = jax.jit(jax.vmap(explain))(xs)
    close(mapped, jnp.stack([explain(x) for x in xs]))


def test_unbatched_inside_of_a_larger_function():
    inner = attrax.unbatched(batched)

    def outer(x):
        return inner(attrax.tap("doubled", 2 * x))["sum"]

    assert [x.name for x in attrax.layers(outer, X)] == [
        "doubled", "rows", "columns", "table", "relu#0",
    ]  # fmt: skip
    z, tail = attrax.cut(outer, X, at="rows")
    close(z, jnp.sin(2 * X))
    close(tail(z), outer(X))


def test_a_batch_axis_at_another_place():
    model = attrax.unbatched(lambda xs: attrax.tap("h", xs * 2).sum(axis=0), in_axes=1)
    close(model(X), 2 * X.sum())
    assert attrax.layers(model, X)[0].shape == (3,)


def test_an_activation_that_mixes_the_batch_with_another_axis_is_refused():
    def model(xs):
        return attrax.tap("pairs", xs @ xs.T).sum(axis=1)

    one = attrax.unbatched(model)
    close(one(X), X @ X)
    with pytest.raises(ValueError, match="not an axis of its own"):
        attrax.cut(one, X, at="pairs")


def test_heads_that_are_folded_into_the_batch_are_those_of_one_example():
    def model(xs):
        heads = attrax.tap("heads", 2 * xs.reshape(-1, 3))  # (batch * heads, 3)
        return jnp.tanh(heads).reshape(len(xs), -1).sum(axis=1)

    x = jnp.stack([X, 2 * X, 3 * X])
    one = attrax.unbatched(model)
    z, tail = attrax.cut(one, x, at="heads")
    close(z, 2 * x)
    close(tail(z), jnp.tanh(2 * x).sum())
    close(jax.grad(tail)(z), 1 - jnp.tanh(2 * x) ** 2)


def test_an_output_without_a_batch_axis_is_refused():
    with pytest.raises(ValueError, match="does not vary with the batch size"):
        attrax.unbatched(lambda xs: xs.sum())(X)
    with pytest.raises(ValueError, match="outputs have one batch axis each"):
        attrax.unbatched(lambda xs: xs.reshape(-1))(X)


def test_unbatched_costs_no_second_trace():
    traces = itertools.count()

    class Sine(nn.Module):
        def __call__(self, xs):
            next(traces)
            return attrax.tap("h", jnp.sin(xs)).sum(axis=1)

    for scale in (1.0, 2.0):
        one = attrax.unbatched(attrax.from_linen(Sine(), {}))
        close(attrax.capture(one, scale * X, at="h"), jnp.sin(scale * X))
        if scale == 1.0:
            count = next(traces)
    assert next(traces) == count + 1


def test_unbatched_where_batch_size_one_runs_other_operations():
    token = jnp.ones((1, 1, 3))

    def model(xs):
        tokens = jnp.broadcast_to(token, (xs.shape[0], 1, 3))
        sequence = jnp.concatenate([tokens, xs[:, None] * 2], axis=1)
        return attrax.tap("h", jax.nn.relu(sequence)).sum(axis=(1, 2))

    one = attrax.unbatched(model)
    z, tail = attrax.cut(one, X, at="h")
    assert z.shape == (2, 3)
    close(tail(z), model(X[None])[0])


def test_unbatched_counts_axes_from_the_front():
    for axes in ({"in_axes": -1}, {"in_axes": (0, -2)}, {"out_axes": -1}, {"in_axes": "0"}):
        with pytest.raises(ValueError, match="must count from the front"):
            attrax.unbatched(batched, **axes)


def attend(q, mask, key, scale=1.0):
    """A batch of queries; one mask, one key and one number for all."""
    noise = jax.random.normal(key, (1, q.shape[-1]))
    h = attrax.tap("h", (q + 0 * noise) * mask * scale)
    return {"y": attrax.tap("y", jnp.tanh(h)), "mask": mask}


MASK, KEY = jnp.array([1.0, 0.0, 1.0]), jax.random.key(0)


def test_arguments_and_outputs_without_a_batch_axis():
    axes = {"y": 0, "mask": None}
    model = attrax.unbatched(attend, in_axes=(0, None, None), out_axes=axes)
    wanted = attend(X[None], MASK[None], KEY)
    found = model(X, MASK[None], KEY)
    close(found["y"], wanted["y"][0])
    close(found["mask"], MASK[None])
    found = attrax.unbatched(lambda *a: attend(*a)["y"], in_axes=(0, None, None))
    close(found(X, MASK[None], KEY), wanted["y"][0])
    shapes = {layer.name: layer.shape for layer in attrax.layers(found, X, MASK[None], KEY)}
    assert shapes["h"] == shapes["y"] == (3,)
    z, tail = attrax.cut(found, X, MASK[None], KEY, at="h")
    close(tail(z), wanted["y"][0])
    mapped = jax.vmap(lambda x: found(x, MASK[None], KEY))(jnp.stack([X, 2 * X]))
    close(mapped[1], attend(2 * X[None], MASK[None], KEY)["y"][0])


def test_axes_inside_of_an_argument():
    def model(inputs, *, shift):
        return (inputs["x"].T * inputs["w"][:, None] + shift.T).T

    one = attrax.unbatched(model, in_axes=({"x": 0, "w": None},))
    close(one({"x": X, "w": MASK}, shift=X), X * MASK + X)
    with pytest.raises(ValueError, match="one entry for each argument: got 1 entries and 2"):
        one({"x": X, "w": MASK}, X)


def test_models_that_take_exactly_one_example():
    def model(xs):
        if xs.shape[0] != 1:
            raise ValueError("one image at a time")
        return attrax.tap("h", 2 * xs).sum(axis=1)

    with pytest.raises(
        ValueError, match=r"^one image at a time\n.* batch of 2, and not .* one: .*`out_axes`"
    ):
        attrax.unbatched(model)(X)
    one = attrax.unbatched(model, out_axes=0)
    close(one(X), 2 * X.sum())
    z, tail = attrax.cut(one, X, at="h")
    close(z, 2 * X[None])
    close(tail(z), one(X))
    with pytest.raises(ValueError, match="entry None in `in_axes`"):
        attrax.layers(attrax.unbatched(lambda x, key: x + jax.random.normal(key)), X, KEY)


def test_random_numbers_follow_the_implementation_in_force():
    def model(x):
        return attrax.tap("h", x + jax.random.normal(jax.random.key(0), (3,)))

    plain = attrax.capture(model, X, at="h")
    with jax.default_prng_impl("rbg"):
        assert not np.allclose(attrax.capture(model, X, at="h"), plain)


def test_batch_axes_stay_apart_under_maps_and_when_read_again():
    def model(xs):
        h = attrax.tap("h", jnp.sin(xs))
        return jnp.tanh(attrax.tap("g", (h.T * 2).T)).sum(axis=1)

    one, batch = attrax.unbatched(model), jnp.stack([X, 2 * X])
    mapped = lambda xs: jax.vmap(one)(xs)  # noqa: E731
    assert attrax.layers(mapped, batch)[0].shape == (2, 3)
    close(attrax.capture(mapped, batch, at="h"), jnp.sin(batch))
    close(attrax.intervene(mapped, batch, at={"h": lambda h: 0 * h}), jnp.zeros(2))

    z, tail = attrax.cut(one, X, at="h")
    inner, rest = attrax.cut(tail, z, at="g")
    assert inner.shape == (3,)
    close(rest(inner), one(X))

    looped = lambda xs: jax.lax.map(one, xs)  # noqa: E731
    close(attrax.capture(looped, batch, at="g"), 2 * jnp.sin(batch))
    found = attrax.gradients_at(looped, batch, score=jnp.sum, at="g")
    close(found, 1 - jnp.tanh(2 * jnp.sin(batch)) ** 2)

    twice = attrax.unbatched(attrax.unbatched(lambda xs: attrax.tap("h", xs * 2).sum(axis=2)))
    close(attrax.capture(twice, X, at="h"), 2 * X)
    z, tail = attrax.cut(twice, X, at="h")
    close(tail(z), 2 * X.sum())
