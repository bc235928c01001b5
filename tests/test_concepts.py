"""Concept activation vectors: sensitivities, scores, and when they are significant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads

import attrax
from attrax import scores

_RNG = np.random.default_rng(3)
POSITIONS, CHANNELS, CLASSES = 5, 6, 4
MIX = jnp.asarray(_RNG.normal(size=(CHANNELS, CLASSES)), "float32")
Z = jnp.asarray(_RNG.normal(size=(POSITIONS, CHANNELS)), "float32")
DIRECTION = jnp.asarray(_RNG.normal(size=CHANNELS), "float32")


def tail(z):
    return jnp.mean(jnp.tanh(z @ MIX), axis=0)


def fn(z):
    return scores.logit(2)(tail(z))


# Sensitivity.


def test_sensitivity_of_a_product():
    # d/ds (2 + s)(3 - 2 s) at s = 0.
    found = attrax.concepts.concept_sensitivity(
        jnp.prod, jnp.array([2.0, 3.0]), jnp.array([1.0, -2.0])
    )
    assert float(found) == -1.0


def test_sensitivity_is_the_gradient_dotted_with_the_direction():
    everywhere = jnp.broadcast_to(DIRECTION, Z.shape)
    gradient = attrax.gradient(fn, Z)
    dotted = float(jnp.sum(gradient * everywhere))
    found = float(
        jax.jit(functools.partial(attrax.concepts.concept_sensitivity, fn))(Z, everywhere)
    )
    assert found == pytest.approx(dotted, rel=1e-5)
    # The score of the same name, of the gradient.
    assert found == pytest.approx(float(scores.direction(DIRECTION)(gradient)), rel=1e-5)
    # Linear in the direction: its length counts.
    back = attrax.concepts.concept_sensitivity(fn, Z, -3 * everywhere)
    assert float(back) == pytest.approx(-3 * found, rel=1e-5)


def test_sensitivity_is_local():
    # A step of the size of the concept may do the opposite.
    fn, x, direction = lambda z: jnp.sin(z[0]), jnp.zeros(1), jnp.full(1, 4.0)
    assert attrax.concepts.concept_sensitivity(fn, x, direction) > 0
    assert fn(x + direction) < fn(x)


def test_sensitivity_at_a_layer_of_examples_in_directions():
    def model(x):
        return tail(attrax.tap("layer", jnp.sin(x)))

    @jax.jit
    def sensitivities(xs, directions):
        def one(x, direction):
            z, tail = attrax.cut(model, x, at="layer")
            return attrax.concepts.concept_sensitivity(
                lambda z: scores.logit(1)(tail(z)), z, direction
            )

        return jax.vmap(lambda x: jax.vmap(lambda v: one(x, v))(directions))(xs)

    xs, directions = jnp.stack([Z, Z + 1, Z + 2]), jnp.stack([jnp.cos(Z), Z])
    found = sensitivities(xs, directions)
    assert found.shape == (3, 2)
    gradient = attrax.gradient(lambda z: tail(z)[1], jnp.sin(xs[2]))
    assert float(found[2, 1]) == pytest.approx(float(jnp.sum(gradient * Z)), rel=1e-4)


def test_sensitivity_in_trees_and_bfloat16():
    tree, direction = {"a": Z, "b": [DIRECTION]}, {"a": jnp.ones_like(Z), "b": [DIRECTION]}
    score = lambda tree: fn(tree["a"]) * jnp.sum(tree["b"][0] ** 2)  # noqa: E731
    slope = attrax.gradient(score, tree)
    expected = float(jnp.sum(slope["a"]) + slope["b"][0] @ DIRECTION)
    found = attrax.concepts.concept_sensitivity(score, tree, direction)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    narrow = lambda z: jnp.sum(z * z)  # noqa: E731
    z = DIRECTION.astype(jnp.bfloat16)
    found = attrax.concepts.concept_sensitivity(narrow, z, DIRECTION)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(2 * float(DIRECTION @ DIRECTION), rel=2e-2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((fn, Z, DIRECTION), ValueError, r"`direction` must have the shapes of `x`; got \(6,\)"),
        ((fn, jnp.arange(3), DIRECTION), TypeError, "`x` must be floating; got int32"),
        ((tail, Z, Z), ValueError, r"`fn` must return a scalar; got shape \(4,\)"),
    ],
)
def test_bad_arguments_of_the_sensitivity(arguments, error, message):
    with pytest.raises(error, match=message):
        attrax.concepts.concept_sensitivity(*arguments)


# Scores.


def test_scores_of_sensitivities():
    values = jnp.array([3.0, -1.0, 0.0, 0.5, -0.5])
    assert float(attrax.concepts.tcav_score(values)) == pytest.approx(0.4)
    assert float(attrax.concepts.tcav_magnitude(values)) == pytest.approx(3.5 / 5)


def test_scores_do_not_depend_on_the_length_of_the_direction():
    values = jnp.asarray(_RNG.normal(size=20), "float32")
    for score in (attrax.concepts.tcav_score, attrax.concepts.tcav_magnitude):
        assert float(score(7 * values)) == pytest.approx(float(score(values)), rel=1e-6)
        assert float(score(-values)) == pytest.approx(1 - float(score(values)), rel=1e-6)


def test_magnitude_of_nothing_is_zero_and_smooth():
    value, slope = jax.value_and_grad(attrax.concepts.tcav_magnitude)(jnp.zeros(3))
    assert float(value) == 0
    assert slope.tolist() == [0, 0, 0]
    # d/da of a / (a + 2) at 1, and of 1 / (1 + b) at 2.
    slope = jax.grad(attrax.concepts.tcav_magnitude)(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(slope, [2 / 9, 1 / 9], rtol=1e-6)


def test_scores_are_wide():
    values = jnp.ones(1000, jnp.bfloat16).at[0].set(-1)
    assert float(attrax.concepts.tcav_score(values)) == pytest.approx(0.999, rel=1e-6)
    assert float(attrax.concepts.tcav_magnitude(values)) == pytest.approx(0.999, rel=1e-6)


@pytest.mark.parametrize("score", [attrax.concepts.tcav_score, attrax.concepts.tcav_magnitude])
def test_bad_sensitivities(score):
    with pytest.raises(ValueError, match=r"`sensitivities` must be one-dim.*got shape \(2, 2\)"):
        score(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"at least 1 entries; got shape \(0,\)"):
        score(jnp.ones(0))
    with pytest.raises(TypeError, match="`sensitivities` must be floating; got int32"):
        score(jnp.arange(3))


# Significance.

significance = jax.jit(attrax.concepts.tcav_significance)


def welch(first, second):
    """The reference: statistic, degrees of freedom, p-value."""
    test = scipy.stats.ttest_ind(first, second, equal_var=False)
    return [test.statistic, test.df, test.pvalue]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_RNG.normal(size=5), _RNG.normal(size=9) + 1),
        (_RNG.normal(size=30) / 100 + 0.9, _RNG.random(20)),
        (_RNG.random(2), _RNG.random(2)),
        # A concept whose fits all agree: SciPy warns of what it does right here.
        (np.ones(4), _RNG.random(7)),
        (_RNG.random(7), np.zeros(4)),
    ],
)
@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
def test_significance_is_that_of_scipy(first, second):
    found = significance(jnp.asarray(first, "float32"), jnp.asarray(second, "float32"))
    np.testing.assert_allclose(found, welch(first, second), rtol=1e-4)
    back = significance(jnp.asarray(second, "float32"), jnp.asarray(first, "float32"))
    assert float(back.statistic) == pytest.approx(-float(found.statistic))
    assert float(back.p_value) == pytest.approx(float(found.p_value))


def test_significance_in_float64():
    with jax.enable_x64(True):
        first, second = _RNG.random(6), _RNG.random(8) + 0.5
        found = significance(jnp.asarray(first), jnp.asarray(second))
        np.testing.assert_allclose(found, welch(first, second), rtol=1e-10)


@pytest.mark.parametrize(
    ("first", "second", "statistic", "p"),
    [(0.1, 0.1, 0, 1), (1.0, 0.7, np.inf, 0), (0.3, 0.6, -np.inf, 0)],
)
def test_scores_that_do_not_vary(first, second, statistic, p):
    found = significance(jnp.full(7, first), jnp.full(11, second))
    assert float(found.statistic) == statistic
    assert float(found.p_value) == p


@pytest.mark.soak
def test_the_statistic_can_be_differentiated():
    second = jnp.array([0.1, 0.5, 0.3])

    def field(name):
        return lambda first: getattr(attrax.concepts.tcav_significance(first, second), name)

    with jax.enable_x64(True):
        first = jnp.array([0.4, 0.5, 0.9])
        check_grads(jax.jit(field("statistic")), (first,), order=2)
        assert jax.grad(field("p_value"))(first).tolist() == [0, 0, 0]
        # Where nothing varies the derivative is finite, too.
        assert np.isfinite(
            jax.grad(lambda a: attrax.concepts.tcav_significance(a, a).statistic)(jnp.ones(3))
        ).all()


P_VALUE = jax.jit(jax.vmap(lambda a, b: attrax.concepts.tcav_significance(a, b).p_value))


def test_p_values_are_right_where_variances_differ():
    # A tight concept, scattered random fits, and few of those: the case that was chosen for.
    first = _RNG.normal(size=(4000, 20)).astype("float32") / 10
    second = _RNG.normal(size=(4000, 6)).astype("float32")
    pooled = scipy.stats.ttest_ind(first, second, axis=1).pvalue
    assert np.mean(P_VALUE(first, second) < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(pooled < 0.05) > 0.15


def test_fits_that_share_examples_are_too_sure_of_themselves():
    """A concept without meaning; directions are differences of means, gradients are random."""
    trials, fits, examples, width = 200, 20, 20, 16
    gradients = _RNG.normal(size=(trials, 28, width))

    def means(*shape):
        return _RNG.normal(size=(*shape, width)) / np.sqrt(examples)

    def fraction(directions):
        return np.mean(np.einsum("tnc,tfc->tfn", gradients, directions) > 0, -1, dtype="float32")

    def found(concept):
        others, random_concepts = means(trials, fits), means(trials, fits)
        again = means(trials, fits)
        p = P_VALUE(fraction(concept - others), fraction(random_concepts - again))
        return np.mean(p < 0.05)

    assert found(means(trials, fits)) < 0.1
    assert found(means(trials, 1)) > 0.2


@pytest.mark.parametrize("name", ["scores", "random_scores"])
def test_bad_samples(name):
    samples = {"scores": jnp.ones(3), "random_scores": jnp.ones(3)}
    with pytest.raises(ValueError, match=rf"`{name}` must be .* 2 entries; got shape \(1,\)"):
        attrax.concepts.tcav_significance(**{**samples, name: jnp.ones(1)})
    with pytest.raises(ValueError, match=rf"`{name}` .*shape \(3, 3\)\. Map over several samples"):
        attrax.concepts.tcav_significance(**{**samples, name: jnp.ones((3, 3))})
    with pytest.raises(TypeError, match=f"`{name}` must be floating; got int32"):
        attrax.concepts.tcav_significance(**{**samples, name: jnp.arange(3)})


# With a classifier.


@pytest.mark.soak
def test_concepts_fitted_by_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)

    def direction(concept, others):
        examples = np.concatenate([concept, others])
        labels = np.repeat([1, 0], [len(concept), len(others)])
        fitted = linear_model.LogisticRegression().fit(examples, labels)
        return fitted.coef_[0].astype("float32")

    def activations(shift):
        return rng.normal(size=(30, CHANNELS)) + shift

    # The score grows with channel 0, and with channel 1 at one half of the examples.
    def score(z):
        return jnp.tanh(z[0]) + z[1] * z[2]

    @jax.jit
    def tcav(directions):
        sensitivity = functools.partial(attrax.concepts.concept_sensitivity, score)
        explain = jax.vmap(jax.vmap(sensitivity, (0, None)), (None, 0))
        return jax.vmap(attrax.concepts.tcav_score)(explain(examples, directions))

    def fitted(shift):
        return tcav(np.stack([direction(activations(shift), activations(0)) for _ in range(20)]))

    examples = rng.normal(size=(40, CHANNELS)).astype("float32") / 4
    random_scores, axes = fitted(np.zeros(CHANNELS)), 3 * np.eye(CHANNELS)
    known, indifferent, against = fitted(axes[0]), fitted(axes[1]), fitted(-axes[0])
    assert np.min(known) > 0.9
    assert significance(known, random_scores).p_value < 0.01
    assert significance(indifferent, random_scores).p_value > 0.05
    # Two-sided: a concept may speak against.
    assert np.max(against) < 0.1
    assert significance(against, random_scores).p_value < 0.01


def test_sensitivity_needs_a_reverse_derivative_only():
    @jax.custom_vjp
    def square(z):
        return z * z

    square.defvjp(lambda z: (z * z, z), lambda z, u: (2 * u * z,))
    z, v = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    assert attrax.concepts.concept_sensitivity(lambda z: jnp.sum(square(z)), z, v) == 22


def test_the_direction_is_not_rounded_to_a_narrow_activation():
    z, v = jnp.ones(2, jnp.bfloat16), jnp.array([1.0001, 0.0])
    found = attrax.concepts.concept_sensitivity(jnp.sum, z, v)
    assert found.dtype == jnp.float32 and found == v[0]
