"""The loop, objectives that it makes large, and ReLUs that are silent."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import attrax
from attrax import visualise
from attrax.visualise import Parameterisation, compose, fourier, pixels, render, stacked
from comparisons import close

KEY = jax.random.key(1)
RNG = np.random.default_rng(2)
STAY = compose()


def free(shape):
    """Parameters that are the image, 0 at the start."""
    return Parameterisation(
        shape, lambda key: jnp.zeros(shape), lambda params: params, lambda image: image
    )


# The loop.

W = jnp.asarray(RNG.normal(size=(2, 3, 1)), jnp.float32)


def test_steps_of_a_linear_objective_are_known():
    # x_n = n r w, before step n the objective is n r |w|^2, and the prior, b, moves every pixel.
    found = render(
        lambda image: jnp.sum(W * image),
        free((2, 3, 1)),
        key=KEY,
        steps=6,
        transform=STAY,
        prior=lambda image: 2 * jnp.sum(image),
        optimiser=optax.sgd(0.25),
        snapshots=3,
    )
    slope = np.asarray(W) + 2
    close(found.image, 6 * 0.25 * slope)
    close(found.snapshots, np.stack([n * 0.25 * slope for n in (2, 4, 6)]))
    close(found.values, np.arange(6) * 0.25 * np.sum(slope**2))
    assert found.state.step == 6


def test_the_objective_sees_the_transformed_image_and_the_prior_does_not():
    shapes = {}

    def seen(name):
        return lambda image: (shapes.setdefault(name, image.shape), jnp.sum(image))[1]

    render(
        seen("objective"),
        fourier((5, 6)),
        key=KEY,
        steps=1,
        transform=compose(visualise.pad(2), visualise.jitter(1)),
        prior=seen("prior"),
    )
    assert shapes == {"objective": (8, 9, 3), "prior": (5, 6, 3)}


def pattern(image):
    return jnp.sum(image[1:3, 1:3, 0]) - jnp.mean(image[..., 1])


@pytest.mark.soak
def test_going_on_is_like_not_stopping():
    options = {"key": KEY, "transform": visualise.jitter(2)}
    whole = render(pattern, fourier((6, 6)), steps=6, **options)
    half = render(pattern, fourier((6, 6)), steps=3, **options)
    rest = render(pattern, fourier((6, 6)), steps=3, start=half.state, **options)
    close(rest.image, whole.image)
    close(jnp.concatenate([half.values, rest.values]), whole.values)


def test_it_begins_where_it_is_told():
    image = jnp.asarray(RNG.uniform(0.2, 0.8, (4, 4, 3)), jnp.float32)
    parameterisation = pixels((4, 4))
    still = render(
        lambda image: 0 * jnp.sum(image),
        parameterisation,
        key=KEY,
        steps=1,
        transform=STAY,
        start=parameterisation.invert(image),
    )
    close(still.image, image)


@pytest.mark.soak
def test_the_key_decides():
    draw = jax.jit(lambda key: render(pattern, fourier((6, 6)), key=key, steps=2).image)
    assert (draw(KEY) == draw(KEY)).all()
    assert (draw(KEY) != draw(jax.random.key(2))).any()


def test_several_images_are_transformed_each_by_itself():
    views = []

    def objective(images):
        jax.debug.callback(lambda seen: views.append(np.asarray(seen)), images)
        return 0.0 * jnp.sum(images)

    parameterisation = stacked(pixels((5, 5)), 6)
    rows = jnp.linspace(0.1, 0.9, 5)[None, :, None, None]
    same = parameterisation.invert(jnp.tile(rows, (6, 1, 5, 3)))
    options = {"key": KEY, "steps": 1, "transform": visualise.jitter(3)}
    found = jax.jit(lambda start: render(objective, parameterisation, start=start, **options))(same)
    jax.effects_barrier()
    assert found.image.shape == (6, 5, 5, 3)
    assert views[-1].shape == (6, 2, 2, 3)
    assert len({float(view[0, 0, 0]) for view in views[-1]}) > 1


@pytest.mark.soak
def test_diversity_parts_images():
    def textures(images):
        return visualise.diversity(images - 0.5)

    options = {"key": KEY, "steps": 20, "transform": STAY, "optimiser": optax.adam(0.2)}
    start = render(textures, stacked(pixels((3, 3)), 3), **(options | {"steps": 1}))
    found = render(lambda images: -textures(images), stacked(pixels((3, 3)), 3), **options)
    assert textures(found.image) < 0.5 * textures(start.image)


# Any layer of any model.


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(5, (3, 3), name="first")(x))
        tokens = x.reshape(-1, 5)
        tokens = nn.Dense(7, name="tokens")(tokens)
        return nn.Dense(4000, name="head")(tokens.reshape(-1))


@pytest.fixture(scope="module")
def network():
    module = Network()
    return attrax.from_linen(module, module.init(KEY, jnp.zeros((6, 6, 3))))


def rendered(at, objective, steps=12):
    @jax.jit
    def run(model, key):
        def wanted(image):
            return objective(attrax.capture(model, image, at=at))

        return render(wanted, fourier((6, 6)), key=key, steps=steps, transform=STAY)

    return run


@pytest.mark.parametrize(
    ("at", "objective"),
    [
        ("first", lambda z: visualise.mean_channel(z, 2)),
        ("first:in", lambda z: visualise.centre_neuron(z, 2)),
        ("tokens", lambda z: visualise.cosine_direction(z, jnp.arange(7.0), 1)),
        ("head", attrax.scores.logit(3)),
    ],
)
def test_any_layer(network, at, objective):
    values = rendered(at, objective)(network, KEY).values
    assert values[-1] > values[0] + 0.05


def test_what_is_behind_the_layer_is_not_computed(network):
    def cost(at):
        program = rendered(at, visualise.deep_dream).lower(network, KEY).compile()
        return program.cost_analysis()["flops"]

    assert cost("first") < 0.2 * cost("head")


# ReLUs.


def test_a_silent_relu_needs_another_gradient():
    def wanted(relu):
        return lambda image: jnp.mean(relu(image - 0.9))

    def rise(relu):
        found = render(wanted(relu), pixels((4, 4)), key=KEY, steps=80, transform=STAY)
        return float(found.image.mean())

    assert rise(jax.nn.relu) == pytest.approx(0.5, abs=0.05)
    assert rise(visualise.redirected_relu) > 0.8


def pulled(relu, x, above, **options):
    @jax.jit
    def pull(x, above):
        return jax.vjp(lambda x: relu(x, **options), x)[1](above)[0]

    return pull(jnp.asarray(x), jnp.asarray(above)).tolist()


def test_redirected_relu6():
    relu = visualise.redirected_relu6
    assert relu(jnp.array([-1.0, 2.0, 7.0])).tolist() == [0, 2, 6]
    # One entry has a gradient: it is that of a ReLU6.
    assert pulled(relu, [-1.0, 2.0, 7.0], [1.0, 1.0, -1.0]) == [0, 1, 0]
    # None has: inward passes, outward does not.
    assert pulled(relu, [-1.0, -1.0, 7.0, 7.0], [1.0, -1.0, 1.0, -1.0]) == [1, 0, 0, -1]
    assert pulled(relu, [-1.0], [1.0], active=False) == [0]


def test_each_example_is_silent_by_itself():
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: jnp.sum(visualise.redirected_relu(x)))))
    assert gradient(jnp.array([[-1.0, 2.0], [-1.0, -2.0]])).tolist() == [[0, 1], [1, 1]]


# Objectives.


def test_a_traced_channel_is_the_channel():
    z = jnp.asarray(RNG.normal(size=(3, 4, 5)), jnp.float32)
    for objective in (visualise.mean_channel, visualise.centre_neuron):
        close(jax.jit(objective)(z, jnp.int32(3)), objective(z, 3))
    close(visualise.mean_channel(z, 3), np.mean(np.asarray(z)[..., 3]))
    assert visualise.centre_neuron(z, 3) == z[1, 2, 3]


def test_a_direction_of_nothing_has_a_gradient():
    def objective(z):
        return visualise.cosine_direction(z, jnp.array([1.0, 2.0]), 2)

    value, gradient = jax.jit(jax.value_and_grad(objective))(jnp.zeros((3, 2)))
    assert value == 0 and jnp.isfinite(gradient).all()


def test_a_caricature_is_its_target_times_anything():
    target = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)
    length = np.linalg.norm(target)
    caricature = jax.jit(visualise.caricature, static_argnums=2)
    close(caricature(3 * target, target, 0), 3 * length**2)
    close(caricature(3 * target, target, 4), 3 * length**2, 2e-3)
    away = target.at[0, 0].add(5.0)
    assert caricature(away, target, 4) < caricature(away, target, 0)


def test_blurs_are_means_of_neighbours():
    # Slow: the blur of each pixel as a weighed mean over those that are there.
    image = RNG.uniform(size=(5, 6, 2))

    def blurred(width):
        half = width // 2
        out = np.zeros_like(image)
        for i, j in np.ndindex(5, 6):
            total = weight = 0
            for k in range(max(0, i - half), min(5, i + half + 1)):
                for m in range(max(0, j - half), min(6, j + half + 1)):
                    w = 0.5 if max(abs(k - i), abs(m - j)) == half else 1
                    total, weight = total + w * image[k, m], weight + w
            out[i, j] = total / weight
        return out

    x = jnp.asarray(image, jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(visualise.detail))(x)
    close(value, np.sum((image - blurred(3)) ** 2) / 2)
    close(gradient, image - blurred(3))
    costs = (image - blurred(5)) ** 2 + 0.8 * (image - 0.3) ** 2
    edges = jax.jit(visualise.boundary_complexity, static_argnums=1)
    close(edges(x, 2, 0.3), costs.sum() - costs[2:-2, 2:-2].sum())
    close(edges(x, 9, 0.3), costs.sum())


def test_an_interpolation_ends_at_both_channels():
    z = jnp.asarray(RNG.normal(size=(3, 4, 2)), jnp.float32)
    means = np.asarray(z).mean(axis=1)
    expected = means[0, 0] + (means[1, 0] + means[1, 1]) / 2 + means[2, 1]
    close(jax.jit(visualise.interpolation)(z, 0, 1), expected)


@pytest.mark.parametrize("penalty", [visualise.l1, visualise.total_variation])
def test_penalties_have_no_slope_at_ties(penalty):
    image = jnp.zeros((3, 4, 2)).at[0, 0, 0].set(1.0)
    slopes = np.asarray(jax.jit(jax.grad(penalty))(image))
    moved = {(0, 0, 0)} if penalty is visualise.l1 else {(0, 0, 0), (0, 1, 0), (1, 0, 0)}
    assert {tuple(map(int, place)) for place in np.argwhere(slopes)} == moved
    assert not jax.grad(penalty)(jnp.zeros((3, 4, 2))).any()


def test_neuron_groups_find_what_is_active_together():
    pytest.importorskip("sklearn")
    channels = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.8]])
    positions = np.zeros((2, 3, 5))
    positions[0, :, :3], positions[1, 1:, 2:] = 1.0, RNG.uniform(1, 2, (2, 3))
    z = np.einsum("khw,kc->hwc", positions, channels).astype(np.float32)
    found = visualise.neuron_groups(z, 2, key=KEY)
    close(found.channels, np.array([[0.6, 0.8, 0, 0], [0, 0, 0.6, 0.8]]), 1e-3)
    close(found.positions, positions * np.array([5.0, 1.0])[:, None, None], 1e-3)
    assert found.positions.dtype == np.float32


# What is refused.

Z = jnp.ones((2, 3, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1; got 0"),
        ({"snapshots": 3}, "`snapshots` must divide `steps`; got 3 and 4"),
        ({"key": None}, "`render` is random: pass `key="),
        (
            {"parameterisation": (4, 4)},
            r"`parameterisation` must be a Parameterisation, made by .*; got \(4, 4\)",
        ),
        (
            {"objective": lambda image: image},
            r"`objective` must return a scalar; got shape \(16, 16, 3\)",
        ),
        (
            {"prior": lambda image: image},
            r"`prior` must return a scalar; got shape \(4, 4, 3\)",
        ),
        (lambda: visualise.cosine_direction(Z, jnp.ones(3)), r"got \(3,\) against \(2, 3, 4\)"),
        (lambda: visualise.caricature(Z, Z[0]), r"shape of `z`; got \(3, 4\), \(2, 3, 4\)"),
        (lambda: visualise.diversity(Z[:1]), r"`diversity` compares images: .*\(1, 3, 4\)"),
        (lambda: visualise.alignment(jnp.ones(3)), r"`alignment` compares images: .*\(3,\)"),
        (lambda: visualise.boundary_complexity(Z, 0), "`width` must be at least 1; got 0"),
        (lambda: visualise.deep_dream(jnp.ones(2, int)), "`z` must be floating; got int32"),
        (lambda: visualise.neuron_groups(-Z, 1, key=KEY), "`z` must not be negative; got -1"),
        (
            lambda: visualise.neuron_groups(Z[0, 0], 1, key=KEY),
            r"positions and channels.*got \(4,\)",
        ),
    ],
)
def test_refuses(make, message):
    if isinstance(make, dict):
        options = {"objective": jnp.mean, "parameterisation": fourier((4, 4))}
        options |= {"key": KEY, "steps": 4} | make
        with pytest.raises((ValueError, TypeError), match=message):
            render(options.pop("objective"), options.pop("parameterisation"), **options)
    else:
        with pytest.raises((ValueError, TypeError), match=message):
            make()


def test_groups_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'attrax\[groups\]'"):
        visualise.neuron_groups(Z, 1, key=KEY)
