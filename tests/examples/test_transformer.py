"""A transformer whose layers run under a scan is explained, at any depth, as its unrolled twin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import transformer
from attrax import quadrature
from attrax.scores import log_probability
from comparisons import close
from transformer import Transformer

IDS = jnp.array([3, 1, 4, 1, 5])
DEPTH = 3
RULE = quadrature.gauss_legendre(2)


def twin(**options):
    return Transformer(vocabulary=11, length=6, width=8, heads=2, depth=DEPTH, **options)


@pytest.fixture(scope="module")
def variables():
    """Weights without a structure: as Flax draws them, all biases are 0 and all norms alike."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(twin().init, jax.random.key(0), IDS)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32) / 2, shapes)


@pytest.fixture(scope="module")
def scanned(variables):
    return attrax.from_linen(twin(), variables)


@pytest.fixture(scope="module")
def unrolled(variables):
    return attrax.from_linen(twin(scanned=False), transformer.unstack(variables))


def score(logits):
    """How probable it is that 2 comes next."""
    return log_probability(2)(logits[-1])


@functools.partial(jax.jit, static_argnames="at")
def explain_at(model, ids, at):
    """Activation, output, gradient and integrated gradients at a cut."""
    z, tail = attrax.cut(model, ids, at=at)

    def fn(z):
        return score(tail(z))

    return z, tail(z), attrax.gradient(fn, z), attrax.integrated_gradients(fn, z, rule=RULE)


@functools.partial(jax.jit, static_argnames="at")
def everywhere(model, ids, at):
    """Activations and gradients without a cut."""
    return attrax.capture(model, ids, at=at), attrax.gradients_at(model, ids, score=score, at=at)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "twin_name"),
    [
        ("layers[1]/attention/softmax#0", "layers_1/attention/softmax#0"),
        ("layers[2]", "layers_2"),
        ("embed", "embed"),
    ],
)
def test_explained_at_a_depth_as_the_unrolled_twin(scanned, unrolled, name, twin_name):
    found = explain_at(scanned, IDS, name)
    close(found, explain_at(unrolled, IDS, twin_name))
    z, output, gradient, integrated = found
    close(output, scanned(IDS))
    assert not np.allclose(integrated, z * gradient, rtol=0.01)


FEW = ("", "/attention/softmax#0")
MANY = (*FEW, ":in", "/attention", "/down:in")


@pytest.mark.parametrize("places", [FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=len)
def test_a_bare_name_means_all_layers(scanned, unrolled, places):
    stacked = everywhere(scanned, IDS, tuple(f"layers{place}" for place in places))
    names = tuple(f"layers_{k}{place}" for k in range(DEPTH) for place in places)
    for found, single in zip(stacked, everywhere(unrolled, IDS, names), strict=True):
        for place in places:
            layers = [single[f"layers_{k}{place}"] for k in range(DEPTH)]
            close(found[f"layers{place}"], jnp.stack(layers))


@pytest.mark.soak
@pytest.mark.parametrize("place", MANY)
def test_gradients_of_cuts_at_every_depth(scanned, unrolled, place):
    @functools.partial(jax.jit, static_argnames="at")
    def cuts(model, ids, at):
        parts = [attrax.cut(model, ids, at=name) for name in at]
        return [(z, tail(z), jax.grad(lambda z, t=tail: score(t(z)))(z)) for z, tail in parts]

    found = cuts(scanned, IDS, tuple(f"layers[{k}]{place}" for k in range(DEPTH)))
    names = tuple(f"layers_{k}{place}" for k in range(DEPTH))
    values, gradients = everywhere(unrolled, IDS, names)
    for name, (z, output, gradient) in zip(names, found, strict=True):
        close(z, values[name])
        close(output, unrolled(IDS))
        close(gradient, gradients[name])


@pytest.mark.soak
def test_interventions_in_one_layer_and_in_all(scanned, unrolled):
    places = ("", "/attention/softmax#0", "/down:in")

    @functools.partial(jax.jit, static_argnames="names")
    def with_half(model, ids, names):
        """The output when activations are halved, for each group of names."""
        return [
            attrax.intervene(model, ids, at={n: lambda z: z / 2 for n in group}) for group in names
        ]

    one = [(f"layers[1]{place}",) for place in places]
    every = [(f"layers{place}",) for place in places]
    found = with_half(scanned, IDS, (*one, *every))
    one = [(f"layers_1{place}",) for place in places]
    every = [tuple(f"layers_{k}{place}" for k in range(DEPTH)) for place in places]
    close(found, with_half(unrolled, IDS, (*one, *every)))
    outputs = [scanned(IDS), *found]
    for i in range(len(outputs)):
        for j in range(i):
            assert not np.allclose(outputs[i], outputs[j], rtol=0.01)


@pytest.mark.soak
def test_from_one_layer_to_another(scanned, unrolled):
    """The tail of a cut is cut again: a slice of the model, under the same names."""

    @functools.partial(jax.jit, static_argnames=("start", "end"))
    def slope(model, ids, start, end):
        z, tail = attrax.cut(model, ids, at=start)
        return jax.grad(lambda z: attrax.capture(tail, z, at=end)[3, 7])(z)

    found = slope(scanned, IDS, "layers[0]", "layers[2]/up")
    close(found, slope(unrolled, IDS, "layers_0", "layers_2/up"))
    assert bool(jnp.all(jnp.any(found[:4] != 0, axis=-1)))
    np.testing.assert_array_equal(found[4:], 0)


@pytest.mark.parametrize("layer", ["layers[1]", pytest.param("layers_1", marks=pytest.mark.soak)])
def test_nothing_is_attributed_to_later_tokens(request, layer):
    model = request.getfixturevalue("scanned" if "[" in layer else "unrolled")
    at = ["embed", layer, f"{layer}/attention/value"]

    @jax.jit
    def matrices(model, ids):
        def row(i):
            return attrax.gradients_at(
                model, ids, score=lambda logits: log_probability(2)(logits[i]), at=at
            )

        return jax.vmap(row)(jnp.arange(len(ids)))

    for name, gradients in matrices(model, IDS).items():
        acts = np.any(np.asarray(gradients).reshape(len(IDS), len(IDS), -1) != 0, axis=-1)
        np.testing.assert_array_equal(acts, np.tri(len(IDS), dtype=bool), err_msg=name)


def test_stacked_parameters_come_back(variables):
    unrolled = transformer.unstack(variables)
    shapes = jax.eval_shape(twin(scanned=False).init, jax.random.key(0), IDS)
    assert jax.tree.map(jnp.shape, unrolled) == jax.tree.map(jnp.shape, shapes)
    np.testing.assert_array_equal(
        unrolled["params"]["layers_2"]["up"]["kernel"],
        variables["params"]["layers"]["up"]["kernel"][2],
    )
    back = transformer.stack(unrolled)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
