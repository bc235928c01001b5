"""Class activation maps: closed forms, slow references, a Flax network."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import attrax
from attrax import scores
from comparisons import close

_RNG = np.random.default_rng(11)
Z = jnp.asarray(_RNG.gamma(1.0, size=(3, 4, 5)), "float32")  # as after a ReLU
KERNEL = jnp.asarray(_RNG.normal(size=(5, 2)), "float32")
HIDDEN = _RNG.normal(size=(5, 6)) / 2
IMAGE = jnp.asarray(_RNG.normal(size=(6, 8, 3)), "float32")


def mean_head(z):
    """A mean over positions and a dense layer: the networks that CAM was made for."""
    return jnp.mean(z, axis=(0, 1)) @ KERNEL[:, 0] + 0.25


def smooth_head(z):
    """A head whose gradient differs from position to position, in the dtype of z."""
    hidden = jnp.tanh(z @ jnp.asarray(HIDDEN, z.dtype))
    places = jnp.linspace(-1, 1, z.shape[0] * z.shape[1], dtype=z.dtype).reshape(z.shape[:2])
    return jnp.sum(hidden * hidden * places[..., None]) + jnp.sum(hidden)


def seen(x):
    """A score of an image, in the dtype of x."""
    return jnp.sum(jnp.tanh(x[:3])) - jnp.mean(x * x)


def maps(z):
    """All maps at once: compiled together they take a fraction of the time."""
    return {
        "cam": attrax.cam(z, KERNEL[:, 0]),
        "grad_cam": attrax.grad_cam(smooth_head, z),
        "grad_cam_plus_plus": attrax.grad_cam_plus_plus(smooth_head, z),
        "hires_cam": attrax.hires_cam(smooth_head, z),
        "layer_cam": attrax.layer_cam(smooth_head, z),
        "score_cam": attrax.score_cam(seen, IMAGE.astype(z.dtype), z, batch_size=2),
    }


# Compiled: operation by operation everything takes ten times as long.
grad_cam = jax.jit(attrax.grad_cam, static_argnums=0)
grad_cam_plus_plus = jax.jit(attrax.grad_cam_plus_plus, static_argnums=0)
hires_cam = jax.jit(attrax.hires_cam, static_argnums=0)
layer_cam = jax.jit(attrax.layer_cam, static_argnums=0)
score_cam = jax.jit(attrax.score_cam, static_argnums=0, static_argnames="batch_size")
EXPLAIN = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
    "layer_cam": layer_cam,
    "score_cam": lambda fn, z: score_cam(fn, IMAGE, z),
}
by_gradient = pytest.mark.parametrize("name", [name for name in EXPLAIN if name != "score_cam"])


# Answers known on paper.


def test_behind_a_mean_and_a_dense_layer_most_maps_are_cam():
    found = attrax.cam(Z, KERNEL[:, 0])
    close(found, np.asarray(Z) @ np.asarray(KERNEL[:, 0]))
    assert jnp.mean(found) + 0.25 == pytest.approx(float(mean_head(Z)), rel=1e-5)
    close(grad_cam(mean_head, Z), found / 12)
    close(hires_cam(mean_head, Z), found / 12)
    positive = attrax.cam(Z, jax.nn.relu(KERNEL[:, 0]))
    close(layer_cam(mean_head, Z), positive / 12)


def test_all_classes_at_a_layer_of_ordinary_size():
    # Behind a mean the gradient is the same at all positions, and over classes the activation is:
    # XLA has been seen to give wrong sums of products of such arrays, only where they are large.
    z = jnp.asarray(_RNG.gamma(1.0, size=(7, 7, 1280)), "float32")
    kernel = jnp.asarray(_RNG.normal(size=(1280, 3)), "float32")

    def explain(column):
        head = lambda z: jnp.mean(z, axis=(0, 1)) @ column  # noqa: E731
        found = [attrax.cam(z, column)]
        return found + [method(head, z) for name, method in EXPLAIN.items() if name != "score_cam"]

    cam, *others = jax.jit(jax.vmap(explain, in_axes=1))(kernel)
    wide, columns = np.asarray(z, np.float64), np.asarray(kernel, np.float64)
    positive = np.maximum(columns, 0) / 49
    share = 49 * positive / (2 + positive * wide.sum(axis=(0, 1))[:, None])
    for found, weights in zip(
        [cam, *others], [columns, columns / 49, share, columns / 49, positive], strict=True
    ):
        close(found, np.moveaxis(wide @ weights, -1, 0))


def test_classes_are_mapped_over_the_columns():
    both = jax.vmap(attrax.cam, in_axes=(None, 1))(Z, KERNEL)
    close(both, jnp.stack([attrax.cam(Z, KERNEL[:, 0]), attrax.cam(Z, KERNEL[:, 1])]))


def test_hires_cam_is_gradient_times_activation():
    slope = np.asarray(attrax.gradient(smooth_head, Z))
    close(hires_cam(smooth_head, Z), np.sum(slope * np.asarray(Z), axis=-1))
    close(
        hires_cam(smooth_head, Z),
        attrax.positions(attrax.gradient_times_input(smooth_head, Z)),
    )
    close(layer_cam(smooth_head, Z), np.sum(np.maximum(slope, 0) * np.asarray(Z), axis=-1))
    close(grad_cam(smooth_head, Z), np.asarray(Z) @ slope.mean(axis=(0, 1)))


def test_hires_cam_is_complete_behind_one_dense_layer():
    weights = jnp.asarray(_RNG.normal(size=Z.size), "float32")
    head = lambda z: z.reshape(-1) @ weights - 3  # noqa: E731
    assert hires_cam(head, Z).sum() == pytest.approx(float(head(Z) + 3), rel=1e-4)
    # The mean over positions throws away which of them counts.
    assert abs(grad_cam(head, Z).sum() - (head(Z) + 3)) > 0.1


def test_grad_cam_shows_positions_that_do_not_matter_and_hires_cam_does_not():
    corner = lambda z: jnp.sum(z[0, 0])  # noqa: E731
    elsewhere = np.s_[1:, 1:]
    assert (grad_cam(corner, Z)[elsewhere] > 0).all()
    assert (hires_cam(corner, Z)[elsewhere] == 0).all()


def test_grad_cam_plus_plus_on_paper():
    # One channel, gradients 2, 0 and -1, a sum of 4: only the first counts, 2/(2 + 2 * 4).
    z = jnp.array([[[1.0], [0.0], [3.0]]])
    slope = jnp.array([[[2.0], [0.0], [-1.0]]])
    found = grad_cam_plus_plus(lambda z: jnp.sum(slope * z), z)
    close(found, np.array([[0.2, 0.0, 0.6]]))
    assert (grad_cam_plus_plus(lambda z: -jnp.sum(z), z) == 0).all()


def test_grad_cam_plus_plus_against_its_definition():
    # Equations 7 and 10 of the paper with the derivatives of exp(score), one neuron at a time.
    with jax.enable_x64(True):
        z = jnp.asarray(Z[:2, :2, :2], "float64")
        weights = np.asarray(HIDDEN[:2])

        def head(z):
            return jnp.sum(jax.nn.relu(jnp.mean(z, axis=(0, 1)) @ weights - 0.1))

        @jax.jit
        def derivatives(one):
            first = jax.grad(lambda t: jnp.exp(head(z + t * one)))
            second = jax.grad(first)
            return [f(0.0) for f in (first, second, jax.grad(second))]

        expected = np.zeros((2, 2))
        for c in range(2):
            weight = 0.0
            for p in np.ndindex(2, 2):
                d1, d2, d3 = map(float, derivatives(jnp.zeros_like(z).at[(*p, c)].set(1)))
                alpha = d2 / (2 * d2 + np.sum(z[..., c]) * d3) if d1 else 0.0
                weight += alpha * max(d1, 0)
            expected += weight * np.asarray(z[..., c])
        close(jnp.exp(head(z)) * grad_cam_plus_plus(head, z), expected, 1e-10)


def test_grad_cam_plus_plus_at_its_pole():
    # The denominator is 2 + 1 * (-2).
    z = jnp.array([[[-1.0], [-1.0]]])
    explain = lambda z: grad_cam_plus_plus(jnp.sum, z)  # noqa: E731
    assert (explain(z) == 0).all()
    assert np.isfinite(jax.jit(jax.jacobian(explain))(z)).all()


def test_nothing_but_grad_cam_plus_plus_depends_on_the_scale_of_the_score():
    double = lambda z: 2 * smooth_head(z)  # noqa: E731
    for name in ("grad_cam", "hires_cam", "layer_cam"):
        close(EXPLAIN[name](double, Z), 2 * EXPLAIN[name](smooth_head, Z))
    once, twice = (grad_cam_plus_plus(head, Z) for head in (smooth_head, double))
    assert not np.allclose(twice / twice.max(), once / once.max(), rtol=1e-2)


@by_gradient
def test_a_score_without_the_layer_has_a_map_of_zeros(name):
    assert (EXPLAIN[name](lambda z: jnp.float32(1.0), Z) == 0).all()


@by_gradient
def test_other_numbers_of_positions(name):
    explain = EXPLAIN[name]
    flat = explain(lambda z: smooth_head(z.reshape(Z.shape)), Z.reshape(12, 5))
    close(flat, explain(smooth_head, Z).reshape(12))
    options = {"positions": 3} if name in POOLING else {}
    deep = getattr(attrax, name)(lambda z: smooth_head(z[0]), Z[None], **options)
    close(deep[0], explain(smooth_head, Z))


# Score-CAM.


def score_cam_in_a_loop(fn, x, z, baseline=0.0):
    """The definition, one channel after the other."""
    values, kept = [], []
    for c in range(z.shape[-1]):
        mask = np.asarray(jax.image.resize(z[..., c], x.shape[:2], "linear"))
        if mask.max() > mask.min():
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            masked = baseline + mask[..., None] * (np.asarray(x) - baseline)
            values.append(float(fn(jnp.asarray(masked, "float32"))))
            kept.append(np.asarray(z[..., c], np.float64))
    weights = np.exp(np.array(values) - max(values))
    return np.tensordot(weights / weights.sum(), np.stack(kept), 1)


def test_score_cam_against_a_loop():
    close(score_cam(seen, IMAGE, Z), score_cam_in_a_loop(seen, IMAGE, Z))
    grey = jnp.full_like(IMAGE, 0.5)
    found = score_cam(seen, IMAGE, Z, baseline=grey)
    close(found, score_cam_in_a_loop(seen, IMAGE, Z, 0.5))
    assert not np.allclose(found, score_cam(seen, IMAGE, Z), rtol=1e-2)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_score_cam_does_not_depend_on_the_batch_size(batch_size):
    expected = score_cam(seen, IMAGE, Z, batch_size=100)
    close(score_cam(seen, IMAGE, Z, batch_size=batch_size), expected)


def test_score_cam_leaves_out_channels_that_mask_nothing():
    flat = jnp.concatenate([Z, jnp.full((3, 4, 1), 7.0)], axis=-1)
    close(score_cam(seen, IMAGE, flat), score_cam(seen, IMAGE, Z))
    nothing = score_cam(seen, IMAGE, jnp.ones((3, 4, 2)))
    assert (nothing == 0).all()


def test_score_cam_of_log_probability_weighs_by_probability():
    model = lambda x: jnp.stack([seen(x), jnp.sum(x[0, 0]), 0.0])  # noqa: E731
    fn = lambda x: scores.log_probability(1)(model(x))  # noqa: E731
    weights = []
    for c in range(5):
        mask = attrax.upsample(Z[..., c], (6, 8))
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        weights.append(scores.probability(1)(model(IMAGE * mask[..., None])))
    expected = attrax.cam(Z, jnp.stack(weights) / sum(weights))
    close(score_cam(fn, IMAGE, Z), expected)


def test_score_cam_needs_no_gradient():
    rounded = lambda x: jnp.sum(jnp.round(x))  # noqa: E731
    found = score_cam(rounded, IMAGE, Z)
    close(found, score_cam_in_a_loop(rounded, IMAGE, Z))


def test_score_cam_does_not_overflow():
    found = score_cam(lambda x: 1000 * seen(x), IMAGE, Z)
    assert np.isfinite(found).all()


# Upsampling.


def test_upsampling():
    small = jnp.array([[0.0, 4.0], [8.0, 12.0]])
    cells = attrax.upsample(small, (4, 4), method=jax.image.ResizeMethod.NEAREST)
    assert cells.tolist() == np.kron(small, np.ones((2, 2))).tolist()
    smooth = attrax.upsample(small, (4, 4))
    assert smooth[0].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert smooth[:, 0].tolist() == [0.0, 2.0, 6.0, 8.0]


def test_upsampling_leaves_other_axes_and_dtypes_alone():
    close(attrax.upsample(Z, (9, 8))[..., 2], attrax.upsample(Z[..., 2], (9, 8)))
    assert attrax.upsample(jnp.ones((3, 4), jnp.bfloat16), (9, 8)).dtype == jnp.bfloat16
    assert attrax.upsample(jnp.ones(3), (7,)).tolist() == [1.0] * 7
    assert attrax.upsample(Z, ()).shape == Z.shape


# A Flax network, unmodified.


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="early")(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(6, (3, 3), name="late")(x))
        return nn.Dense(2, name="head")(jnp.mean(x, axis=(-3, -2)))


@pytest.mark.soak
def test_a_flax_network():
    variables = jax.jit(Network().init)(jax.random.key(0), IMAGE)
    model = attrax.from_linen(Network(), variables)

    @jax.jit
    def explain(model, x, i):
        z, tail = attrax.cut(model, x, at="relu#1")
        fn = lambda z: scores.logit(i)(tail(z))  # noqa: E731
        whole = lambda x: scores.logit(i)(model(x))  # noqa: E731
        found = grad_cam(fn, z)
        return z, found, attrax.upsample(found, x.shape[:2]), attrax.score_cam(whole, x, z)

    kernel, logits = variables["params"]["head"]["kernel"], jax.jit(lambda x: model(x))
    for i in range(2):
        z, found, large, by_score = explain(model, IMAGE, i)
        assert z.shape == (3, 4, 6)
        close(found, attrax.cam(z, kernel[:, i]) / 12)
        assert large.shape == (6, 8) and by_score.shape == (3, 4)
        close(by_score, score_cam_in_a_loop(lambda x, i=i: logits(x)[i], IMAGE, z))


# Transformations and dtypes.


@pytest.mark.soak
@pytest.mark.usefixtures("strict")
def test_vmap_is_a_loop():
    zs = jnp.stack([Z, 2 * Z[::-1]])
    one, together = jax.jit(maps), jax.jit(jax.vmap(maps))(zs)
    jax.tree.map(close, together, jax.tree.map(lambda *m: jnp.stack(m), *map(one, zs)))


@pytest.mark.soak
def test_gradients_of_the_maps():
    with jax.enable_x64(True):
        z = jnp.asarray(np.asarray(Z), "float64")
        compiled = jax.jit(maps)
        assert {found.dtype for found in compiled(z).values()} == {jnp.dtype("float64")}
        check_grads(compiled, (z,), order=1)


def test_bfloat16():
    half, compiled = Z.astype(jnp.bfloat16), jax.jit(maps)
    found, wide = compiled(half), compiled(half.astype("float32"))
    assert {m.dtype for m in found.values()} == {jnp.dtype(jnp.bfloat16)}
    assert {m.shape for m in found.values()} == {(3, 4)}
    jax.tree.map(lambda m, w: close(m.astype("float32"), w, 2e-2), found, wide)


@pytest.mark.parametrize("name", ["hires_cam", "layer_cam"])
def test_the_sum_of_a_batch_explains_each_example(name):
    zs = jnp.stack([Z, 2 * Z[::-1]])
    explain = EXPLAIN[name]
    together = explain(lambda zs: jnp.sum(jax.vmap(smooth_head)(zs)), zs)
    close(together, jax.vmap(lambda z: explain(smooth_head, z))(zs))


# What is refused.


@pytest.mark.parametrize("name", EXPLAIN)
def test_refusals_of_every_map(name):
    explain = EXPLAIN[name]
    with pytest.raises(ValueError, match=r"`z` must have positions and channels.*got shape \(5,\)"):
        explain(jnp.sum, jnp.ones(5))
    with pytest.raises(ValueError, match="`z` must be one array; got a dict"):
        explain(jnp.sum, {"a": Z})
    with pytest.raises(TypeError, match="`z` must be floating; got int32"):
        explain(jnp.sum, jnp.ones((2, 2, 2), int))
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape"):
        explain(lambda z: z, Z)


POOLING = {
    "grad_cam": lambda z, **options: attrax.grad_cam(jnp.sum, z, **options),
    "grad_cam_plus_plus": lambda z, **options: attrax.grad_cam_plus_plus(jnp.sum, z, **options),
    "score_cam": lambda z, **options: attrax.score_cam(jnp.sum, z, z, **options),
}


@pytest.mark.parametrize("name", POOLING)
def test_a_batch_is_not_taken_for_an_example(name):
    batch = jnp.stack([Z, Z])
    message = r"one example, .*got shape \(2, 3, 4, 5\)\..*`jax\.vmap`.*pass `positions=3`"
    with pytest.raises(ValueError, match=message):
        POOLING[name](batch)
    assert POOLING[name](batch, positions=3).shape == (2, 3, 4)
    assert jax.vmap(POOLING[name])(batch).shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"`z` must have 1 axes of positions, .*\(3, 4, 5\)"):
        POOLING[name](Z, positions=1)


def test_other_refusals():
    with pytest.raises(ValueError, match=r"one number for each channel of `z`; got \(5, 2\)"):
        attrax.cam(Z, KERNEL)
    with pytest.raises(ValueError, match="`weights` must be one array; got a dict"):
        attrax.cam(Z, {"kernel": KERNEL[:, 0]})
    with pytest.raises(TypeError, match="`weights` must be floating; got int32"):
        attrax.cam(Z, jnp.ones(5, int))
    with pytest.raises(ValueError, match=r"`x` must begin .* got \(6,\) against \(3, 4, 5\)"):
        attrax.score_cam(seen, jnp.ones(6), Z)
    with pytest.raises(ValueError, match="`x` must be one array; got a tuple"):
        attrax.score_cam(seen, (IMAGE,), Z)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(\)"):
        attrax.score_cam(seen, IMAGE, Z, baseline=0.5)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        attrax.score_cam(seen, IMAGE, Z, batch_size=0)
    with pytest.raises(ValueError, match=r"got \(6, 8, 3\) against \(3, 4\)\. .*`x\.shape\[:2\]`"):
        attrax.upsample(jnp.ones((3, 4)), IMAGE.shape)
    for shape in (64, 64.0, None, "64", jnp.array(64)):
        with pytest.raises(TypeError, match=r"`shape` must be a tuple .* `x\.shape\[:2\]`; got"):
            attrax.upsample(jnp.ones((3, 4)), shape)
    with pytest.raises(TypeError, match=r"`shape` must be an int; got 2\.5"):
        attrax.upsample(jnp.ones((3, 4)), (2.5, 2))
    with pytest.raises(ValueError, match="`shape` must be at least 1; got 0"):
        attrax.upsample(jnp.ones((3, 4)), (0, 2))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_score_cam_gives_no_weight_to_a_score_of_minus_infinity(batch_size):
    """The logarithm of a probability of 0, beside others that are finite."""
    worst = jnp.argmin(jnp.sum(Z, axis=(0, 1)))

    def score(x):
        return jnp.where(jnp.sum(x) > 0.9, jnp.log(jnp.sum(x)), -jnp.inf)

    image = Z[..., worst] / Z[..., worst].max()
    found = attrax.score_cam(score, image, Z, batch_size=batch_size)
    low, high = Z.min((0, 1), keepdims=True), Z.max((0, 1), keepdims=True)
    masks = (Z - low) / (high - low)
    seen_through = jax.vmap(lambda mask: score(mask * image), in_axes=-1)(masks)
    assert np.isfinite(found).all()
    close(found, Z @ jax.nn.softmax(seen_through))
