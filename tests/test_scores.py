"""Scores: their values, their gradients, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from attrax import scores
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

Y = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
P = np.exp(Y) / np.exp(Y).sum()
LAYER = np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 4
INDEXED = {
    "logit": scores.logit,
    "probability": scores.probability,
    "log_probability": scores.log_probability,
    "contrast": scores.contrast,
    "contrast against": lambda i: scores.contrast(0, i),
    "margin": scores.margin,
    "channel": scores.channel,
    "neuron": scores.neuron,
}


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (scores.logit(2), Y[2]),
        (scores.probability(2), P[2]),
        (scores.log_probability(1), np.log(P[1])),
        (scores.max_logit(), 2.0),
        (scores.logsumexp(), np.log(np.exp(Y).sum())),
        (scores.contrast(2), Y[2]),
        (scores.contrast(2, 1), Y[2] - Y[1]),
        (scores.contrast(1, 1), 0.0),
        (scores.margin(2), Y[2] - Y[0]),
        (scores.margin(0), Y[0] - Y[2]),
        (scores.channel(3), Y[3]),
        (scores.neuron(3), Y[3]),
        (scores.direction([1.0, 2.0, 0.0, -4.0]), -2.5),
        (scores.norm(), np.sqrt(np.sum(Y**2))),
        (scores.threshold(0.5), 1.0 + 2.0 - 0.25),
    ],
)
def test_values_of_outputs(score, expected):
    assert score(jnp.asarray(Y)) == pytest.approx(expected, rel=1e-6)
    assert score(Y) == pytest.approx(expected, rel=1e-6)
    assert score(jnp.asarray(Y)).shape == ()


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (scores.channel(1), LAYER[..., 1].sum()),
        (scores.channel(1, axis=0), LAYER[1].sum()),
        (scores.channel(2, reduce=jnp.mean), LAYER[..., 2].mean()),
        (scores.channel(2, reduce=jnp.max), LAYER[..., 2].max()),
        (scores.neuron(1, 0, 2), LAYER[1, 0, 2]),
        (scores.direction(np.array([1, 0, -1])), (LAYER[..., 0] - LAYER[..., 2]).sum()),
        (scores.norm(), np.sqrt((LAYER**2).sum())),
        (scores.threshold(0.5), np.sum(np.sign(LAYER - 0.5) * LAYER)),
    ],
)
def test_values_of_layers(score, expected):
    assert score(jnp.asarray(LAYER)) == pytest.approx(expected, rel=1e-6)


SMOOTH = {
    "logit": scores.logit(1),
    "probability": scores.probability(1),
    "log_probability": scores.log_probability(1),
    "max_logit": scores.max_logit(),
    "logsumexp": scores.logsumexp(),
    "contrast": scores.contrast(1, 2),
    "margin": scores.margin(1),
    "direction": scores.direction([1.0, 2.0, 3.0, 4.0]),
    "norm": scores.norm(),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_to_second_order(name):
    with jax.enable_x64(True):
        check_grads(SMOOTH[name], (jnp.asarray(Y, "float64"),), order=2, modes=["rev"])


def test_probability_survives_masked_and_huge_logits():
    y = jnp.array([-jnp.inf, 1000.0, 0.0])
    for score in (scores.probability(1), scores.log_probability(1), scores.logsumexp()):
        assert np.isfinite(score(y))
        assert np.isfinite(jax.grad(score)(y)).all()


@pytest.mark.parametrize("name", INDEXED)
def test_a_traced_index_gives_what_a_static_one_gives(name):
    y = jnp.asarray(Y)
    for i in range(4):
        for dtype in ("int32", "uint8"):
            traced = jax.jit(lambda i, y: INDEXED[name](i)(y))(jnp.asarray(i, dtype), y)
            assert traced == INDEXED[name](i)(y)
    mapped = jax.vmap(lambda i: INDEXED[name](i)(y))(jnp.arange(4))
    np.testing.assert_array_equal(mapped, [INDEXED[name](i)(y) for i in range(4)])


@pytest.mark.parametrize("i", [4, -1, 1000])
@pytest.mark.parametrize("name", INDEXED)
def test_a_traced_index_out_of_range_gives_nan_and_no_neighbour(name, i):
    value, slope = jax.jit(jax.value_and_grad(lambda y, i: INDEXED[name](i)(y)))(
        jnp.asarray(Y), jnp.asarray(i)
    )
    assert np.isnan(value)
    assert np.isnan(slope).all()


def test_a_narrow_index_is_compared_with_a_large_size():
    y = jnp.arange(1000.0)
    assert jax.jit(lambda i: scores.logit(i)(y))(jnp.int8(100)) == 100
    assert np.isnan(jax.jit(lambda i: scores.logit(i)(y))(jnp.int8(-1)))
    with jax.enable_x64(True):
        wraps = jnp.asarray(2**32, "int64")
        assert np.isnan(jax.jit(lambda i: scores.logit(i)(y))(wraps))


@pytest.mark.parametrize("i", [4, -1, np.int64(1000)])
@pytest.mark.parametrize("name", INDEXED)
def test_a_static_index_out_of_range_raises(name, i):
    with pytest.raises(ValueError, match=f"index {i} is out of range: outputs have 4 entries"):
        jax.eval_shape(INDEXED[name](i), Y)


@pytest.mark.parametrize("i", [1.0, "cat", None, (1,), jnp.ones(2, jnp.int32), jnp.ones(())])
def test_an_index_must_be_one_integer(i):
    for make in (scores.logit, scores.margin, scores.channel, scores.neuron):
        with pytest.raises(TypeError, match="an index must be one integer; got"):
            make(i)


def test_a_score_is_made_before_it_is_given_outputs():
    with pytest.raises(TypeError, match=r"choose the class first: `scores\.logit\(3\)\(outputs\)`"):
        jax.grad(scores.logit)(jnp.asarray(Y))


@pytest.mark.parametrize(
    "name", ["logit", "probability", "log_probability", "contrast", "contrast against", "margin"]
)
@pytest.mark.parametrize("shape", [(), (8, 10)])
def test_class_scores_are_of_one_example(name, shape):
    score = INDEXED[name](0)
    with pytest.raises(
        ValueError,
        match=r"scores one example, outputs of shape \(classes,\).*`attrax\.unbatched\(model\)`",
    ):
        score(jnp.zeros(shape))


def test_scores_without_index_are_of_one_example():
    for score in (scores.max_logit(), scores.logsumexp()):
        with pytest.raises(ValueError, match=r"scores one example, .* got \(8, 10\)"):
            score(jnp.zeros((8, 10)))


def test_other_refusals():
    with pytest.raises(ValueError, match=r"`margin` needs at least two classes; got shape \(1,\)"):
        scores.margin(0)(jnp.zeros(1))
    with pytest.raises(
        ValueError, match=r"`neuron` needs one index for each axis; got 1 for.*unbatched"
    ):
        scores.neuron(0)(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-1, 1\) here; got 1"):
        scores.channel(0, axis=1)(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"`reduce` must return a scalar; got shape \(2,\)"):
        scores.channel(0, reduce=lambda y: y)(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"`vector` must be one-dimensional; got shape \(2, 1\)"):
        scores.direction(np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"`vector` must have the length of the last axis; got"):
        scores.direction(np.ones(2))(jnp.zeros((4, 3)))
    with pytest.raises(TypeError, match="`logit` scores one array; got tuple"):
        scores.logit(0)((jnp.zeros(3), jnp.zeros(3)))
    with pytest.raises(TypeError, match="`logit` scores floating outputs; got int32"):
        scores.logit(0)(jnp.arange(3))


def test_the_norm_has_no_gradient_at_zero():
    slope = jax.grad(scores.norm())
    np.testing.assert_array_equal(slope(jnp.zeros(3)), 0)
    np.testing.assert_array_equal(jax.jacrev(slope)(jnp.zeros(3)), 0)
    np.testing.assert_allclose(slope(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)


def test_the_sign_of_a_threshold_is_not_differentiated():
    slope = jax.grad(scores.threshold(1.0))(jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(slope, [-1, 0, 1])


def test_equal_maxima_share_the_gradient():
    np.testing.assert_array_equal(jax.grad(scores.max_logit())(jnp.ones(4)), 0.25)


def test_scores_of_bfloat16_are_float32():
    y = jnp.asarray(Y, jnp.bfloat16)
    for score in (*SMOOTH.values(), scores.channel(0), scores.neuron(0), scores.threshold(0.0)):
        assert score(y).dtype == jnp.float32
        assert jax.grad(score)(y).dtype == jnp.bfloat16


def test_scores_combine_by_arithmetic():
    score = lambda y: scores.logit(2)(y) - 0.5 * scores.logsumexp()(y)  # noqa: E731
    expected = Y[2] - 0.5 * np.log(np.exp(Y).sum())
    assert score(jnp.asarray(Y)) == pytest.approx(expected, rel=1e-6)


def test_one_of_several_scores():
    choose = scores.one_of(scores.logit(2), scores.logsumexp(), lambda y: y[0])
    assert choose(0)(jnp.asarray(Y)) == Y[2]
    assert choose(1)(jnp.asarray(Y)) == pytest.approx(np.log(np.exp(Y).sum()), rel=1e-6)
    narrow = scores.one_of(scores.logit(2), lambda y: y[0])(1)(jnp.asarray(Y, jnp.bfloat16))
    assert narrow.dtype == jnp.float32
    traced = jax.jit(lambda i: jax.value_and_grad(choose(i))(jnp.asarray(Y)))
    value, slope = traced(1)
    np.testing.assert_allclose(slope, P, rtol=1e-5)
    value, slope = traced(3)
    assert np.isnan(value) and np.isnan(slope).all()
    with pytest.raises(ValueError, match="index 3 is out of range: there are 3 scores"):
        choose(3)(jnp.asarray(Y))


@pytest.mark.parametrize("index", [0, jnp.array(0)])
def test_a_score_that_is_not_chosen_does_nothing(index):
    choose = scores.one_of(scores.logit(0), lambda y: jnp.log(y[1]))
    slope = jax.grad(choose(index))(jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(slope, [1.0, 0.0])


def test_refusals_of_one_of():
    with pytest.raises(ValueError, match="`one_of` must have at least one score"):
        scores.one_of()
    with pytest.raises(ValueError, match=r"a score must return a scalar; got shape \(4,\)"):
        scores.one_of(lambda y: y)(0)(jnp.asarray(Y))
    with pytest.raises(TypeError, match="an index must be one integer"):
        scores.one_of(scores.logit(0))(0.5)


@pytest.mark.parametrize("i", [-1, 2, 7])
def test_one_of_a_traced_index_out_of_range_is_nan_over_integers_too(i):
    choose = scores.one_of(
        lambda y: jnp.sum(y["ids"]).astype("float32"), lambda y: y["logits"][0].astype("float32")
    )
    outputs = {"ids": jnp.arange(3), "logits": jnp.arange(2.0)}
    assert np.isnan(jax.jit(lambda i: choose(i)(outputs))(i))
    assert np.isnan(jax.jit(lambda i: choose(i)({**outputs, "logits": jnp.arange(2)}))(i))
    slope = jax.grad(lambda y: choose(jnp.asarray(i))({**outputs, "logits": y}))(jnp.ones(2))
    assert np.isnan(slope).all()


def test_the_norm_of_a_layer_neither_overflows_nor_vanishes():
    for scale in (1e-30, 1e30):
        value, slope = jax.value_and_grad(scores.norm())(scale * jnp.array([3.0, 4.0]))
        close(value, 5 * scale)
        close(slope, np.array([0.6, 0.8]))
