"""Cuts of plain functions: exact, nothing upstream recomputed, through every kind of program."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from comparisons import close

X = jnp.array([0.3, -0.5, 0.8])


def net(x):
    h = attrax.tap("first", jnp.sin(x))
    h = jax.jit(lambda h: jax.nn.relu(attrax.tap("second", 2 * h + 0.5)))(h)
    return jax.nn.softmax(h) + x


def test_capture_one_and_several():
    second = 2 * jnp.sin(X) + 0.5
    close(attrax.capture(net, X, at="second"), second)
    found = attrax.capture(net, X, at=["second", "first", "relu#0"])
    assert list(found) == ["second", "first", "relu#0"]
    close(found["relu#0"], jax.nn.relu(second))


def test_functional_operations_by_name_primitive_and_count():
    weights = jax.nn.softmax(jax.nn.relu(2 * jnp.sin(X) + 0.5))
    for at in ("softmax#0", ":softmax#0", ":div#0"):
        close(attrax.capture(net, X, at=at), weights)
    close(attrax.capture(net, X, at=":mul#0"), 2 * jnp.sin(X))


def test_cut_is_exact_and_the_tail_is_differentiable():
    z, tail = attrax.cut(net, X, at="second")
    close(tail(z), net(X))
    expected = jax.jacobian(lambda h: jax.nn.softmax(jax.nn.relu(h)))(z)
    close(jax.jacobian(tail)(z), expected)


def test_a_tail_is_a_model_and_can_be_cut_again_under_the_same_names():
    def twice(x):
        h = jax.nn.relu(attrax.tap("first", jnp.sin(x)))
        return jax.nn.relu(attrax.tap("second", h - 0.1)).sum()

    z, tail = attrax.cut(twice, X, at="first")
    assert [layer.name for layer in attrax.layers(tail, z)] == ["relu#0", "second", "relu#1"]
    inner, rest = attrax.cut(tail, z, at="relu#1")
    close(rest(inner), twice(X))
    close(jax.grad(rest)(inner), np.ones(3))


def test_skip_connections_are_residuals():
    def skip(x):
        return x * 3 + attrax.tap("branch", jnp.exp(x))

    _, tail = attrax.cut(skip, X, at="branch")
    close(tail(jnp.zeros(3)), 3 * X)


def test_a_tail_passes_through_jit_and_vmap_as_an_argument():
    zs, tails = jax.vmap(lambda x: attrax.cut(net, x, at="second"))(jnp.stack([X, -X]))
    grads = jax.jit(jax.vmap(lambda tail, z: jax.grad(lambda z: tail(z)[0])(z)))(tails, zs)
    for i, x in enumerate((X, -X)):
        z, tail = attrax.cut(net, x, at="second")
        close(grads[i], jax.grad(lambda z, tail=tail: tail(z)[0])(z))


def test_several_inputs_keywords_trees_and_integers():
    table = jnp.arange(12.0).reshape(4, 3)

    def model(ids, scale, *, mask, power=1):
        h = attrax.tap("embedding", table[ids])
        return {"sum": (h * mask[:, None] * scale) ** power, "ids": ids}

    ids, mask = jnp.array([1, 3]), jnp.array([1.0, 0.0])
    z, tail = attrax.cut(model, ids, 2.0, mask=mask, power=2, at="embedding")
    close(z, table[ids])
    close(tail(z), model(ids, 2.0, mask=mask, power=2))
    grad = jax.grad(lambda z: tail(z)["sum"].sum())(z)
    close(grad, 8 * z * mask[:, None])


def test_joint_cut_at_several_layers():
    def model(x):
        return (attrax.tap("b", jnp.sin(x)) * attrax.tap("a", jnp.cos(x))).sum()

    z, tail = attrax.cut(model, X, at=["b", "a"])
    close(tail(z), model(X))
    grads = jax.grad(tail)(z)
    close(grads, {"b": jnp.cos(X), "a": jnp.sin(X)})


def test_a_captured_activation_of_integers():
    def model(x):
        return attrax.tap("index", jnp.argmax(x)) * 2

    assert attrax.capture(model, X, at="index") == 2


def unrolled(x, length=3):
    for k in range(length):
        x = x + 0.5 * attrax.tap(f"h{k}", jnp.tanh(x * (k + 1)))
    return jnp.sin(x)


def scanned(x, reverse=False, remat=False):
    def body(x, k):
        return x + 0.5 * attrax.tap("h", jnp.tanh(x * k)), x

    body = jax.checkpoint(body) if remat else body
    ks = jnp.array([3.0, 2.0, 1.0] if reverse else [1.0, 2.0, 3.0])
    return jnp.sin(jax.lax.scan(body, x, ks, reverse=reverse)[0])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_iterations_of_a_scan_equal_the_unrolled_model(reverse, remat):
    def model(x):
        return scanned(x, reverse, remat)

    wanted = attrax.gradients_at(unrolled, X, score=jnp.sum, at=["h0", "h1", "h2"])
    stacked = attrax.gradients_at(model, X, score=jnp.sum, at="h")
    for k in range(3):
        at = f"h[{2 - k if reverse else k}]"
        z, tail = attrax.cut(model, X, at=at)
        close(z, attrax.capture(unrolled, X, at=f"h{k}"))
        close(tail(z), model(X))
        close(jax.grad(lambda z, tail=tail: tail(z).sum())(z), wanted[f"h{k}"])
        close(stacked[2 - k if reverse else k], wanted[f"h{k}"])
        close(attrax.gradients_at(model, X, score=jnp.sum, at=at), wanted[f"h{k}"])


def test_capture_of_a_scanned_layer_is_stacked():
    stacked = attrax.capture(scanned, X, at="h")
    assert stacked.shape == (3, 3)
    close(stacked, jnp.stack([attrax.capture(scanned, X, at=f"h[{k}]") for k in range(3)]))
    close(attrax.capture(scanned, X, at="h[0:3]"), stacked)


def test_the_tail_of_a_scan_holds_the_remaining_iterations_under_their_own_numbers():
    z, tail = attrax.cut(scanned, X, at="h[0]")
    assert attrax.layers(tail, z)[0].name == "h[1:3]"
    inner, rest = attrax.cut(tail, z, at="h[2]")
    close(rest(inner), scanned(X))
    with pytest.raises(ValueError, match="no layer 'h\\[0\\]'"):
        attrax.cut(tail, z, at="h[0]")


def test_nested_scans():
    def model(x):
        def outer(x, a):
            def inner(x, b):
                return attrax.tap("outer/inner", x * a + b), None

            x, _ = jax.lax.scan(inner, x, jnp.array([1.0, 2.0]))
            return attrax.tap("outer", jnp.sin(x)), None

        return jax.lax.scan(outer, x, jnp.array([0.5, 0.7, 0.9]))[0]

    names = [layer.name for layer in attrax.layers(model, X)]
    assert names == ["outer[0:3]/inner[0:2]", "outer[0:3]"]
    stacked = attrax.capture(model, X, at="outer/inner")
    assert stacked.shape == (3, 2, 3)
    gradients = attrax.gradients_at(model, X, score=jnp.sum, at="outer/inner")
    for i, j in ((0, 0), (1, 1), (2, 0)):
        at = f"outer[{i}]/inner[{j}]"
        z, tail = attrax.cut(model, X, at=at)
        close(z, stacked[i, j])
        close(tail(z), model(X))
        close(jax.grad(lambda z, tail=tail: tail(z).sum())(z), gradients[i, j])


def test_both_branches_of_a_cond():
    def model(x):
        return jax.lax.cond(
            x[0] > 0,
            lambda x: attrax.tap("positive", jnp.sin(x)) * 3,
            lambda x: attrax.tap("negative", jnp.cos(x)) * 2,
            x,
        )

    for x, taken, other in ((X, "positive", "negative"), (-X, "negative", "positive")):
        for at, slope in ((taken, {"positive": 3, "negative": 2}[taken]), (other, 0)):
            z, tail = attrax.cut(model, x, at=at)
            close(z, jnp.sin(x) if at == "positive" else jnp.cos(x))
            close(tail(z), model(x))
            grad = jax.grad(lambda z, tail=tail: tail(z).sum())(z)
            close(grad, np.full(3, slope))
            close(attrax.gradients_at(model, x, score=jnp.sum, at=at), grad)


def test_remat_stays_in_the_tail():
    def model(x):
        return jax.checkpoint(lambda x: jnp.sin(attrax.tap("h", jnp.cos(x))) ** 2)(x).sum()

    z, tail = attrax.cut(model, X, at="h")
    close(tail(z), model(X))
    close(jax.grad(tail)(z), 2 * jnp.sin(z) * jnp.cos(z))
    program = str(jax.make_jaxpr(lambda tail, z: tail(z))(tail, z))
    assert "checkpoint" in program or "remat" in program


def test_custom_derivatives_are_kept_behind_a_cut():
    @jax.custom_vjp
    def clipped(x):
        return x * 2

    clipped.defvjp(lambda x: (clipped(x), None), lambda _, g: (jnp.clip(g, -1, 1),))

    def model(x):
        return 10 * clipped(attrax.tap("h", jnp.sin(x))).sum()

    z, tail = attrax.cut(model, X, at="h")
    close(jax.grad(tail)(z), np.ones(3))
    close(attrax.capture(model, X, at="clipped#0"), 2 * jnp.sin(X))

    def relu(x):
        return jax.nn.relu(attrax.tap("h", x * 0)).sum()

    z, tail = attrax.cut(relu, X, at="h")
    close(jax.grad(tail)(z), np.zeros(3))  # the derivative of `jax.nn.relu` at 0 is 0


def test_second_derivatives_through_a_tail():
    z, tail = attrax.cut(lambda x: (attrax.tap("h", jnp.sin(x)) ** 3).sum(), X, at="h")
    close(jax.hessian(tail)(z), np.diag(6 * z))
    gap = jax.grad(lambda x: attrax.cut(net, x, at="second")[1](jnp.ones(3)).sum())(X)
    close(gap, np.ones(3))  # the residuals of a tail are differentiable too


def test_weights_are_differentiable_through_a_cut():
    def loss(w, x):
        model = attrax.as_model(jax.tree_util.Partial(lambda w, x: attrax.tap("h", w * x) ** 2, w))
        z, tail = attrax.cut(model, x, at="h")
        return jnp.sum(z * jax.grad(lambda z: tail(z).sum())(z))

    close(jax.grad(loss)(X, X + 1), 4 * X * (X + 1) ** 2)


def test_a_function_may_close_over_a_tracer():
    @jax.jit
    def outer(w, x):
        z, tail = attrax.cut(lambda x: attrax.tap("h", w * x) * w, x, at="h")
        return jax.grad(lambda z: tail(z).sum())(z)

    close(outer(X, X), X)
    close(outer(2 * X, X), 2 * X)


def test_a_second_example_costs_no_trace():
    traces = itertools.count()

    class Sine(nn.Module):
        def __call__(self, x):
            next(traces)
            return attrax.tap("h", jnp.sin(x)).sum()

    for scale in (1.0, 2.0, 3.0):
        z, tail = attrax.cut(attrax.from_linen(Sine(), {}), scale * X, at="h")
        close(tail(z), jnp.sin(scale * X).sum())
    assert next(traces) == 2  # one with taps, and one without to compare with
    attrax.cut(attrax.from_linen(Sine(), {}), jnp.ones(5), at="h")
    assert next(traces) == 5


def test_a_jitted_function_of_tails_compiles_once():
    class Net(nn.Module):
        def __call__(self, x):
            return net(x)

    traces = []

    @jax.jit
    def explain(tail, z):
        traces.append(1)
        return jax.grad(lambda z: tail(z)[0])(z)

    model = attrax.from_linen(Net(), {})
    for x in (X, X + 1, X + 2):
        z, tail = attrax.cut(model, x, at="second")
        explain(tail, z)
    assert len(traces) == 1


def test_a_trace_depends_on_the_settings_it_was_made_under():
    def model(x):
        return attrax.tap("h", x * np.float64(2.0))

    assert attrax.capture(model, jnp.ones(2), at="h").dtype == jnp.float32
    with jax.enable_x64(True):
        assert attrax.capture(model, jnp.ones(2), at="h").dtype == jnp.float64


def test_weights_closed_over_are_not_constants_of_the_head():
    weights = jax.random.normal(jax.random.key(0), (256, 256))

    def model(x):
        return (attrax.tap("h", x @ weights) @ weights).sum()

    z, tail = attrax.cut(model, jnp.ones(256), at="h")
    text = jax.jit(lambda tail, z: tail(z)).lower(tail, z).as_text()
    assert len(text) < 20_000


def test_nothing_upstream_is_in_the_tail():
    def model(x):
        for _ in range(6):
            x = jnp.dot(jnp.ones((8, 8)), x)
            x = attrax.tap("h", jnp.tanh(x))
        return x.sum()

    z, tail = attrax.cut(model, jnp.ones(8), at="h#4")
    program = str(jax.make_jaxpr(lambda tail, z: tail(z))(tail, z))
    assert program.count("dot_general") == 1


def test_gradients_at_layers_upstream_of_one_another():
    found = attrax.gradients_at(net, X, score=jnp.sum, at=["first", "second"])
    for at in found:
        z, tail = attrax.cut(net, X, at=at)
        close(found[at] + 1, jax.grad(lambda z, tail=tail: tail(z).sum())(z) + 1)


def test_intervene_by_value_function_and_iteration():
    def model(x):
        return attrax.tap("b", attrax.tap("a", x) * 2).sum()

    close(attrax.intervene(model, X, at={"a": jnp.ones(3)}), 6.0)
    close(attrax.intervene(model, X, at={"b": lambda z: z * 10}), 20 * X.sum())
    both = {"a": jnp.ones(3), "b": lambda z: z + 1}
    close(attrax.intervene(model, X, at=both), 9.0)
    ablated = attrax.intervene(scanned, X, at={"h[1]": jnp.zeros(3)})
    expected = attrax.intervene(unrolled, X, at={"h1": jnp.zeros(3)})
    close(ablated, expected)
    close(attrax.intervene(scanned, X, at={"h": lambda z: 0 * z}), jnp.sin(X))
    close(attrax.intervene(scanned, X, at={"h": jnp.zeros((3, 3))}), jnp.sin(X))


def test_intervene_is_jittable_and_differentiable():
    slope = jax.jit(jax.grad(lambda v: attrax.intervene(net, X, at={"first": v}).sum()))
    z, tail = attrax.cut(net, X, at="first")
    close(slope(z) + 1, jax.grad(lambda z: tail(z).sum())(z) + 1)


def test_missing_names_list_the_nearest():
    with pytest.raises(ValueError, match="no layer 'secnd'; the nearest are 'second'"):
        attrax.cut(net, X, at="secnd")
    with pytest.raises(ValueError, match="there are 'first', 'second'"):
        attrax.cut(net, X, at="!!!")
    with pytest.raises(ValueError, match="has no named layers"):
        attrax.cut(lambda x: x, X, at="a")
    with pytest.raises(ValueError, match=r"'h\[0:3\]' has the iterations 0 to 2"):
        attrax.cut(scanned, X, at="h[3]")


def test_ambiguous_names_list_the_calls():
    def model(x):
        return attrax.tap("h", attrax.tap("h", x) * 2)

    with pytest.raises(ValueError, match="computed 2 times; write one of 'h#0', 'h#1'"):
        attrax.cut(model, X, at="h")
    close(attrax.capture(model, X, at="h#1"), 2 * X)


def test_a_scanned_name_cannot_be_cut_as_a_whole():
    with pytest.raises(ValueError, match=r"cut at one of them, as in 'h\[0\]'"):
        attrax.cut(scanned, X, at="h")


def test_no_dependence_is_an_error():
    def model(x):
        attrax.tap("unused", jnp.sin(x))
        return attrax.tap("stopped", jnp.cos(x)) * 0 + jnp.floor(x)

    with pytest.raises(ValueError, match="does not depend on 'b'"):
        attrax.cut(lambda x: (attrax.tap("b", x), x * 2)[1] + 0 * x, X, at="b")
    z, tail = attrax.cut(model, X, at="stopped")
    close(jax.grad(lambda z: tail(z).sum())(z), np.zeros(3))


def test_a_joint_cut_refuses_layers_upstream_of_one_another():
    with pytest.raises(ValueError, match="lies upstream of another"):
        attrax.cut(net, X, at=["first", "second"])
    with pytest.raises(ValueError, match="names a layer twice"):
        attrax.cut(net, X, at=["first", "first"])
    with pytest.raises(ValueError, match="at least one layer"):
        attrax.cut(net, X, at=[])
    with pytest.raises(TypeError, match="`at` must be the name of a layer"):
        attrax.cut(net, X, at=[3])


def test_what_cannot_be_reached_says_so():
    @jax.custom_vjp
    def own(x):
        return attrax.tap("inner", jnp.sin(x))

    own.defvjp(lambda x: (own(x), x), lambda x, g: (g * jnp.cos(x),))

    def model(x):
        x = jax.lax.while_loop(lambda x: x.sum() > 9, lambda x: attrax.tap("loop", x / 2), x)
        return own(x)

    with pytest.raises(ValueError, match="inside a `while_loop`"):
        attrax.cut(model, X, at="loop")
    with pytest.raises(ValueError, match="inside a function with a custom derivative rule"):
        attrax.capture(model, X, at="inner")
    close(attrax.capture(model, X, at="own#0"), jnp.sin(X))


def test_a_scan_inside_a_branch_is_captured_whole_and_by_iterations():
    def model(x):
        def loop(x):
            return jax.lax.scan(lambda x, _: (attrax.tap("h", x * 2), None), x, None, length=2)[0]

        return jax.lax.cond(x[0] > 0, loop, lambda x: x, x)

    for x in (X, -X):  # whichever branch is taken
        close(attrax.capture(model, x, at="h"), jnp.stack([2 * x, 4 * x]))
        close(attrax.capture(model, x, at="h[1]"), 4 * x)


def test_a_rule_that_closes_over_a_tracer_names_the_remedy():
    def model(w, x):
        @jax.custom_jvp
        def scaled(x):
            return x * w

        scaled.defjvp(lambda p, t: (p[0] * w, t[0] * w))
        return scaled(attrax.tap("h", jnp.sin(x))).sum()

    with pytest.raises(ValueError, match="pass that value to it as an argument"):
        attrax.cut(model, jnp.float32(2.0), X, at="h")

    @jax.jit
    def outside(w, x):  # a value of a trace that still runs is no obstacle
        z, tail = attrax.cut(lambda x: model(w, x), x, at="h")
        return jax.grad(tail)(z)

    close(outside(2.0, X), np.full(3, 2.0))


def test_a_tail_takes_one_activation_like_its_own():
    z, tail = attrax.cut(net, X, at="second")
    with pytest.raises(ValueError, match=r"of shape \(3,\).*jax.vmap\(tail\)"):
        tail(jnp.stack([z, z]))
    with pytest.raises(ValueError, match="of structure"):
        tail({"z": z})


def test_gradients_at_refuses_integers_and_vectors():
    def model(x):
        return x * attrax.tap("index", jnp.argmax(x))

    with pytest.raises(TypeError, match="'index' is int32: it has no gradient"):
        attrax.gradients_at(model, X, score=jnp.sum, at="index")
    with pytest.raises(ValueError, match=r"`score` must return a scalar.*logit\(i\).*unbatched"):
        attrax.gradients_at(net, X, score=lambda y: y, at="first")


def test_interventions_must_be_like_the_activation():
    with pytest.raises(ValueError, match="must be like the activation"):
        attrax.intervene(net, X, at={"first": jnp.ones(4)})
    with pytest.raises(ValueError, match="must be like the activation"):
        attrax.intervene(net, X, at={"first": lambda z: z.sum()})
    with pytest.raises(TypeError, match=r"`at` must map names of layers .* got str"):
        attrax.intervene(net, X, at="first")
    close(attrax.intervene(net, X, at={}), net(X))


def test_a_model_must_be_callable():
    with pytest.raises(TypeError, match="must be callable; got int"):
        attrax.as_model(3)


def test_gradients_inside_a_shard_map_are_each_devices_own():
    mesh = jax.make_mesh((2,), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    xs = jax.device_put(jnp.arange(4.0), jax.NamedSharding(mesh, spec))

    def model(x):
        return jnp.sin(attrax.tap("h", 2 * x))

    def explain(x):
        return attrax.gradients_at(model, x, score=jnp.sum, at="h")

    found = jax.jit(jax.shard_map(explain, mesh=mesh, in_specs=spec, out_specs=spec))(xs)
    close(np.asarray(found), jnp.cos(2 * jnp.arange(4.0)))


def test_names_that_overlap_in_a_scan_are_refused():
    for ask in (
        lambda at: attrax.capture(scanned, X, at=at),
        lambda at: attrax.gradients_at(scanned, X, score=jnp.sum, at=at),
        lambda at: attrax.intervene(scanned, X, at=dict.fromkeys(at, lambda z: z)),
    ):
        with pytest.raises(ValueError, match="ask for them in two calls"):
            ask(["h[1]", "h"])

    def nested(x):
        def outer(x, _):
            x = jax.lax.scan(lambda x, _: (attrax.tap("a/b", x * 2), None), x, length=2)[0]
            return attrax.tap("a", x), None

        return jax.lax.scan(outer, x, length=2)[0]

    with pytest.raises(ValueError, match="every one of them, or of none"):
        attrax.gradients_at(nested, X, score=jnp.sum, at="a[1]/b")


def test_two_names_of_one_layer_are_one_layer():
    with pytest.raises(ValueError, match="names a layer twice"):
        attrax.cut(net, X, at=["second", "second#0"])


def test_constants_of_different_type_are_different_programs():
    def model(x, option):
        return attrax.tap("h", x * (10 if option is True else 1))

    for option, factor in ((1, 1), (True, 10), (1.0, 1)):
        close(attrax.capture(model, X, option, at="h"), factor * X)
    signed = [
        attrax.capture(lambda x, s: attrax.tap("h", x * s), X, s, at="h") for s in (0.0, -0.0)
    ]
    assert not np.array_equal(np.signbit(signed[0]), np.signbit(signed[1]))


def test_a_trace_depends_on_the_mapped_axes_around_it():
    def model(x):
        return attrax.tap("h", x / jax.lax.psum(1, "i"))

    for n in (2, 4):
        mapped = jax.vmap(lambda x: attrax.capture(model, x, at="h"), axis_name="i")
        close(mapped(jnp.ones(n)), np.full(n, 1 / n))


def test_a_tail_inside_of_a_scan_or_called_twice_has_names_of_its_own():
    z, tail = attrax.cut(lambda x: jax.nn.relu(attrax.tap("h", x)), X, at="h")

    def looped(z):
        return jax.lax.map(tail, jnp.stack([z, -z]))

    assert [layer.name for layer in attrax.layers(looped, z)] == ["relu[0:2]#0"]
    close(attrax.capture(looped, z, at="relu[1]#0"), jax.nn.relu(-z))
    twice = [layer.name for layer in attrax.layers(lambda z: tail(tail(z) - 0.1), z)]
    assert twice == ["relu#0", "relu#1"]


def test_scans_of_one_name_and_different_length():
    def model(x):
        def step(x, _):
            return attrax.tap("h", 2 * x), None

        x = jax.lax.scan(step, x, length=3)[0]
        return jax.lax.scan(step, x, length=2)[0]

    close(attrax.capture(model, X, at="h[1]#0"), 4 * X)
    close(attrax.capture(model, X, at="h[1]#1"), 32 * X)


def test_solvers_that_hold_programs_in_named_tuples():
    def model(x):
        def step(x, _):
            x = attrax.tap("h", jnp.linalg.solve(jnp.eye(3) * 2.0, x))
            return x, None

        return jax.lax.scan(step, x, length=3)[0]

    z, tail = attrax.cut(model, X, at="h[1]")
    close(z, X / 4)
    close(tail(z), X / 8)


def test_gradients_at_names_the_remedy_for_rules_that_close_over_tracers():
    def model(w, x):
        @jax.custom_jvp
        def scaled(x):
            return x * w

        scaled.defjvp(lambda p, t: (p[0] * w, t[0] * w))
        return scaled(attrax.tap("h", jnp.sin(x))).sum()

    with pytest.raises(ValueError, match="pass that value to it as an argument"):
        attrax.gradients_at(model, jnp.float32(2.0), X, score=lambda y: y, at="h")
    close(attrax.capture(model, jnp.float32(2.0), X, at="h"), jnp.sin(X))


def test_capture_needs_values():
    with pytest.raises(TypeError, match="`capture` computes and needs values"):
        attrax.capture(net, jax.ShapeDtypeStruct((3,), jnp.float32), at="first")
    shapes = attrax.layers(net, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert [layer.name for layer in shapes][:2] == ["first", "second"]


def test_layers_that_meet_only_in_a_joint_tap_can_be_cut_together():
    def model(x):
        pair = attrax.tap("pair", (attrax.tap("a", jnp.sin(x)), jnp.cos(x)))
        b = attrax.tap("b", pair[1] * 2)  # of "a" it depends on nothing
        return (pair[0] * b + attrax.tap("after", pair)[1]).sum()

    z, tail = attrax.cut(model, X, at=["a", "b"])
    close(tail(z), model(X))
    close(jax.grad(tail)(z), {"a": z["b"], "b": z["a"]})
    joint, rest = attrax.cut(tail, z, at="after")  # the tap stands in the tail, whole
    close(joint, (jnp.sin(X), jnp.cos(X)))
    close(rest(joint), model(X))
    for at in (["a", "pair"], ["pair", "b"]):
        with pytest.raises(ValueError, match="lies upstream of another"):
            attrax.cut(model, X, at=at)


def test_what_passes_beside_a_cut_through_a_joint_tap_is_computed_once():
    def model(x):
        a, b = attrax.tap("pair", (attrax.tap("a", jnp.sin(x)), x))
        return a.sum() + jnp.exp(b).sum()

    z, tail = attrax.cut(model, X, at="a")
    assert " exp " not in str(jax.make_jaxpr(lambda tail, z: tail(z))(tail, z))
    close(tail(z), model(X))


def printing(seen):
    def model(x):
        jax.debug.callback(lambda v: seen.append(("before", float(v))), x[0])
        h = attrax.tap("h", jnp.sin(x))
        jax.debug.callback(lambda v: seen.append(("after", float(v))), h[0])

        def step(h, _):
            jax.debug.callback(lambda v: seen.append(("loop", float(v))), h[0])
            return h * 2, None

        return jax.lax.scan(step, h, length=2)[0]

    return model


def test_effects_that_depend_on_the_activation_are_in_the_tail():
    seen = []
    z, tail = attrax.cut(printing(seen), X, at="h")
    jax.effects_barrier()
    assert [kind for kind, _ in seen] == ["before"]
    seen.clear()
    tail(2 * z)
    jax.effects_barrier()
    assert sorted(kind for kind, _ in seen) == ["after", "loop", "loop"]
    close(np.sort([value for _, value in seen]), 2 * float(z[0]) * np.array([1, 1, 2]))
    seen.clear()
    attrax.intervene(printing(seen), X, at={"h": 3 * z})
    jax.effects_barrier()
    assert sorted(kind for kind, _ in seen) == ["after", "before", "loop", "loop"]


def test_one_name_and_a_list_of_one_name_are_different_questions():
    for at in ("first", ["first"], "first"):
        z, tail = attrax.cut(net, X, at=at)
        assert isinstance(z, dict) == (at == ["first"])
        close(tail(z), net(X))


def test_a_model_and_a_cut_with_a_score():
    score = attrax.scores.logit(1)
    model = attrax.as_model(net)
    close(model.then(score)(X), net(X)[1])
    z, fn = attrax.cut(net, X, at="second", score=score)
    _, tail = attrax.cut(net, X, at="second")
    close(fn(z), net(X)[1])
    close(jax.grad(fn)(z), jax.grad(lambda z: score(tail(z)))(z))


def test_a_score_that_is_no_function_is_refused():
    for ask in (
        lambda: attrax.as_model(net).then(1),
        lambda: attrax.cut(net, X, at="second", score=1),
        lambda: attrax.gradients_at(net, X, score=1, at="second"),
        lambda: attrax.gradients_at(net, X, score=None, at="second"),
    ):
        with pytest.raises(
            TypeError, match=r"`score` must be a function .*logit\([13]\)`; got (1|None)\."
        ):
            ask()


def test_functions_that_compute_need_values():
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    for ask in (
        lambda: attrax.cut(net, shape, at="first"),
        lambda: attrax.gradients_at(net, shape, score=jnp.sum, at="first"),
        lambda: attrax.intervene(net, shape, at={"first": X}),
    ):
        with pytest.raises(TypeError, match="computes and needs values"):
            ask()


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        ("int32", jnp.array([0.7, 1.9]), False),
        ("int32", np.array([0.7, 1.9]), False),
        ("int32", jnp.array([True, False]), True),
        ("int32", np.array([3, 4]), True),
        ("uint8", jnp.array([-1, 3], jnp.int32), False),
        ("bool", jnp.array([0, 2], jnp.int32), False),
        ("float32", np.array([1, 2]), True),
        ("float32", np.array([1.5, 2.5]), True),
        ("bfloat16", jnp.array([1.5, 2.5]), True),
        ("float32", jnp.array([1.0, 2.0j]), False),
    ],
)
def test_a_replacement_of_another_dtype_changes_no_value(old, new, fits):
    def model(x):
        return attrax.tap("h", x.astype(old)) * 1

    x = jnp.array([0.0, 1.0])
    for replacement in (new, lambda z: new):
        if fits:
            found = attrax.intervene(model, x, at={"h": replacement})
            assert found.dtype == model(x).dtype
            close(found, new)
        else:
            with pytest.raises(TypeError, match=r"'h' is .*, and the activation .* would change"):
                attrax.intervene(model, x, at={"h": replacement})


def graph(x):
    nodes, senders = attrax.tap("graph", (jnp.sin(x), jnp.array([2, 0, 0])))
    return (nodes[senders] * nodes).sum()


def test_integers_beside_floats_are_held_fixed():
    found = attrax.gradients_at(graph, X, score=jnp.sum, at="graph")
    z, tail = attrax.cut(graph, X, at="graph")
    wanted = jax.grad(lambda nodes: tail((nodes, z[1])))(z[0])
    close(found, (wanted, jnp.zeros(3)))

    z, fn = attrax.cut(graph, X, at="graph", score=jnp.sum)
    assert z[1] is None
    close(jax.grad(fn)(z), (wanted, None))
    close(attrax.gradient_times_input(fn, z), (wanted * z[0], None))

    def looped(x):
        def step(x, i):
            x, _ = attrax.tap("state", (jnp.sin(x), i))
            return x, None

        return jax.lax.scan(step, x, jnp.arange(2))[0]

    stacked = attrax.gradients_at(looped, X, score=jnp.sum, at="state")
    close(stacked, (jnp.stack([jnp.cos(jnp.sin(X)), jnp.ones(3)]), jnp.zeros(2)))


@pytest.mark.parametrize(
    ("dtype", "new"),
    [
        ("int8", jnp.array([300, 1])),
        ("int8", lambda z: z.astype("int32") * 100),
        ("uint8", 300),
        ("uint8", -1),
        ("int32", np.array([2**40 + 7, 1])),
    ],
)
def test_integers_that_would_wrap_are_refused(dtype, new):
    shape = () if isinstance(new, int) else (2,)
    x = jnp.full(shape, 3, dtype)
    with pytest.raises(TypeError, match="the values would change"):
        attrax.intervene(lambda x: attrax.tap("h", x).sum(), x, at={"h": new})
