"""`for_cpu`: every rewrite against the original, with its derivatives, in float64."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import attrax

_RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def normal(*shape):
    return jnp.asarray(_RNG.normal(size=shape))


def primitives(fn, *args):
    """The names of all equations of the compiled program's source, those in loops included."""
    text = str(jax.make_jaxpr(fn)(*args))
    names = (
        "conv_general_dilated",
        "select_and_scatter_add",
        "feature_group_count=4",
        "dot_general",
    )
    return {name: text.count(name) for name in names}


def assert_same(fn, *args):
    """Values, first and second derivatives agree, whether rewritten before or after."""
    fast = attrax.for_cpu(fn)

    def explained(fn):
        scalar = lambda *args: jnp.sum(jnp.sin(fn(*args)))  # noqa: E731
        gradient = jax.grad(scalar, argnums=tuple(range(len(args))))
        second = jax.grad(lambda *args: sum(jnp.sum(g * g) for g in gradient(*args)))
        along = lambda *args: jax.jvp(fn, args, args)[1]  # noqa: E731
        return lambda *args: (fn(*args), gradient(*args), second(*args), along(*args))

    expected = jax.jit(explained(fn))(*args)
    for found in (explained(fast), attrax.for_cpu(explained(fn))):
        for a, e in zip(
            jax.tree.leaves(jax.jit(found)(*args)), jax.tree.leaves(expected), strict=True
        ):
            assert a.shape == e.shape and a.dtype == e.dtype
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-11 * max(np.abs(e).max(), 1e-30))


CONVOLUTIONS = {
    "depthwise": {"kernel": (3, 3), "groups": 4},
    "depthwise, strided": {"kernel": (3, 3), "groups": 4, "stride": (2, 2)},
    "depthwise, strided, even size": {
        "kernel": (5, 5),
        "groups": 4,
        "stride": (2, 2),
        "size": (8, 6),
    },
    "depthwise, uneven strides": {
        "kernel": (3, 2),
        "groups": 4,
        "stride": (3, 1),
        "padding": "VALID",
    },
    "depthwise, dilated": {"kernel": (3, 3), "groups": 4, "dilation": (2, 1)},
    "depthwise, spread out": {"kernel": (3, 3), "groups": 4, "spacing": (2, 3)},
    "depthwise, spread out and strided": {
        "kernel": (3, 3),
        "groups": 4,
        "spacing": (2, 2),
        "stride": (3, 1),
    },
    "depthwise, two features each": {"kernel": (3, 3), "groups": 4, "out": 8},
    "groups of two": {"kernel": (3, 3), "groups": 2, "out": 4},
    "one point": {"kernel": (1, 1)},
    "one point, strided": {"kernel": (1, 1), "stride": (2, 2)},
    "one point, padded": {"kernel": (1, 1), "padding": ((1, 0), (2, 1))},
    "one point, spread out": {"kernel": (1, 1), "spacing": (2, 2)},
    "ordinary": {"kernel": (3, 3)},
    "ordinary, strided": {"kernel": (3, 3), "stride": (2, 2)},
    "ordinary, strided beyond the kernel": {"kernel": (2, 2), "stride": (3, 3), "padding": "VALID"},
    "ordinary, spread out": {"kernel": (4, 3), "spacing": (2, 2)},
    "ordinary, spread out, more features": {"kernel": (4, 3), "spacing": (2, 2), "out": 6},
    "ordinary, spread out beyond the kernel": {"kernel": (1, 2), "spacing": (3, 2), "out": 6},
    "many features": {"kernel": (3, 3), "features": 64, "out": 65, "size": (11, 12)},
    "many features, cropped": {
        "kernel": (3, 3),
        "features": 64,
        "out": 64,
        "size": (14, 13),
        "padding": ((-1, 2), (1, -2)),
    },
    "cropping": {"kernel": (3, 3), "padding": ((-1, 2), (1, -2)), "spacing": (2, 1)},
    "a line": {"kernel": (3,), "groups": 4, "size": (9,)},
}


QUICK = ("depthwise, strided", "one point, strided", "ordinary, strided")


def slowly(name):
    """All but a few take their time."""
    return pytest.param(name, marks=[] if name in QUICK else [pytest.mark.soak])


@pytest.mark.parametrize("name", [slowly(name) for name in CONVOLUTIONS])
def test_convolutions(name):
    given = CONVOLUTIONS[name]
    size, groups = given.get("size", (7, 6)), given.get("groups", 1)
    padding, ones = given.get("padding", "SAME"), (1,) * len(size)
    if padding == "SAME" and "spacing" in given:
        padding = tuple((k - 1, k // 2) for k in given["kernel"])
    features = given.get("features", 4)
    kernel = normal(*given["kernel"], features // groups, given.get("out", 4))
    dims = ("NHWC", "HWIO", "NHWC") if len(size) == 2 else ("NWC", "WIO", "NWC")

    def fn(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            given.get("stride", ones),
            padding,
            given.get("spacing", ones),
            given.get("dilation", ones),
            dims,
            groups,
        )

    assert_same(fn, normal(2, *size, features), kernel)


def three_by_three(x, kernel, padding="SAME"):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("size", "padding"),
    [((10, 11), "SAME"), pytest.param((13, 10), "VALID", marks=pytest.mark.soak)],
)
def test_three_by_three_points_of_many_features(size, padding):
    x, kernel = normal(4, *size, 64), normal(3, 3, 64, 72)

    def explained(x, kernel):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(three_by_three(x, kernel, padding))))
        return three_by_three(x, kernel, padding), gradient(x)

    expected = jax.jit(explained)(x, kernel)
    fast = attrax.for_cpu(explained)
    for found, wanted in zip(jax.jit(fast)(x, kernel), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    before, after = (primitives(fn, x, kernel) for fn in (explained, fast))
    assert after["conv_general_dilated"] == 0
    assert after["dot_general"] == 16 * before["conv_general_dilated"] > 0
    # Half the precision has no room for the transforms, and few tiles do not pay for them.
    half = [value.astype(jnp.bfloat16) for value in (x, kernel)]
    for args in (half, (x[:1], kernel)):
        assert primitives(attrax.for_cpu(three_by_three), *args)["dot_general"] == 0


def test_a_loop_pays_for_the_transform_of_its_weights_once():
    x, kernel = normal(1, 8, 8, 64), normal(3, 3, 64, 64)  # 16 tiles: a quarter of the features

    def once(x, kernel):
        dims = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)

    def repeated(x, kernel):
        return lax.scan(lambda x, _: (jnp.tanh(once(x, kernel) / 24), None), x, length=4)[0]

    assert primitives(attrax.for_cpu(once), x, kernel)["conv_general_dilated"] == 1
    counts = primitives(attrax.for_cpu(repeated), x, kernel)
    assert counts["conv_general_dilated"] == 0 and counts["dot_general"] == 16
    expected, found = (jax.jit(f)(x, kernel) for f in (repeated, attrax.for_cpu(repeated)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_rounding_is_that_of_another_order_of_the_sum():
    """In float32, beside the convolution itself, both against float64."""
    x, kernel = jnp.maximum(normal(4, 8, 8, 64), 0), normal(3, 3, 64, 64)
    exact = three_by_three(x, kernel)
    x, kernel = x.astype("float32"), kernel.astype("float32")

    def error(fn):
        return float(jnp.abs(jax.jit(fn)(x, kernel) - exact).max() / jnp.abs(exact).max())

    assert error(three_by_three) < 1e-6
    assert error(attrax.for_cpu(three_by_three)) < 2e-6


def test_products_are_as_wide_as_what_comes_out():
    x, kernel = normal(4, 8, 8, 64).astype("float32"), normal(3, 3, 64, 64).astype("float32")
    wide = lambda x, kernel: lax.conv_general_dilated(  # noqa: E731
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.float64,
    )
    found, expected = jax.jit(attrax.for_cpu(wide))(x, kernel), wide(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_values_that_are_not_finite():
    """Winograd's convolution leaves them where they were, though some as NaN."""
    x, kernel = normal(4, 8, 8, 64).at[0, 4, 4, 0].set(jnp.inf), normal(3, 3, 64, 64)
    found, expected = jax.jit(attrax.for_cpu(three_by_three))(x, kernel), three_by_three(x, kernel)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.isinf(expected).any() and np.isnan(found).any()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-11)


def test_what_was_equal_in_a_flat_region_stays_equal():
    """So that the maximum of a window is the first of its equal values, as before."""
    kernel = normal(3, 3, 64, 64).astype("float32")
    fast = jax.jit(attrax.for_cpu(three_by_three))
    column = normal(1, 8, 1, 64).astype("float32")
    flat = jnp.broadcast_to(column[:, :1], (4, 8, 9, 64))
    inside = fast(flat, kernel)[0, 1:-1, 1:-1]
    np.testing.assert_array_equal(inside, np.broadcast_to(inside[:1, :1], inside.shape))
    rows = fast(jnp.broadcast_to(column, (4, 8, 9, 64)), kernel)[0, :, 1:-1]
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape))


@pytest.mark.soak
@pytest.mark.parametrize("dims", [("NCHW", "OIHW", "NCHW"), ("NHWC", "OHWI", "NCHW")])
def test_other_layouts(dims):
    x = normal(2, 4, 7, 6) if dims[0] == "NCHW" else normal(2, 7, 6, 4)
    for groups, space in ((4, (3, 3)), (1, (1, 1)), (1, (3, 3))):
        kernel = (
            normal(4, 4 // groups, *space) if dims[1] == "OIHW" else normal(4, *space, 4 // groups)
        )
        fn = lambda x, k, g=groups: lax.conv_general_dilated(  # noqa: E731
            x, k, (2, 1), "SAME", dimension_numbers=dims, feature_group_count=g
        )
        assert_same(fn, x, kernel)


@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [
        pytest.param(*case, marks=[pytest.mark.soak] if i else [])
        for i, case in enumerate(
            itertools.product([(3, 3), (2, 2)], [(2, 2), (1, 2)], ["SAME", "VALID"])
        )
    ],
)
def test_max_pooling_and_which_of_equal_values_keeps_the_gradient(window, stride, padding):
    fn = lambda x: nn.max_pool(x, window, stride, padding)  # noqa: E731
    x = normal(2, 7, 6, 3)
    # Rounded, many values of a window are equal.
    for values in (x, jnp.round(x)):
        gradient = jax.grad(lambda x: jnp.sum(fn(x) @ jnp.arange(3.0)))
        expected = jax.jit(gradient)(values)
        found = jax.jit(attrax.for_cpu(gradient))
        np.testing.assert_allclose(found(values), expected, rtol=0, atol=1e-12)
        assert primitives(found, values)["select_and_scatter_add"] == 0
        assert primitives(gradient, values)["select_and_scatter_add"] == 1


def test_max_pooling_that_leaves_nothing():
    pool = jax.grad(lambda x: nn.max_pool(x, (3, 3), (2, 2), "VALID").sum())
    x = normal(1, 2, 2, 3)
    np.testing.assert_array_equal(jax.jit(attrax.for_cpu(pool))(x), np.zeros((1, 2, 2, 3)))


class Network(nn.Module):
    """A stem, depthwise and pointwise convolutions, max-pooling, in a batch of one."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Conv(4, (3, 3), (2, 2), name="stem")(x))
        x = jnp.tanh(nn.Conv(4, (3, 3), feature_group_count=4, name="depthwise")(x))
        x = nn.max_pool(jnp.tanh(nn.Conv(6, (1, 1), name="pointwise")(x)), (2, 2), (2, 2))
        return nn.Dense(3, name="head")(x.mean((0, 1)))


@pytest.fixture(scope="module")
def model():
    with jax.enable_x64(True):
        module = Network(parent=None)
        x = normal(12, 10, 3)
        variables = jax.jit(module.init)(jax.random.key(0), x)
        variables = jax.tree.map(lambda leaf: leaf.astype("float64"), variables)
        return attrax.from_linen(module, variables), x


def explain(model, x):
    fn = lambda x: attrax.scores.logit(1)(model(x))  # noqa: E731
    return attrax.integrated_gradients(fn, x, rule=attrax.quadrature.midpoint(6), batch_size=4)


def test_an_attribution_inside_of_its_loop(model):
    model, x = model
    expected = jax.jit(explain)(model, x)
    found = jax.jit(attrax.for_cpu(explain)).lower(model, x).compile()
    np.testing.assert_allclose(found(model, x), expected, rtol=0, atol=1e-12)
    counts = primitives(attrax.for_cpu(explain), model, x)
    assert counts["feature_group_count=4"] == counts["select_and_scatter_add"] == 0
    assert primitives(explain, model, x)["feature_group_count=4"] > 0
    # The kernels of the derivatives are reversed once, before the loop.
    text = found.as_text()
    assert "reverse(" in text
    assert "reverse(" not in reached(text, re.search(r"body=%?([\w.\-]+)", text)[1])


def reached(text, name):
    """The text of a computation of a compiled program, and of all that it calls."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    waiting, seen = [name], {}
    while waiting:
        name = waiting.pop()
        if name in bodies and name not in seen:
            seen[name] = bodies[name]
            waiting += re.findall(r"%([\w.\-]+)", bodies[name])
    return "\n".join(seen.values())


@pytest.mark.soak
def test_the_derivative_of_an_attribution_and_attributions_of_a_batch(model):
    model, x = model
    loss = lambda explain: jax.grad(lambda model, x: jnp.sum(explain(model, x) ** 2))  # noqa: E731
    for found, wanted in zip(
        jax.tree.leaves(jax.jit(loss(attrax.for_cpu(explain)))(model, x)),
        jax.tree.leaves(jax.jit(loss(explain))(model, x)),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)
    mapped = jax.jit(jax.vmap(attrax.for_cpu(explain), (None, 0)))(model, jnp.stack([x, -x]))
    np.testing.assert_allclose(mapped[0], jax.jit(explain)(model, x), rtol=0, atol=1e-12)


def test_a_model_stays_a_model_with_the_same_layers(model):
    model, x = model
    fast = attrax.for_cpu(model)
    assert isinstance(fast, attrax.Model)
    names = [layer.name for layer in attrax.layers(model, x)]
    found = [layer.name for layer in attrax.layers(fast, x)]
    assert set(names) <= set(found)
    z, tail = attrax.cut(fast, x, at="depthwise")
    np.testing.assert_allclose(z, attrax.capture(model, x, at="depthwise"), rtol=0, atol=1e-13)
    np.testing.assert_allclose(tail(z), model(x), rtol=0, atol=1e-13)
    # The weights are inputs of the compiled program, and a second call finds its trace.
    traces = 0

    @jax.jit
    def call(model, x):
        nonlocal traces
        traces += 1
        return model(x)

    call(fast, x), call(attrax.for_cpu(model), 2 * x)
    assert traces == 1


@pytest.mark.parametrize("derivatives", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_programs_inside_of_programs(derivatives):
    kernel = normal(3, 3, 1, 4)
    conv = lambda x: lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )

    def fn(x):
        x, ys = lax.scan(lambda c, _: (jnp.tanh(conv(c)), c[0, 0, 0]), x, None, length=2)
        x = lax.cond(x.sum() > 0, lambda x: jax.jit(conv)(x), lambda x: -conv(x), x)
        return jax.checkpoint(lambda x: jnp.tanh(conv(x)))(x).sum() + ys.sum()

    x = normal(1, 5, 4, 4)
    np.testing.assert_allclose(jax.jit(attrax.for_cpu(fn))(x), fn(x), rtol=0, atol=1e-11)
    if derivatives:
        assert_same(lambda x: fn(x)[None], x)
    counted = lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, conv(c[1])), (0, x))  # noqa: E731
    found = jax.jit(attrax.for_cpu(counted))(x)
    np.testing.assert_allclose(found[1], counted(x)[1], rtol=0, atol=1e-11)
    for program in (fn, counted):
        assert primitives(attrax.for_cpu(program), x)["conv_general_dilated"] == 0


def test_what_is_not_slow_stays_as_it_is():
    def fn(x, w):
        return jnp.tanh(x @ w), {"integers": jnp.arange(3), "text": "kept"}

    x, w = normal(4, 5), normal(5, 2)
    y, rest = attrax.for_cpu(fn)(x, w)
    np.testing.assert_array_equal(y, fn(x, w)[0])
    assert rest["text"] == "kept" and rest["integers"].tolist() == [0, 1, 2]
    counts = lax.conv_general_dilated(
        jnp.ones((1, 1, 3), int), jnp.ones((1, 1, 2), int), (1,), "SAME"
    )
    whole = lambda x: lax.conv_general_dilated(x, jnp.ones((1, 1, 2), int), (1,), "SAME")  # noqa: E731
    np.testing.assert_array_equal(attrax.for_cpu(whole)(jnp.ones((1, 1, 3), int)), counts)


def test_other_dtypes_keep_theirs():
    kernel = normal(3, 3, 1, 4).astype(jnp.bfloat16)
    conv = lambda x: lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    x = normal(1, 5, 4, 4).astype(jnp.bfloat16)
    found = attrax.for_cpu(conv)(x)
    assert found.dtype == jnp.bfloat16
    exact = conv(x).astype("float32")
    np.testing.assert_allclose(found.astype("float32"), exact, atol=2e-2 * float(abs(exact).max()))


@pytest.mark.parametrize("preferred", [None, "float32"])
@pytest.mark.parametrize(
    ("kernel", "spacing", "groups"),
    [((3, 3, 1, 4), (1, 1), 4), ((1, 2, 4, 6), (3, 2), 1)],
    ids=["depthwise", "phases without a point"],
)
def test_under_strict_promotion(kernel, spacing, groups, preferred):
    x, kernel = (normal(*shape).astype(jnp.bfloat16) for shape in ((1, 5, 4, 4), kernel))
    conv = lambda x, kernel: lax.conv_general_dilated(  # noqa: E731
        x,
        kernel,
        (1, 1),
        ((1, 1), (1, 1)),
        spacing,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=preferred,
    )
    expected = jax.jit(conv)(x, kernel)
    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(attrax.for_cpu(conv))(x, kernel)
    assert found.dtype == expected.dtype == (preferred or jnp.bfloat16)
    found, expected = found.astype("float32"), expected.astype("float32")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * np.abs(expected).max())


def test_sums_are_kept_in_float32():
    """Terms of opposite sign that are too large for float16 cancel, as in XLA's own sum."""
    x = jnp.full((1, 2, 4), 300.0, jnp.float16)
    kernel = jnp.stack([jnp.full((1, 4), 300.0), jnp.full((1, 4), -300.0)]).astype(jnp.float16)
    conv = lambda x: lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=4
    )
    np.testing.assert_array_equal(attrax.for_cpu(conv)(x), np.zeros((1, 1, 4)))
    assert attrax.for_cpu(conv)(x).dtype == jnp.float16


def test_algorithms_of_convolutions_are_left_to_them():
    x, kernel = normal(1, 5, 5, 3).astype("float32"), normal(1, 1, 3, 4).astype("float32")

    def fn(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.DotAlgorithmPreset.TF32_TF32_F32,
        )

    counts = primitives(attrax.for_cpu(fn), x, kernel)
    assert counts["conv_general_dilated"] == 1 and counts["dot_general"] == 0
    np.testing.assert_array_equal(jax.jit(attrax.for_cpu(fn))(x, kernel), jax.jit(fn)(x, kernel))


def test_large_windows_are_left_alone():
    pool = jax.grad(lambda x: nn.max_pool(x, (12, 12)).sum())
    assert primitives(attrax.for_cpu(pool), normal(1, 12, 12, 2))["select_and_scatter_add"] == 1
    blur = lambda x: lax.conv_general_dilated(  # noqa: E731
        x, jnp.ones((25, 25, 1, 4)), (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 4
    )
    assert primitives(attrax.for_cpu(blur), normal(1, 5, 5, 4))["conv_general_dilated"] == 1


def test_inside_of_a_shard_map_it_is_left_as_it_is():
    kernel = normal(3, 3, 1, 4)
    conv = lambda x: lax.conv_general_dilated(  # noqa: E731
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    mapped = jax.shard_map(conv, mesh=mesh, in_specs=spec, out_specs=spec)
    x = normal(2, 5, 4, 4)
    found = jax.jit(attrax.for_cpu(mapped))(x)
    np.testing.assert_allclose(found, conv(x), rtol=0, atol=1e-12)


def test_functions_with_a_rule_of_their_own_keep_it():
    kernel = normal(3, 3, 1, 4)

    @jax.custom_vjp
    def conv(x):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 4
        )

    conv.defvjp(lambda x: (conv(x), None), lambda _, g: (3 * g,))
    x = normal(1, 5, 4, 4)
    fast = attrax.for_cpu(conv)
    np.testing.assert_allclose(fast(x), conv(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda x: fast(x).sum())(x), jnp.full_like(x, 3))


def test_only_on_a_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fn = lambda x: x  # noqa: E731
    assert attrax.for_cpu(fn) is fn


def test_it_must_be_a_function():
    with pytest.raises(TypeError, match="`fn` must be a function; got float"):
        attrax.for_cpu(1.0)
