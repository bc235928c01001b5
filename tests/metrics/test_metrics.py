"""Metrics, against answers known on paper and slow NumPy versions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import distributions, metrics
from comparisons import close

KEY = jax.random.key(5)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 4, 2))
IMAGES = np.random.default_rng(1).normal(size=(2, 3, 4, 2)).astype("float32")
X = np.array([1.0, -2.0, 0.5, 3.0, -1.5], "float32")


def network(x):
    """A smooth function of an image (3, 4, 2), in the dtype of x."""
    hidden = jnp.tanh(x * jnp.asarray(WEIGHTS, x.dtype))
    return jnp.sum(hidden) + jnp.sum(hidden[1:] * hidden[:-1])


def curved(x):
    """A function of five features with interactions."""
    return jnp.sum(jnp.sin(x)) + jnp.prod(x[:3]) / 2


def shifted(by):
    return lambda x: lambda t, key: jax.tree.map(lambda leaf: leaf + by, x)


def within(estimate, expected, errors=4):
    """The estimate agrees with `expected`, and claims an error that is not just large."""
    value, error = np.asarray(estimate.value), np.asarray(estimate.standard_error)
    assert (np.abs(value - expected) <= errors * error).all()
    assert (error < 0.2 * np.abs(expected)).all()


# What holds for all of them. Each: (fn, image, attribution, batch_size) -> pytree of numbers.

REGION = jnp.zeros((3, 4), bool).at[1:, :2].set(True)


def _randomisation(fn, x, a, b):
    explain = lambda params: params["s"] * x  # noqa: E731
    params, other = {"s": a}, {"s": jnp.flip(x)}
    alike = lambda a, b: jnp.sum(a * b).astype("float64" if a.dtype == "float64" else "float32")  # noqa: E731
    shared = {"compare": alike, "batch_size": b}
    cascade = metrics.parameter_randomisation(explain, params, other, order=["s"] * 3, **shared)
    fit = lambda labels: {"s": labels.reshape(x.shape)}  # noqa: E731
    return cascade, metrics.label_randomisation(
        explain, fit, a.reshape(-1), key=KEY, num_samples=3, **shared
    )


METRICS = {
    "completeness_gap": lambda fn, x, a, b: metrics.completeness_gap(fn, a, x),
    "infidelity": lambda fn, x, a, b: metrics.infidelity(
        fn, a, x, distributions.square_removal(2), key=KEY, num_samples=5, batch_size=b
    ),
    "max_sensitivity": lambda fn, x, a, b: metrics.max_sensitivity(
        lambda x: attrax.gradient(fn, x),
        x,
        distributions.uniform_noise(0.1),
        key=KEY,
        num_samples=5,
        batch_size=b,
    ),
    "curves": lambda fn, x, a, b: [
        (curve := of(fn, a, x, steps=7, batch_size=b), metrics.area(curve))
        for of in (metrics.insertion_curve, metrics.deletion_curve)
    ],
    "sensitivity_n": lambda fn, x, a, b: metrics.sensitivity_n(
        fn, attrax.positions(a), x, key=KEY, sizes=(2, 7), num_samples=5, batch_size=b
    ),
    "road": lambda fn, x, a, b: metrics.road(
        fn, attrax.positions(a), x, key=KEY, fractions=(0.2, 0.5), num_samples=3, batch_size=b
    ),
    "without fn": lambda fn, x, a, b: (
        metrics.gini(a),
        metrics.complexity(a),
        metrics.rank_correlation(a, x),
        metrics.relevance_mass(attrax.positions(a), REGION),
        metrics.relevance_rank(attrax.positions(a), REGION),
        metrics.pointing_game(attrax.positions(a), REGION, tolerance=1.5),
    ),
    "randomisation": _randomisation,
}
every = pytest.mark.parametrize("name", METRICS)


def judge(name, batch_size, fn=network):
    return lambda x: METRICS[name](fn, x, attrax.gradient_times_input(fn, x), batch_size)


@every
@pytest.mark.usefixtures("strict")
def test_mapped_and_chunked_is_a_loop(name):
    xs = jnp.asarray(IMAGES)
    found, alone = jax.jit(jax.vmap(judge(name, 2))), jax.jit(judge(name, 100))
    # The network has 24 features of order 1, so its rounding errors are those of order 1.
    jax.tree.map(
        lambda a, *b: np.testing.assert_allclose(a, np.stack(b), rtol=1e-5, atol=1e-5),
        found(xs),
        *[alone(x) for x in xs],
    )


@every
@pytest.mark.parametrize(("given", "kept"), [("bfloat16", "float32"), ("float64", "float64")])
def test_numbers_are_kept_in_float32_or_wider(name, given, kept):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        shapes = jax.eval_shape(judge(name, 2), jax.ShapeDtypeStruct((3, 4, 2), given))
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(shapes)} - {"bool"}
    assert dtypes == {kept}


@every
def test_traces_are_bounded(name):
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return network(x)

    jax.eval_shape(judge(name, 2, counted), jnp.asarray(IMAGES[0]))
    assert calls <= 6


@pytest.mark.parametrize("name", ["max_sensitivity", "sensitivity_n", "without fn"])
def test_derivatives_are_finite(name):
    def total(x):
        numbers = [leaf for leaf in jax.tree.leaves(judge(name, 2)(x)) if leaf.dtype != bool]
        return sum(jnp.sum(number) for number in numbers)

    assert np.isfinite(jax.jit(jax.grad(total))(jnp.asarray(IMAGES[0]))).all()


@pytest.mark.parametrize(
    "measure",
    [
        lambda x, n: metrics.insertion_curve(jnp.sum, x, x, steps=n),
        lambda x, n: metrics.infidelity(
            lambda x: jnp.sum(x * x), x, x, distributions.gaussian(0.1), key=KEY, num_samples=n
        ),
    ],
    ids=["insertion_curve", "infidelity"],
)
def test_memory_does_not_depend_on_the_number_of_evaluations(measure):
    few, many = (
        jax.jit(lambda x, n=n: measure(x, n))
        .lower(jnp.ones(20_000))
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for n in (64, 256)
    )
    assert many == pytest.approx(few, rel=0.05)


# Infidelity and sensitivity.


def test_infidelity_of_a_square_is_a_fourth_moment():
    # For |x|^2 the gradient is off by |I|^2; with I ~ N(0, s^2) in d dimensions its square has mean
    # s^4 (d^2 + 2 d).
    d, sigma = 5, 0.3
    noise, options = (
        distributions.gaussian(sigma),
        {"key": KEY, "num_samples": 4000, "batch_size": 4000},
    )
    measure = lambda x: metrics.infidelity(lambda x: x @ x, 2 * x, x, noise, **options)  # noqa: E731
    within(jax.jit(measure)(X), sigma**4 * (d * d + 2 * d))


def test_infidelity_of_the_gradient_of_a_linear_function_is_zero():
    slope = {"a": jnp.array([2.0, -1.0]), "b": jnp.float32(4.0)}
    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.float32(3.0)}
    fn = lambda x: x["a"] @ slope["a"] + x["b"] * slope["b"]  # noqa: E731
    to_zero = lambda x: lambda t, key: jax.tree.map(jnp.zeros_like, x)  # noqa: E731

    @jax.jit
    def measure(attribution):
        options = {"key": KEY, "num_samples": 4}
        return [
            metrics.infidelity(fn, attribution, x, distribution, **options).value
            for distribution in (distributions.uniform_noise(2.0), distributions.linear(), to_zero)
        ]

    assert np.max(measure(slope)) < 1e-10
    # Half the gradient misses half of the score on the way to zero.
    half = jax.tree.map(lambda leaf: leaf / 2, slope)
    assert measure(half)[2] == pytest.approx(float(fn(x) / 2) ** 2)


def test_max_sensitivity_of_the_identity_is_the_largest_step():
    x = jnp.array([2.0])
    explain = lambda x: x  # noqa: E731
    n, radius = 20, 0.5

    @jax.jit
    @jax.vmap
    def found(key):
        noise = distributions.uniform_noise(radius)
        return metrics.max_sensitivity(explain, x, noise, key=key, num_samples=n, batch_size=n)

    values = found(jax.random.split(KEY, 200))
    assert (values <= radius / 2).all()  # A lower bound of the maximum over the neighbourhood.
    # The largest of n uniform numbers has mean n / (n + 1).
    assert values.mean() == pytest.approx(radius / 2 * n / (n + 1), rel=0.02)


def test_max_sensitivity_where_the_explanation_is_zero():
    measure = lambda x: metrics.max_sensitivity(  # noqa: E731
        lambda x: jnp.maximum(x, 0), x, shifted(0.1), key=KEY, num_samples=3
    )
    value = jax.jit(jax.vmap(measure))(jnp.array([[-1.0], [0.0]]))
    assert value.tolist() == [0, np.inf]


def test_squares_are_removed_everywhere():
    x, baseline = jnp.ones((3, 4, 2)), jnp.full((3, 4, 2), -1.0)
    sampler = distributions.square_removal(2, baseline)(x)
    drawn = jax.jit(jax.vmap(lambda key: sampler(0.0, key)))(jax.random.split(KEY, 200))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert ((drawn == -1).sum((1, 2, 3)) == 8).all()
    assert len({tuple(np.argwhere(image == -1)[0]) for image in np.asarray(drawn)}) == 2 * 3


# Curves.


def slow_curve(fn, attribution, first, rest, steps):
    """Feature by feature, in NumPy."""
    order, out = np.argsort(-attribution.ravel(), kind="stable"), []
    for k in range(steps + 1):
        mixed = rest.copy()
        for place in order[: k * order.size // steps]:
            index = np.unravel_index(place, attribution.shape)
            mixed[index] = first[index]
        out.append(mixed)
    return jax.jit(jax.vmap(fn))(np.stack(out))


@pytest.mark.parametrize("steps", [4, 5, 12])
def test_curves_of_pixels_against_a_slow_reference(steps):
    x, baseline = IMAGES
    a = np.array([[3, 1, 3, 0], [1, 1, -2, 5], [0, 9, 4, 4]], np.float32)  # With ties.
    insertion, deletion = jax.jit(
        lambda x, baseline: [
            of(network, a, x, baseline, steps=steps, batch_size=3)
            for of in (metrics.insertion_curve, metrics.deletion_curve)
        ]
    )(x, baseline)
    close(insertion, slow_curve(network, a, x, baseline, steps))
    close(deletion, slow_curve(network, a, baseline, x, steps))


def test_curves_of_a_sum():
    # Sorted: 3, 1, 0.5, -1.5, -2.
    rising, steps = np.array([0.0, 3.0, 4.0, 4.5, 3.0, 1.0]), 5
    insertion = jax.jit(lambda a, x: metrics.insertion_curve(jnp.sum, a, x, steps=steps))
    deletion = jax.jit(lambda a, x: metrics.deletion_curve(jnp.sum, a, x, steps=steps))
    assert insertion(X, X).tolist() == rising.tolist()
    assert deletion(X, X).tolist() == (1 - rising).tolist()
    area = metrics.area(insertion(X, X))
    assert float(area) == pytest.approx((rising.sum() - 0.5) / 5)
    # No order inserts a sum faster than its own.
    orders = [X[list(p)] for p in ((1, 0, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3))]
    assert all(metrics.area(insertion(order, X)) < area for order in orders)


def test_curves_over_several_inputs_and_token_ids():
    x = {"ids": jnp.array([7, 3, 3]), "scale": jnp.array([2.0, 5.0])}
    blank = {"ids": jnp.array([1, 1, 1]), "scale": jnp.array([1.0, 1.0])}
    a = {"ids": jnp.array([0.5, 4.0, 2.0]), "scale": jnp.array([3.0, 0.0])}
    fn = lambda x: jnp.prod(x["ids"].astype("float32")) * jnp.prod(x["scale"])  # noqa: E731
    found = metrics.insertion_curve(fn, a, x, blank, steps=5)
    assert found.tolist() == [1.0, 3.0, 6.0, 18.0, 126.0, 630.0]


def test_what_is_not_finite_stays_where_it_is_not_chosen():
    found = metrics.insertion_curve(
        jnp.sum,
        jnp.array([2.0, 1.0]),
        jnp.array([1.0, jnp.inf]),
        jnp.array([jnp.nan, 0.0]),
        steps=2,
    )
    assert found[1:].tolist() == [1.0, np.inf] and np.isnan(found[0])


def test_area_of_batches():
    assert metrics.area(jnp.array([[0.0, 1.0, 2.0], [4.0, 4.0, 4.0]])).tolist() == [1.0, 4.0]
    assert metrics.area(jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32


# Correlations.


def all_subsets(attribution, size):
    """The exact correlation over all subsets of a size."""
    said, done = [], []
    for subset in itertools.combinations(range(len(X)), size):
        mixed = X.copy()
        mixed[list(subset)] = 0
        said.append(attribution[list(subset)].sum())
        done.append(float(curved(X) - curved(mixed)))
    return np.corrcoef(said, done)[0, 1]


def test_correlations_are_those_over_all_subsets():
    a, sizes = X * np.cos(X), (1, 2, 3, 4)
    options = {"key": KEY, "sizes": sizes, "num_samples": 500, "batch_size": 2000}
    value, error = jax.jit(lambda a, x: metrics.sensitivity_n(curved, a, x, **options))(a, X)
    expected = np.array([all_subsets(a, size) for size in sizes])
    assert (np.abs(value - expected) < 4 * error).all()
    assert (error < 0.05).all()


def test_the_error_of_a_correlation_is_that_of_repetitions():
    a = X * np.cos(X)
    options = {"subset_size": 2, "num_samples": 100, "batch_size": 100}
    measure = jax.vmap(lambda key: metrics.mufidelity(curved, a, X, key=key, **options))
    values, errors = jax.jit(measure)(jax.random.split(KEY, 150))
    assert float(values.mean()) == pytest.approx(all_subsets(a, 2), abs=0.02)
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)


def test_attributions_of_a_function_without_interactions_foretell_every_subset():
    options = {"key": KEY, "sizes": (1, 2, 3, 4), "num_samples": 20, "batch_size": 80}
    measure = jax.jit(
        lambda a, scale: metrics.sensitivity_n(
            lambda x: scale * jnp.sum(x**3), a, jnp.asarray(X), **options
        )
    )
    value, error = measure(X**3, 1.0)
    close(value, np.ones(4))
    assert (error < 1e-6).all()
    # Neither a factor nor a shift of all entries matters, and a sign reverses.
    close(measure(1e-20 * (7 - X**3), 1.0).value, -np.ones(4))
    # With a constant there is no correlation.
    assert np.isnan(measure(np.full(5, 0.1, "float32"), 1.0).value).all()
    assert np.isnan(measure(X, 0.0).value).all()


def test_rank_correlation():
    a = {"a": jnp.array([1.0, 5.0, 5.0]), "b": jnp.array([[2.0, -3.0]])}
    b = {"a": jnp.array([0.1, 0.2, 0.0]), "b": jnp.array([[0.2, 0.2]])}
    # Ranks 1, 3.5, 3.5, 2, 0 and 1, 3, 0, 3, 3, with means 2.
    u, v = np.array([-1, 1.5, 1.5, 0, -2]), np.array([-1, 1, -2, 1, 1])
    assert metrics.rank_correlation(a, b) == pytest.approx(u @ v / np.sqrt(u @ u * (v @ v)))
    assert metrics.rank_correlation(X, np.exp(X)) == pytest.approx(1)
    assert metrics.rank_correlation(X, -X) == pytest.approx(-1)
    assert np.isnan(metrics.rank_correlation(X, np.full(5, 0.1, "float32")))


# Imputation.


def slow_imputation(x, removed):
    """The linear system, written out and solved densely."""
    weights = {1: 1 / 6, 2: 1 / 12}
    pixels = list(np.ndindex(removed.shape))
    matrix, right = np.eye(len(pixels)), x.reshape(len(pixels), -1).astype(np.float64)
    for i, p in enumerate(pixels):
        if removed[p]:
            steps = {j: abs(p[0] - q[0]) + abs(p[1] - q[1]) for j, q in enumerate(pixels)}
            near = {
                j: weights[step]
                for j, step in steps.items()
                if 0 < step <= 2 and max(abs(p[k] - pixels[j][k]) for k in (0, 1)) == 1
            }
            matrix[i, list(near)] = -np.array(list(near.values())) / sum(near.values())
            right[i] = 0
    return np.linalg.solve(matrix, right).reshape(x.shape)


impute = jax.jit(metrics.noisy_linear_imputation)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_imputation_solves_the_system(share):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(7, 9, 2)).astype("float32") + 10
    removed = rng.uniform(size=(7, 9)) < share
    spoiled = np.where(removed[..., None], np.nan, x)  # Removed values are not looked at.
    found = np.asarray(impute(spoiled, removed, key=KEY, sigma=0.0))
    close(found, slow_imputation(x, removed))
    assert (found[~removed] == x[~removed]).all()


def test_imputation_of_a_large_hole():
    # Across a ramp the neighbours' mean is the ramp itself.
    ramp = np.tile(np.linspace(0, 1, 64, dtype="float32"), (64, 1))
    removed = np.zeros((64, 64), bool)
    removed[:, 4:60] = True
    close(impute(ramp, removed, key=KEY, sigma=0.0), ramp, 1e-4)  # The condition is about 1000.


def test_the_derivative_of_an_imputation_is_an_imputation():
    removed = np.random.default_rng(3).uniform(size=(7, 9)) < 0.6
    x, tangent = np.random.default_rng(4).normal(size=(2, 7, 9, 2)).astype("float32")
    fill = lambda x: impute(x, removed, key=KEY, sigma=0.0)  # noqa: E731
    slope = jax.jit(lambda x, tangent: jax.jvp(fill, (x,), (tangent,))[1])(x, tangent)
    close(slope, slow_imputation(tangent, removed))


def test_imputation_adds_noise_where_pixels_are_removed():
    x, removed = np.full((64, 64), 3.0, "float32"), np.zeros((64, 64), bool)
    removed[9:, 5:60] = True
    noise = np.asarray(impute(x, removed, key=KEY, sigma=0.1)) - x
    assert (noise[~removed] == 0).all()
    assert noise[removed].std() == pytest.approx(0.1, rel=0.1)
    everything = impute(x, np.ones_like(removed), key=KEY, sigma=0.01)
    assert np.abs(everything).max() < 0.1
    half = jax.eval_shape(impute, jnp.asarray(x, "bfloat16"), removed, key=KEY)
    assert half.dtype == jnp.bfloat16


def test_road_scores_imputed_images():
    x, a = IMAGES[0], WEIGHTS[..., 0]
    measure = jax.jit(
        lambda sigma, fractions: metrics.road(
            network, a, x, key=KEY, fractions=fractions, num_samples=2, sigma=sigma
        )
    )
    found = measure(0.0, np.array([0.0, 0.25, 0.5]))
    worst = np.sort(a.ravel())[::-1]
    images = [slow_imputation(x, a >= worst[k - 1]) if k else x for k in (0, 3, 6)]
    close(found.value, jnp.stack([network(jnp.asarray(image, "float32")) for image in images]))
    assert (found.standard_error == 0).all()


def test_the_error_of_road_is_that_of_the_noise():
    # The sum of six pixels in two channels, each with a noise of 0.5.
    options = {"fractions": [0.5], "num_samples": 400, "sigma": 0.5, "batch_size": 400}
    measure = lambda x: metrics.road(jnp.sum, WEIGHTS[..., 0], x, key=KEY, **options)  # noqa: E731
    value, error = jax.jit(measure)(IMAGES[0])
    place = np.argsort(-WEIGHTS[..., 0].ravel())[:6]
    clean = slow_imputation(IMAGES[0], np.isin(np.arange(12), place).reshape(3, 4)).sum()
    assert abs(value[0] - clean) < 4 * error[0]
    assert float(error[0]) == pytest.approx(0.5 * np.sqrt(12 / 400), rel=0.15)


# Localisation and complexity.


def test_pointing_game():
    a = jnp.zeros((4, 6)).at[1, 2].set(3.0)
    region = jnp.zeros((4, 6), bool).at[3, 3:].set(True)
    hits = [metrics.pointing_game(a, region, tolerance=t).item() for t in (0, 2.2, 2.3, 9)]
    assert hits == [0, 0, 1, 1]  # The nearest corner is sqrt(5) away.
    assert metrics.pointing_game(a, a > 0)
    assert not metrics.pointing_game(a, jnp.zeros_like(region), tolerance=99.0)


def test_relevance_in_a_region():
    a = jnp.array([[4.0, -9.0], [1.0, 3.0]])
    region = jnp.array([[True, True], [False, False]])
    assert metrics.relevance_mass(a, region) == pytest.approx(4 / 8)
    assert metrics.relevance_rank(a, region) == pytest.approx(1 / 2)
    assert metrics.relevance_mass(-jnp.abs(a), region) == 0
    nowhere = jnp.zeros_like(region)
    assert metrics.relevance_mass(a, nowhere) == metrics.relevance_rank(a, nowhere) == 0
    assert metrics.relevance_rank(a, ~nowhere) == metrics.relevance_mass(a, ~nowhere) == 1


def test_gini_is_half_the_relative_mean_difference():
    v = np.abs(X)
    expected = np.abs(v[:, None] - v).mean() / (2 * v.mean())
    assert metrics.gini(X) == pytest.approx(expected)
    tree = {"a": 1e30 * X[:2], "b": -1e30 * X[2:].reshape(3, 1)}  # Neither scale nor order matters.
    assert metrics.gini(tree) == pytest.approx(expected)
    assert metrics.gini(np.eye(1, 8, dtype="float32")) == pytest.approx(1 - 1 / 8)


def test_complexity_is_an_entropy():
    p = np.abs(X) / np.abs(X).sum()
    assert metrics.complexity(X) == pytest.approx(-(p * np.log(p)).sum())
    assert metrics.complexity(1e30 * X) == pytest.approx(metrics.complexity(X))
    assert metrics.complexity(np.eye(1, 8, dtype="float32")) == 0


def test_equal_attributions_are_as_complex_as_can_be():
    a = np.array([[0.0] * 6, [-2.0] * 6], "float32")
    for measure, expected in ((metrics.gini, 0), (metrics.complexity, np.log(6))):
        values, slopes = jax.jit(jax.vmap(jax.value_and_grad(measure)))(a)
        np.testing.assert_allclose(values, expected, atol=1e-6)
        assert np.isfinite(slopes).all()


def test_nothing_pulls_at_a_zero_attribution():
    for measure in (metrics.gini, metrics.complexity):
        slopes = jax.jit(jax.grad(measure))(jnp.array([1.0, 0.0, -3.0, 0.0]))
        assert slopes[1] == slopes[3] == 0
        assert slopes[0] * slopes[2] > 0  # To make them equal, one grows and the other shrinks.


# Sanity checks.


def mlp(params, x):
    hidden = jnp.tanh(x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"])
    return hidden @ params["dense_10"]["kernel"]


def parameters(seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), "float32")  # noqa: E731
    return {
        "dense_1": {"bias": draw(8), "kernel": draw(30, 8)},
        "dense_10": {"kernel": draw(8)},
        "steps": jnp.int32(seed),
    }


PARAMS, OTHER = parameters(0), parameters(1)
POINT = jnp.asarray(np.random.default_rng(2).normal(size=30), "float32")


def same_leaves(found, expected):
    names = metrics.leaf_names(expected)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return {n for n, (a, b) in zip(names, pairs, strict=True) if np.array_equal(a, b)}


def test_parameters_are_replaced_by_whole_names_in_order():
    at = lambda stage, **options: metrics.randomised(  # noqa: E731
        PARAMS, OTHER, stage, order=["dense_10", "kernel", "dense_1"], **options
    )
    head, kernel, bias = "dense_10/kernel", "dense_1/kernel", "dense_1/bias"
    assert metrics.leaf_names(PARAMS) == (bias, kernel, head, "steps")
    assert [same_leaves(at(k), OTHER) for k in range(3)] == [
        {head},
        {head, kernel},
        {head, kernel, bias},
    ]
    assert [same_leaves(at(k, walk=metrics.independent), OTHER) for k in range(3)] == [
        {head},
        {kernel},
        {bias},
    ]
    # Counters are no parameters.
    assert at(2)["steps"] == PARAMS["steps"]
    compiled = jax.jit(at)(1)
    assert same_leaves(compiled, OTHER) == {head, kernel}


def test_leaf_by_leaf():
    order = [name for name in reversed(metrics.leaf_names(PARAMS)) if name != "steps"]
    explain = lambda p: attrax.gradient_times_input(lambda x: mlp(p, x), POINT)  # noqa: E731
    found = jax.jit(
        lambda p, q: metrics.parameter_randomisation(
            explain, p, q, order=order, walk=metrics.independent, batch_size=2
        )
    )(PARAMS, OTHER)
    similarity = jax.jit(lambda p, q: metrics.rank_correlation(explain(p), explain(q)))
    expected = [
        similarity(
            PARAMS, metrics.randomised(PARAMS, OTHER, k, order=order, walk=metrics.independent)
        )
        for k in range(3)
    ]
    close(found, np.stack(expected))


def test_an_explanation_of_the_model_falls_and_a_picture_of_the_input_stays():
    measure = jax.jit(
        lambda explain, p, q: metrics.parameter_randomisation(
            explain, p, q, order=["dense_10", "dense_1"]
        ),
        static_argnums=0,
    )
    close(measure(lambda p: jnp.abs(POINT), PARAMS, OTHER), np.ones(2))
    slope = measure(lambda p: attrax.gradient(lambda x: mlp(p, x), POINT), PARAMS, OTHER)
    assert abs(slope[-1]) < 0.4  # The correlation of 30 independent pairs has deviation 0.19.


def test_a_flax_model_is_a_tree_of_parameters():
    linen = pytest.importorskip("flax.linen")
    module = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(1), jnp.sum])
    tall, wide = (np.random.default_rng(4).normal(size=shape) for shape in ((30, 8), (8, 1)))
    params = {
        "layers_0": {"kernel": jnp.asarray(tall, "float32"), "bias": jnp.ones(8)},
        "layers_2": {"kernel": jnp.asarray(wide, "float32"), "bias": jnp.ones(1)},
    }
    model = attrax.from_linen(module, {"params": params})
    order = ["layers_2", "layers_0"]
    explain = lambda model: attrax.gradient(model, POINT)  # noqa: E731
    similarity = jax.jit(
        lambda model, key: metrics.parameter_randomisation(
            explain, model, metrics.shuffled(model, key=key), order=order
        )
    )(model, KEY)
    assert similarity.shape == (2,)
    assert abs(similarity[-1]) < 0.6


def test_shuffled_parameters_keep_their_entries():
    found = metrics.shuffled(PARAMS, key=KEY)
    assert same_leaves(found, PARAMS) == {"steps"}
    in_order = lambda tree: jax.tree.map(lambda leaf: jnp.sort(leaf, axis=None), tree)  # noqa: E731
    assert len(same_leaves(in_order(found), in_order(PARAMS))) == 4


def test_permuted_labels_teach_another_explanation():
    rng = np.random.default_rng(3)
    inputs = jnp.asarray(rng.normal(size=(200, 20)), "float32")
    labels = inputs @ jnp.arange(20.0)
    fit = lambda labels: labels @ inputs / 200  # noqa: E731
    run = jax.jit(
        lambda explain: metrics.label_randomisation(
            explain, fit, labels, key=KEY, num_samples=50, batch_size=10
        ),
        static_argnums=0,
    )
    learned = run(lambda w: w * POINT[:20])
    picture = run(lambda w: POINT[:20])
    assert abs(learned.value) < 4 * learned.standard_error < 0.3
    assert picture.value == pytest.approx(1)


# What is refused.


def test_refusals_of_features():
    for judge in (
        lambda *args: metrics.insertion_curve(*args, steps=2),
        lambda *args: metrics.deletion_curve(*args, steps=2),
        lambda *args: metrics.mufidelity(*args, key=KEY, subset_size=1, num_samples=3),
        lambda *args: metrics.sensitivity_n(*args, key=KEY, sizes=[1], num_samples=3),
    ):
        with pytest.raises(
            ValueError,
            match=r"`attribution` must have .* leading axes; got \(2,\) against \(3, 2\)",
        ):
            judge(jnp.sum, jnp.ones(2), jnp.ones((3, 2)))
        with pytest.raises(ValueError, match="`attribution` must have the structure of `x`"):
            judge(jnp.sum, [X], X)
        with pytest.raises(TypeError, match="`attribution` must be floating; got int32"):
            judge(jnp.sum, jnp.arange(5), X)
        with pytest.raises(ValueError, match="`baseline` must have the structure of `x`"):
            judge(jnp.sum, X, X, (X,))
        with pytest.raises(ValueError, match=r"`baseline` must have .*; got \(\) against \(5,\)"):
            judge(jnp.sum, X, X, 0.0)
        with pytest.raises(ValueError, match=r"of the kind of `x`; got int32 against float32"):
            judge(jnp.sum, X, X, np.zeros(5, "int32"))
        with pytest.raises(ValueError, match=r"`fn` must return a scalar; got shape \(5,\)"):
            judge(lambda x: x, X, X)


def test_refusals_of_curves_and_correlations():
    with pytest.raises(ValueError, match="`steps` must be at most 5; got 6"):
        metrics.insertion_curve(jnp.sum, X, X, steps=6)
    with pytest.raises(TypeError, match="`steps` must be an int"):
        metrics.deletion_curve(jnp.sum, X, X, steps=2.0)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        metrics.deletion_curve(jnp.sum, X, X, steps=2, batch_size=0)
    with pytest.raises(ValueError, match=r"at least two points; got shape \(1,\)"):
        metrics.area(jnp.ones(1))
    with pytest.raises(TypeError, match="`curve` must be floating"):
        metrics.area(jnp.arange(3))
    with pytest.raises(ValueError, match="`subset_size` must be at most 4; got 5"):
        metrics.mufidelity(jnp.sum, X, X, key=KEY, subset_size=5, num_samples=9)
    with pytest.raises(ValueError, match="`num_samples` must be at least 3; got 2"):
        metrics.mufidelity(jnp.sum, X, X, key=KEY, subset_size=2, num_samples=2)
    with pytest.raises(ValueError, match="`sizes` must hold at least one size"):
        metrics.sensitivity_n(jnp.sum, X, X, key=KEY, sizes=(), num_samples=9)
    with pytest.raises(ValueError, match=r"`b` must have the shapes of `a`; got \(2,\)"):
        metrics.rank_correlation(X, X[:2])
    with pytest.raises(ValueError, match="`b` must have the structure of `a`"):
        metrics.rank_correlation(X, [X])


def test_refusals_of_perturbations():
    with pytest.raises(ValueError, match=r"`attribution` must have the shapes of `x`; got \(2,\)"):
        metrics.infidelity(jnp.sum, X[:2], X, shifted(1), key=KEY, num_samples=2)
    with pytest.raises(ValueError, match=r"`distribution` must have the shapes of `x`; got \(\)"):
        metrics.infidelity(jnp.sum, X, X, lambda x: lambda t, key: t, key=KEY, num_samples=2)
    with pytest.raises(ValueError, match="`num_samples` must be at least 1; got 0"):
        metrics.max_sensitivity(jnp.sin, X, shifted(1), key=KEY, num_samples=0)
    with pytest.raises(TypeError, match="`explain` must be floating"):
        metrics.max_sensitivity(jnp.argsort, X, shifted(1), key=KEY, num_samples=2)
    with pytest.raises(ValueError, match="`infidelity` is random: pass `key="):
        metrics.infidelity(jnp.sum, X, X, shifted(1), key=None, num_samples=2)
    with pytest.raises(ValueError, match=r"`radius` must be a scalar; got shape \(2,\)"):
        distributions.uniform_noise(np.ones(2))
    with pytest.raises(ValueError, match="`radius` must not be negative; got -1"):
        distributions.uniform_noise(-1)
    with pytest.raises(ValueError, match="`uniform_noise` is random"):
        distributions.uniform_noise(1.0)(X)(0.0, None)
    with pytest.raises(ValueError, match="`square_removal` is random"):
        distributions.square_removal(1)(IMAGES[0])(0.0, None)
    with pytest.raises(ValueError, match=r"`square_removal` needs an image, .*; got \(5,\)"):
        distributions.square_removal(1)(X)
    with pytest.raises(ValueError, match="`size` must be at most 3; got 4"):
        distributions.square_removal(4)(IMAGES[0])


def test_refusals_of_imputation():
    image = IMAGES[0]
    with pytest.raises(ValueError, match=r"`x` must be an image, .*; got \(5,\)"):
        metrics.noisy_linear_imputation(X, X > 0, key=KEY)
    with pytest.raises(ValueError, match=r"`removed` must have the height .*; got \(5,\)"):
        metrics.noisy_linear_imputation(image, X > 0, key=KEY)
    with pytest.raises(TypeError, match="`removed` must be boolean; got float32"):
        metrics.noisy_linear_imputation(image, image[..., 0], key=KEY)
    with pytest.raises(ValueError, match="`noisy_linear_imputation` is random"):
        metrics.noisy_linear_imputation(image, image[..., 0] > 0, key=None)
    road = lambda a, fractions: metrics.road(  # noqa: E731
        jnp.sum, a, image, key=KEY, fractions=fractions, num_samples=2
    )
    with pytest.raises(ValueError, match=r"`attribution` must have the height .*; got \(3, 4, 2\)"):
        road(image, [0.5])
    with pytest.raises(ValueError, match=r"`fractions` must lie in \[0, 1\); got 1.0"):
        road(image[..., 0], [0.5, 1.0])
    with pytest.raises(ValueError, match=r"`fractions` must be one-dimensional; got shape \(\)"):
        road(image[..., 0], 0.5)


def test_refusals_of_regions():
    for judge in (metrics.pointing_game, metrics.relevance_mass, metrics.relevance_rank):
        with pytest.raises(ValueError, match=r"`region` must have .*; got \(3,\) against \(5,\)"):
            judge(X, X[:3] > 0)
        with pytest.raises(TypeError, match="`region` must be boolean; got float32"):
            judge(X, X)
    with pytest.raises(ValueError, match=r"`tolerance` must be a scalar; got shape \(2,\)"):
        metrics.pointing_game(X, X > 0, tolerance=np.ones(2))


def test_refusals_of_randomisation():
    replace = lambda other, order: metrics.randomised(PARAMS, other, 0, order=order)  # noqa: E731
    with pytest.raises(ValueError, match="`other` must have the structure of `params`"):
        replace({}, ["dense_1"])
    with pytest.raises(ValueError, match=r"of `params`; got \(\) against \(8,\) at 'dense_1/bias'"):
        replace(jax.tree.map(jnp.sum, PARAMS), ["dense_1"])
    with pytest.raises(ValueError, match=r"`order` names 'dense_2', .* the nearest are dense_1"):
        replace(OTHER, ["dense_1", "dense_2"])
    for order in ([], "dense_1"):
        with pytest.raises(ValueError, match="`order` must be a sequence of at least one name"):
            replace(OTHER, order)
    with pytest.raises(ValueError, match="`labels` must have a leading axis"):
        metrics.label_randomisation(lambda p: p, jnp.sin, 1.0, key=KEY, num_samples=2)
