"""The strongest channel of a layer, slices from layer to layer, and several scores at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import distributions, quadrature, scores
from comparisons import close

_RNG = np.random.default_rng(11)
INTO, THROUGH, OUT = (_RNG.normal(size=s).astype("float32") for s in ((3, 5), (5, 4), (4, 6)))
X = jnp.asarray(_RNG.normal(size=(2, 2, 3)), "float32")
SCORE = scores.contrast(1, 4)


def network(x):
    """Positions and channels, two layers, and a mean over positions."""
    first = attrax.tap("first", jnp.tanh(x @ INTO))
    second = attrax.tap("second", jnp.tanh(first @ THROUGH))
    return second.mean((0, 1)) @ OUT


MODEL = attrax.as_model(network)


@pytest.mark.parametrize("explain", [attrax.gradient_times_input, attrax.integrated_gradients])
def test_both_steps_are_the_method_of_their_own(explain):
    found = jax.jit(
        lambda model, x: attrax.strongest_channel(
            model, x, score=SCORE, at="first", explain=explain
        )
    )(MODEL, X)
    first = jnp.tanh(X @ INTO)
    behind = lambda z: SCORE(jnp.tanh(z @ THROUGH).mean((0, 1)) @ OUT)  # noqa: E731
    contributions = jax.jit(lambda z: explain(behind, z))(first).sum((0, 1))
    close(found.contributions, contributions)
    channel = int(np.argmax(contributions))
    assert found.channel == channel
    driven = lambda x: jnp.tanh(x @ INTO)[..., channel].sum()  # noqa: E731
    close(found.attribution, jax.jit(lambda x: explain(driven, x))(X))


def test_channels_along_another_axis():
    model = attrax.as_model(lambda x: attrax.tap("rows", x * jnp.array([[1.0], [-1.0]])))
    x = jnp.array([[1.0, 2.0], [5.0, 7.0]])
    found = attrax.strongest_channel(
        model, x, score=jnp.sum, at="rows", explain=attrax.gradient_times_input, axis=0
    )
    assert found.channel == 0
    close(found.contributions, np.array([3.0, -12.0]))
    close(found.attribution, np.array([[1.0, 2.0], [0.0, 0.0]]))


def test_refusals_of_the_strongest_channel():
    with pytest.raises(TypeError, match=r"`score` must be a function; got 1\. .*logit\(1\)`"):
        attrax.strongest_channel(MODEL, X, score=1, at="first")
    with pytest.raises(ValueError, match="no layer 'firsd'"):
        attrax.strongest_channel(MODEL, X, score=SCORE, at="firsd")
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-3, 3\)"):
        attrax.strongest_channel(MODEL, X, score=SCORE, at="first", axis=3)


def test_a_slice_from_layer_to_layer():
    """From `first` to a channel of `second`: the tail is a model, and its layers are captured."""

    @jax.jit
    def slices(model, x):
        z, tail = attrax.cut(model, x, at="first")
        inner = scores.channel(2)
        fn = lambda z: inner(attrax.capture(tail, z, at="second"))  # noqa: E731
        at_layer = attrax.integrated_gradients(fn, z)

        def split(x):
            z, tail = attrax.cut(model, x, at="first")
            return z, lambda z: inner(attrax.capture(tail, z, at="second"))

        through = attrax.conductance(split, x)
        return at_layer, through

    at_layer, through = slices(MODEL, X)
    first = jnp.tanh(X @ INTO)
    total = jnp.tanh(first @ THROUGH)[..., 2].sum()
    expected = attrax.integrated_gradients(lambda z: jnp.tanh(z @ THROUGH)[..., 2].sum(), first)
    close(at_layer, expected)
    # Both are complete, and they are not the same: another path.
    assert at_layer.sum() == pytest.approx(float(total), rel=1e-4)
    assert through.sum() == pytest.approx(float(total), rel=1e-4)
    assert np.abs(at_layer - through).max() > 1e-2 * np.abs(at_layer).max()


def test_a_baseline_may_be_a_function_of_the_activation_and_of_the_inputs():
    z, tail = attrax.cut(MODEL, X, at="first")
    fn = lambda z: SCORE(tail(z))  # noqa: E731
    rule = quadrature.midpoint(4)
    centred = distributions.linear(lambda z: jnp.broadcast_to(z.mean((0, 1)), z.shape) * X.mean())
    found = attrax.influence(fn, z, centred, rule=rule)
    baseline = jnp.broadcast_to(z.mean((0, 1)), z.shape) * X.mean()
    close(found, attrax.influence(fn, z, distributions.linear(baseline), rule=rule))


SEVERAL = (scores.logit(0), scores.contrast(1, 4), scores.logsumexp(), lambda y: y @ y)


def each_of(explain):
    """`explain(score)` for all of SEVERAL, by one map over the index."""
    choose = scores.one_of(*SEVERAL)
    return jax.vmap(lambda i: explain(choose(i)))(jnp.arange(len(SEVERAL)))


def test_several_scores_at_once_are_one_by_one():
    def explain(score):
        z, tail = attrax.cut(MODEL, X, at="first")
        return attrax.integrated_gradients(lambda z: score(tail(z)), z)

    found = jax.jit(lambda: each_of(explain))()
    close(found, jax.jit(lambda: jnp.stack([explain(score) for score in SEVERAL]))())


def test_several_scores_share_the_forward_pass():
    """By the floating point operations of compiled programs: 1 + K forward passes, not 2 K."""
    wide = [_RNG.normal(size=(64, 64)).astype("float32") for _ in range(4)]

    def forward(x):
        for w in wide:
            x = jax.nn.relu(x @ w)
        return x

    def flops(fn):
        return jax.jit(fn).lower(jnp.ones(64)).compile().cost_analysis()["flops"]

    explain = lambda x: each_of(lambda s: attrax.gradient(lambda x: s(forward(x)), x))  # noqa: E731
    assert flops(explain) / flops(forward) <= 1.05 * (1 + len(SEVERAL))


def test_the_layer_is_captured_without_what_is_behind_it():
    program = jax.jit(lambda x: attrax.capture(MODEL, x, at="first")).lower(X).compile()
    alone = jax.jit(lambda x: jnp.tanh(x @ INTO)).lower(X).compile()
    assert program.cost_analysis()["flops"] == alone.cost_analysis()["flops"]
