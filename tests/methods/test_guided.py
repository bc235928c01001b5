"""The guided path: what it chooses, what adds up, and what does not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import quadrature
from attrax.metrics import completeness_gap
from comparisons import close

pytestmark = pytest.mark.usefixtures("strict")

_RNG = np.random.default_rng(8)
X = jnp.asarray(_RNG.normal(size=6) * 2, jnp.float32)
B = jnp.asarray(_RNG.normal(size=6), jnp.float32)
W = [_RNG.normal(size=shape) / np.sqrt(shape[0]) for shape in ((6, 16), (16,))]


def network(activation):
    def fn(x):
        return activation(x @ jnp.asarray(W[0], x.dtype) + 0.3) @ jnp.asarray(W[1], x.dtype)

    return fn


tanh_network, relu_network = network(jnp.tanh), network(jax.nn.relu)
guided = jax.jit(
    attrax.guided_integrated_gradients, static_argnums=0, static_argnames=("steps", "fraction")
)


def gap(fn, attribution, x=X, b=B):
    return abs(float(completeness_gap(fn, attribution, x, b)))


# Answers known on paper.


def test_with_all_features_at_a_time_the_path_is_straight():
    line = attrax.integrated_gradients(relu_network, X, B, rule=quadrature.trapezoid(6))
    close(guided(relu_network, X, B, steps=5, fraction=1.0), line)


def test_one_step_is_the_mean_of_both_ends():
    slopes = attrax.gradient(tanh_network, X) + attrax.gradient(tanh_network, B)
    close(guided(tanh_network, X, B, steps=1), (X - B) * slopes / 2)


def test_linear_and_additive_functions_need_no_path():
    weights = jnp.asarray([3.0, 0.0, -1.0, 0.5, 2.0, -2.0])
    close(guided(lambda x: weights @ x, X, B, steps=3), weights * (X - B))
    # The trapezoid is exact for squares, wherever each of them moves.
    squares = lambda x: weights @ (x * x)  # noqa: E731
    for steps in (1, 4):
        close(guided(squares, X, B, steps=steps), weights * (X * X - B * B))


def test_the_least_sensitive_feature_moves_first():
    # At (0, 1) the gradient of x y is (1, 0): y moves first and changes nothing, then x gets all.
    product, b = lambda x: x[0] * x[1], jnp.array([0.0, 1.0])
    x = jnp.array([2.0, 3.0])
    close(guided(product, x, b, steps=8), [6.0, 0.0])
    close(guided(product, x, b, steps=8, fraction=1.0), [4.0, 2.0])


def numpy_guided(grad, x, b, steps, fraction):
    """Step by step in float64, and group by group; also the sum that takes the first gradient."""
    x, point, size = x.astype(float), b.astype(float), int(fraction * (x.size - 1)) + 1
    total, left, way = np.zeros(x.size), np.zeros(x.size), np.abs(x - b).sum() / steps
    for _ in range(steps):
        slope, budget, moved = grad(point), way, point.copy()
        order = [i for i in np.argsort(np.abs(slope), kind="stable") if moved[i] != x[i]]
        while budget > 1e-12 and order:
            group, order = order[:size], order[size:]
            length = np.abs(x[group] - moved[group]).sum()
            part = min(1.0, budget / length)
            moved[group] = x[group] if part == 1 else moved[group] + part * (x - moved)[group]
            budget -= part * length
        total += (moved - point) * (slope + grad(moved)) / 2
        left += (moved - point) * slope
        point = moved
    return total, left


def numpy_gradient(x):
    return W[0] @ ((1 - np.tanh(x @ W[0] + 0.3) ** 2) * W[1])


@pytest.mark.parametrize(("steps", "fraction"), [(7, 0.1), (10, 0.3), (16, 0.5), (3, 0.9)])
def test_against_a_slow_reference(steps, fraction):
    x, b = np.asarray(X, np.float64), np.asarray(B, np.float64)
    expected, _ = numpy_guided(numpy_gradient, x, b, steps, fraction)
    close(guided(tanh_network, X, B, steps=steps, fraction=fraction), expected)
    with jax.enable_x64(True):
        args = jnp.asarray(x), jnp.asarray(b)
        fast = guided(tanh_network, *args, steps=steps, fraction=fraction)
        close(fast, expected, 1e-10)


# Axioms held.


def test_the_gap_falls_with_the_square_of_the_steps():
    with jax.enable_x64(True):
        x, b = (jnp.asarray(np.asarray(v), "float64") for v in (X, B))
        gaps = [gap(tanh_network, guided(tanh_network, x, b, steps=n), x, b) for n in (64, 512)]
    assert np.log2(gaps[0] / gaps[1]) / 3 == pytest.approx(2, abs=0.2)


def test_both_ends_of_a_step_are_better_than_its_beginning():
    value = lambda x: np.tanh(x @ W[0] + 0.3) @ W[1]  # noqa: E731
    gaps = []
    for x, b in np.random.default_rng(0).normal(size=(8, 2, 6)) * 2:
        sums = [total.sum() for total in numpy_guided(numpy_gradient, x, b, 128, 0.1)]
        gaps.append(np.abs(np.array(sums) - (value(x) - value(b))))
    ours, beginning = np.mean(gaps, axis=0)
    assert ours < beginning / 10


def test_dummy_and_unchanged_features_get_nothing():
    fn = lambda x: jnp.tanh(x[0] * x[1])  # noqa: E731
    x, b = jnp.array([1.0, 2.0, -1.5]), jnp.array([0.0, 2.0, 0.0])
    attribution = guided(fn, x, b, steps=64)
    assert attribution[1] == 0
    assert attribution[2] == 0
    assert attribution[0] == pytest.approx(np.tanh(2.0), rel=1e-3)


def test_features_that_play_the_same_role_get_the_same():
    fn = lambda x: jnp.tanh(x[0] + x[1]) * x[2]  # noqa: E731
    for fraction in (0.1, 0.5):
        attribution = guided(fn, jnp.array([0.7, 0.7, 2.0]), steps=9, fraction=fraction)
        assert attribution[0] == attribution[1] != 0


def test_implementation_invariance():
    one = lambda x: jax.nn.relu(jax.nn.relu(x[0] - 1) - jax.nn.relu(x[1]))  # noqa: E731
    two = lambda x: jax.nn.relu(jax.nn.relu(x[0]) - 1 - jax.nn.relu(x[1]))  # noqa: E731
    x = jnp.array([3.0, 1.0])
    # The gradients agree everywhere but at the kinks, and no step ends at one.
    close(guided(one, x, steps=37), guided(two, x, steps=37))


def test_pieces_between_anchors_add_up():
    anchors = [B + (X - B) * t for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    pieces = [
        guided(tanh_network, end, start, steps=64) for start, end in itertools.pairwise(anchors)
    ]
    assert gap(tanh_network, sum(pieces)) < 1e-3
    # Near the line, and so nearer to what the line gives.
    line = guided(tanh_network, X, B, steps=64, fraction=1.0)
    free = guided(tanh_network, X, B, steps=64)
    assert jnp.abs(sum(pieces) - line).max() < jnp.abs(free - line).max()


# Axioms not held.


def test_it_is_not_linear_in_the_function():
    cubes = lambda x: jnp.sum(x**3) / 10  # noqa: E731
    both = guided(lambda x: tanh_network(x) * x[0] + cubes(x), X, B, steps=256)
    apart = guided(lambda x: tanh_network(x) * x[0], X, B, steps=256)
    apart += guided(cubes, X, B, steps=256)
    assert jnp.abs(both - apart).max() > 0.05 * jnp.abs(apart).max()


def test_along_a_kink_no_number_of_steps_is_enough():
    # Below the kink x = r y the first feature moves, above it the second: the path runs along it.
    # Steps of the first end above the kink and begin below, by r/2 on average and not by 1/2.
    r = 3**-0.5
    fn = lambda x: 0.5 * x[0] + x[1] + jax.nn.relu(x[0] - r * x[1])  # noqa: E731
    x, b = jnp.array([r, 1.0]), jnp.zeros(2)
    for steps in (256, 4096):
        attribution = guided(fn, x, b, steps=steps)
        assert gap(fn, attribution, x, b) == pytest.approx(r * (1 - r) / 2, abs=0.01)
    line = attrax.integrated_gradients(fn, x, b, rule=quadrature.trapezoid(64))
    assert gap(fn, line, x, b) < 0.01


# Precision, derivatives, trees.


def test_features_are_ranked_across_a_tree():
    parts = lambda tree: tanh_network(jnp.concatenate([tree["a"].reshape(-1), tree["b"][0]]))  # noqa: E731
    split = lambda x: {"a": x[:4].reshape(2, 2), "b": [x[4:]]}  # noqa: E731
    attribution = guided(parts, split(X), split(B), steps=12)
    whole = split(guided(tanh_network, X, B, steps=12))
    jax.tree.map(close, attribution, whole)


def test_mixed_dtypes_stay_mixed():
    x = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    fn = lambda x: jnp.sum(x["half"].astype("float32") * x["single"])  # noqa: E731
    attribution = guided(fn, x, steps=4)
    assert attribution["half"].dtype == jnp.bfloat16
    assert attribution["single"].dtype == jnp.float32


def test_the_derivative_is_that_of_the_closed_form():
    # Squares: the attribution is x^2 - b^2, and its derivative 2 x and -2 b.
    total = lambda x, b: jnp.sum(guided(lambda x: x @ x, x, b, steps=5))  # noqa: E731
    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(X, B)
    close(slopes[0], 2 * X)
    close(slopes[1], -2 * B)


@pytest.mark.parametrize("fn", [tanh_network, lambda x: 0 * x[0] + 2], ids=["x is b", "flat"])
def test_nothing_to_move_or_nothing_to_see(fn):
    def total(x, b):
        attribution = attrax.guided_integrated_gradients(fn, x, b, steps=3)
        return jnp.sum(attribution**2), attribution

    b = X if fn is tanh_network else B
    slopes, attribution = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(X, b)
    for zeros in (attribution, *slopes):
        np.testing.assert_array_equal(zeros, np.zeros(6))


def test_what_is_refused():
    explain = attrax.guided_integrated_gradients
    with pytest.raises(TypeError, match=r"got int32\. There is no gradient .* embedding layer"):
        explain(jnp.sum, jnp.arange(3), steps=2)
    with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(6,\)"):
        explain(lambda x: x, X, steps=2)
    with pytest.raises(ValueError, match=r"`baseline` must have the shapes of `x`; got \(1,\)"):
        explain(jnp.sum, X, jnp.ones(1), steps=2)
    with pytest.raises(ValueError, match="`steps` must be at least 1; got 0"):
        explain(jnp.sum, X, steps=0)
    with pytest.raises(TypeError, match="`steps` determines shapes, so it must be a Python int"):
        jax.jit(lambda n: explain(jnp.sum, X, steps=n))(2)
    for fraction in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="`fraction` must be above 0 and at most 1; got"):
            explain(jnp.sum, X, steps=2, fraction=fraction)
    with pytest.raises(
        TypeError, match="`fraction` determines shapes, so it must be a number; got None"
    ):
        explain(jnp.sum, X, steps=2, fraction=None)
    with pytest.raises(
        TypeError, match="`fraction` determines shapes, so it must be a number; got"
    ):
        jax.jit(lambda f: explain(jnp.sum, X, steps=2, fraction=f))(0.5)
