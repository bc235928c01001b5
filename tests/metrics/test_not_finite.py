"""NaN and infinity in, never a good number out: every function of `attrax.metrics`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import distributions, metrics

KEY = jax.random.key(5)
X = jnp.arange(1.0, 13.0).reshape(3, 4)
REGION = jnp.zeros((3, 4), bool).at[1:, :2].set(True)
OPTIONS = {"key": KEY, "num_samples": 4, "batch_size": 2}


class Judge(NamedTuple):
    """`measure(fn, attribution, x)`, and what it looks at."""

    measure: Callable[[Any, jax.Array, jax.Array], Any]
    looks_at: str = "fn attribution x"
    ranks: bool = False
    """Only the order of the attribution counts: an infinite entry comes first, and is no error."""


def _sanity(fn, attribution, x):
    return metrics.parameter_randomisation(
        lambda p: p["a"], {"a": attribution}, {"a": x}, order=["a"], compare=lambda a, b: jnp.sum(a)
    )


def _labels(fn, attribution, x):
    return metrics.label_randomisation(
        lambda p: p, lambda labels: labels, attribution.ravel(), **OPTIONS
    )


JUDGES = {
    "completeness_gap": Judge(metrics.completeness_gap),
    "infidelity": Judge(
        lambda fn, a, x: metrics.infidelity(fn, a, x, distributions.gaussian(0.1), **OPTIONS)
    ),
    "mufidelity": Judge(
        # One feature of twelve: an entry that is not finite is in no subset, as likely as not.
        lambda fn, a, x: metrics.mufidelity(fn, a, x, subset_size=1, **OPTIONS)
    ),
    "sensitivity_n": Judge(
        lambda fn, a, x: metrics.sensitivity_n(fn, a, x, sizes=(1, 2), **OPTIONS)
    ),
    "insertion_curve": Judge(
        lambda fn, a, x: metrics.insertion_curve(fn, a, x, steps=3)[-1], ranks=True
    ),
    "deletion_curve": Judge(
        lambda fn, a, x: metrics.deletion_curve(fn, a, x, steps=3)[0], ranks=True
    ),
    "area": Judge(lambda fn, a, x: metrics.area(a.ravel()), "attribution"),
    "road": Judge(lambda fn, a, x: metrics.road(fn, a, x, fractions=(0.0,), **OPTIONS), ranks=True),
    "max_sensitivity": Judge(
        lambda fn, a, x: metrics.max_sensitivity(
            lambda x: x * fn(x), x, distributions.uniform_noise(0.1), **OPTIONS
        ),
        "fn x",
    ),
    "rank_correlation": Judge(
        lambda fn, a, x: (metrics.rank_correlation(a, X), metrics.rank_correlation(X, a)),
        "attribution",
        ranks=True,
    ),
    "gini": Judge(lambda fn, a, x: metrics.gini(a), "attribution"),
    "complexity": Judge(lambda fn, a, x: metrics.complexity(a), "attribution"),
    "pointing_game": Judge(
        lambda fn, a, x: metrics.pointing_game(a, REGION), "attribution", ranks=True
    ),
    "relevance_mass": Judge(lambda fn, a, x: metrics.relevance_mass(a, REGION), "attribution"),
    "relevance_rank": Judge(
        lambda fn, a, x: metrics.relevance_rank(a, REGION), "attribution", ranks=True
    ),
    "parameter_randomisation": Judge(_sanity, "attribution"),
    "label_randomisation": Judge(_labels, "attribution", ranks=True),
}

# They judge nothing: names and parameters, and an image whose holes are filled.
OTHERS = {
    "cascading",
    "independent",
    "leaf_names",
    "noisy_linear_imputation",
    "randomised",
    "shuffled",
}


def test_every_metric_is_here():
    public = {name for name in vars(metrics) if not name.startswith("_")}
    assert JUDGES.keys() | OTHERS == public
    assert not JUDGES.keys() & OTHERS


def judged(name, fn, attribution, x):
    found = jax.jit(lambda a, x: JUDGES[name].measure(fn, a, x))(attribution, x)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])


each = pytest.mark.parametrize("name", JUDGES)
every_place = pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 3)])  # REGION holds (1, 1).


@each
def test_finite_numbers_are_judged(name):
    assert np.isfinite(judged(name, lambda x: jnp.sum(jnp.sin(x)), X % 5, X)).all()


@each
@every_place
def test_nan_in_the_attribution_is_nan(name, place):
    if "attribution" in JUDGES[name].looks_at:
        found = judged(name, lambda x: jnp.sum(jnp.sin(x)), X.at[place].set(jnp.nan), X)
        assert np.isnan(found).all()


@each
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_in_the_attribution_is_not_finite_unless_only_ranks_count(name, value):
    if "attribution" in JUDGES[name].looks_at:
        found = judged(name, lambda x: jnp.sum(jnp.sin(x)), X.at[1, 1].set(value), X)
        if JUDGES[name].ranks:
            assert np.isfinite(found).all()
        elif name == "relevance_mass" and value < 0:
            assert np.isfinite(found).all()  # What speaks against counts 0, however much.
        else:
            assert not np.isfinite(found).any()


@each
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_not_judged(name, value):
    if "fn" in JUDGES[name].looks_at:
        assert not np.isfinite(judged(name, lambda x: jnp.sum(x) * value, X, X)).any()


@each
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_example_that_is_not_finite_is_not_judged(name, value):
    if "x" in JUDGES[name].looks_at.split():
        assert not np.isfinite(judged(name, jnp.sum, X, X.at[1, 1].set(value))).any()


def explained(name, explain, x):
    method = getattr(attrax, name)
    return method(explain, x, key=KEY, sigma=0.1, num_samples=4, batch_size=2)


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad_squared", "vargrad"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_error_of_an_estimate_that_is_not_finite_is_not_0(name, value):
    """Of one draw that is not finite among several, too."""
    for explain in (lambda x: x * value, lambda x: jnp.where(x > 1, x * value, x)):
        found = explained(name, explain, jnp.full(50, 1.0))
        assert not np.isfinite(found.value).all()
        bad = ~np.isfinite(np.asarray(found.value))
        assert np.isnan(np.asarray(found.standard_error)[bad]).all()


def test_expected_gradients_of_nan_have_no_error():
    fn = lambda x: jnp.sum(x) * jnp.nan  # noqa: E731
    found = attrax.expected_gradients(fn, X, X[None], **OPTIONS)
    assert np.isnan(found.value).all() and np.isnan(found.standard_error).all()


def test_nan_has_no_rank_among_channels():
    """Whatever its sign bit: sorts by bits put -NaN last."""
    for nan in (np.nan, -np.nan):
        found = attrax.rank_channels(jnp.array([1.0, nan, 3.0]), 2)
        assert found.positive_indices.tolist() == found.negative_indices.tolist() == [-1, -1]
        assert np.isnan(found.positive_values).all() and np.isnan(found.negative_values).all()
    assert attrax.rank_channels(jnp.array([1.0, np.inf]), 1).positive_indices.tolist() == [1]


def test_reductions_keep_nan_and_infinity():
    for value in (np.nan, np.inf):
        a = X.at[1, 1].set(value)
        assert not np.isfinite(attrax.channels(a)[1]) and np.isfinite(attrax.channels(a)[0])
        assert not np.isfinite(attrax.positions(a)[1]) and np.isfinite(attrax.positions(a)[0])


def test_a_channel_of_nan_is_not_the_strongest():
    def model(x):
        z = attrax.tap("z", jnp.stack([x[0], 2 * x[1], x[2]]))
        return jnp.sum(z * jnp.array([1.0, 3.0, 2.0]))

    def explain(fn, x):
        found = attrax.gradient_times_input(fn, x)
        return found.at[0].set(jnp.nan) if x[0] == 1 else found

    found = attrax.strongest_channel(
        attrax.as_model(model),
        jnp.array([1.0, 2.0, 3.0]),
        score=lambda y: y,
        at="z",
        explain=explain,
    )
    assert found.channel == -1
    assert np.isnan(found.attribution).all()
