"""Attention followed through layers: closed forms, loops, and unmodified transformers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import attrax
from attrax import scores
from comparisons import close

LAYERS, HEADS, TOKENS = 3, 2, 5
_RNG = np.random.default_rng(8)
WEIGHTS = jax.nn.softmax(jnp.asarray(_RNG.normal(size=(LAYERS, HEADS, TOKENS, TOKENS)), "float32"))
GRADIENTS = jnp.asarray(_RNG.normal(size=WEIGHTS.shape), "float32")

# Compiled: operation by operation everything takes ten times as long.
rollout = jax.jit(attrax.attention_rollout)
weighted = jax.jit(attrax.gradient_weighted_attention)
METHODS = {
    "attention_rollout": rollout,
    "gradient_weighted_attention": lambda w: weighted(w, GRADIENTS.astype(w.dtype)),
}
every_method = pytest.mark.parametrize("explain", METHODS.values(), ids=METHODS)


# Answers known on paper.


def test_rollout_of_uniform_attention():
    # (I + J/T)/2 has the eigenvalues 1, along the constants, and 1/2: a power of it is known.
    uniform = jnp.full((LAYERS, HEADS, TOKENS, TOKENS), 1 / TOKENS)
    rest = 0.5**LAYERS
    close(rollout(uniform), rest * np.eye(TOKENS) + (1 - rest) / TOKENS)


def test_rollout_of_tokens_that_look_at_themselves():
    alone = jnp.broadcast_to(jnp.eye(TOKENS), (LAYERS, HEADS, TOKENS, TOKENS))
    close(rollout(alone), np.eye(TOKENS))


def test_rollout_against_a_loop():
    slow = np.eye(TOKENS)
    for layer in np.asarray(WEIGHTS, np.float64):
        slow = (layer.mean(axis=0) + np.eye(TOKENS)) / 2 @ slow
    found = rollout(WEIGHTS)
    close(found, slow)
    close(found.sum(axis=1), np.ones(TOKENS))
    # The order of the layers matters.
    assert not np.allclose(found, rollout(WEIGHTS[::-1]), rtol=1e-2)


def test_gradient_weighted_attention_against_a_loop():
    slow = np.eye(TOKENS)
    for weights, gradients in zip(
        np.asarray(WEIGHTS, np.float64), np.asarray(GRADIENTS, np.float64), strict=True
    ):
        slow = slow + np.maximum(gradients * weights, 0).mean(axis=0) @ slow
    close(weighted(WEIGHTS, GRADIENTS), slow)


def test_gradient_weighted_attention_of_a_score_that_needs_no_attention():
    found = weighted(WEIGHTS, jnp.zeros_like(GRADIENTS))
    assert found.tolist() == np.eye(TOKENS).tolist()


def test_gradient_weighted_attention_of_one_linear_layer():
    # The score is token 0 of A v, along a direction: its derivative by A[0, j] is v[j] . direction.
    attention, gains = WEIGHTS[:1, :1], jnp.array([0.5, -1.0, 2.0, 0.0, -3.0])
    gradients = jax.grad(lambda a: jnp.sum(a[0, 0, 0] * gains))(attention)
    found = weighted(attention, gradients)
    close(found[0, 1:], np.maximum(attention[0, 0, 0] * gains, 0)[1:])
    close(found[1:], np.eye(TOKENS)[1:])


# Unmodified transformers, through the names of their softmax.

X = jnp.asarray(_RNG.normal(size=(TOKENS, 8)), "float32")


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        attention = nn.MultiHeadDotProductAttention(num_heads=HEADS, name="attention")
        x = x + attention(nn.LayerNorm(name="norm")(x))
        return x + nn.Dense(8, name="out")(nn.gelu(nn.Dense(16, name="ff")(x))), None


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        for k in range(LAYERS):
            x, _ = Block(name=f"block{k}")(x)
        return nn.Dense(3, name="head")(x[0])


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        blocks = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
        )
        x, _ = blocks(name="blocks")(x, None)
        return nn.Dense(3, name="head")(x[0])


NAMES = [f"block{k}/attention/softmax#0" for k in range(LAYERS)]


@pytest.fixture(scope="module")
def variables():
    return jax.jit(Transformer().init)(jax.random.key(3), X)


def stacked(found):
    return jnp.stack([found[name] for name in NAMES])


@jax.jit
def explain_transformer(model, x, i):
    weights = stacked(attrax.capture(model, x, at=NAMES))
    gradients = stacked(attrax.gradients_at(model, x, score=scores.logit(i), at=NAMES))
    return {
        "weights": weights,
        "gradients": gradients,
        "rollout": attrax.attention_rollout(weights),
        "weighted": attrax.gradient_weighted_attention(weights, gradients),
    }


@pytest.fixture(scope="module")
def explained(variables):
    model = attrax.from_linen(Transformer(), variables)
    return [explain_transformer(model, X, i) for i in range(2)]


def test_a_flax_transformer(variables, explained):
    first, second = explained
    assert first["weights"].shape == (LAYERS, HEADS, TOKENS, TOKENS)
    model, parts = attrax.from_linen(Transformer(), variables), ["query", "key"]
    for k in range(LAYERS):
        names = [f"block{k}/attention/{part}" for part in parts]
        query, key = attrax.capture(model, X, at=names).values()
        products = jnp.einsum("qhd,khd->hqk", query, key) / jnp.sqrt(query.shape[-1])
        close(first["weights"][k], jax.nn.softmax(products))
    close(first["rollout"].sum(axis=1), np.ones(TOKENS))
    # One of them knows of the class.
    close(first["rollout"], second["rollout"])
    assert not np.allclose(first["weighted"], second["weighted"], rtol=1e-2)


def test_gradients_of_attention_are_those_of_patched_attention(variables, explained):
    # Weights and gradients are of the same values: moving the weights moves the score accordingly.
    model, found = attrax.from_linen(Transformer(), variables), explained[0]
    step = jnp.asarray(_RNG.normal(size=found["weights"].shape), "float32")

    @jax.jit
    def moved(t):
        change = {name: (lambda a, d=step[k]: a + t * d) for k, name in enumerate(NAMES)}
        return attrax.intervene(model, X, at=change)[0]

    expected = jax.jvp(moved, (0.0,), (1.0,))[1]
    assert jnp.sum(found["gradients"] * step) == pytest.approx(float(expected), rel=1e-4)


def test_a_scanned_transformer_is_its_unrolled_twin(variables, explained):
    params = variables["params"]
    blocks = jax.tree.map(lambda *v: jnp.stack(v), *(params[f"block{k}"] for k in range(LAYERS)))
    model = attrax.from_linen(Scanned(), {"params": {"blocks": blocks, "head": params["head"]}})
    name = "blocks/attention/softmax#0"

    @jax.jit
    def explain(model, x):
        weights = attrax.capture(model, x, at=name)
        gradients = attrax.gradients_at(model, x, score=scores.logit(0), at=name)
        return attrax.gradient_weighted_attention(weights, gradients)

    close(explain(model, X), explained[0]["weighted"])


def test_an_nnx_transformer():
    class Tiny(nnx.Module):
        def __init__(self, rngs):
            make = lambda: nnx.MultiHeadAttention(HEADS, 8, 8, decode=False, rngs=rngs)  # noqa: E731
            self.first, self.second = make(), make()

        def __call__(self, x):
            x = x + self.first(x)
            return (x + self.second(x))[0]

    names = ["first/softmax#0", "second/softmax#0"]

    @jax.jit
    def explain(model, x):
        captured = attrax.capture(model, x, at=names)
        weights = jnp.stack([captured[name] for name in names])
        return attrax.attention_rollout(weights.reshape(2, -1, TOKENS, TOKENS))

    found = explain(attrax.from_nnx(Tiny(nnx.Rngs(0))), X)
    close(found.sum(axis=1), np.ones(TOKENS))
    assert (found > 0).all()


# Transformations and dtypes.


@every_method
@pytest.mark.usefixtures("strict")
def test_vmap_is_a_loop(explain):
    batch = jnp.stack([WEIGHTS, WEIGHTS[::-1]])
    close(jax.jit(jax.vmap(explain))(batch), jnp.stack([explain(w) for w in batch]))


@every_method
def test_gradients(explain):
    with jax.enable_x64(True):
        weights = jnp.asarray(np.asarray(WEIGHTS), "float64")
        assert explain(weights).dtype == jnp.float64
        check_grads(jax.jit(explain), (weights,), order=2, modes=["rev"])


@every_method
@pytest.mark.usefixtures("strict")
def test_bfloat16(explain):
    half = WEIGHTS.astype(jnp.bfloat16)
    found = explain(half)
    assert found.dtype == jnp.bfloat16
    close(found.astype("float32"), explain(half.astype("float32")), 2e-2)


def test_jit_is_eager():
    close(rollout(WEIGHTS), attrax.attention_rollout(WEIGHTS))
    expected = attrax.gradient_weighted_attention(WEIGHTS, GRADIENTS)
    close(weighted(WEIGHTS, GRADIENTS), expected)


@pytest.mark.usefixtures("strict")
def test_gradients_of_another_dtype():
    found = weighted(WEIGHTS.astype(jnp.bfloat16), GRADIENTS)
    assert found.dtype == jnp.bfloat16
    close(found, weighted(WEIGHTS, GRADIENTS), 2e-2)


# What is refused.


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (WEIGHTS[0], r"`weights` must be one array \(L, heads, T, T\); got \(2, 5, 5\)"),
        (WEIGHTS[..., :4], r"got \(3, 2, 5, 4\)"),
        (WEIGHTS[:0], r"got \(0, 2, 5, 5\)"),
        (list(WEIGHTS), r"got a list\. Stack the layers with `jnp\.stack`"),
    ],
)
def test_refusals_of_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        rollout(weights)
    with pytest.raises(ValueError, match=message):
        weighted(weights, weights)


def test_other_refusals():
    with pytest.raises(TypeError, match="`weights` must be floating; got int32"):
        rollout(jnp.ones((1, 1, 2, 2), int))
    with pytest.raises(
        ValueError, match=r"`gradients` .* got \(2, 2, 5, 5\) against \(3, 2, 5, 5\)"
    ):
        weighted(WEIGHTS, GRADIENTS[1:])
    with pytest.raises(TypeError, match="`gradients` must be floating; got int32"):
        weighted(WEIGHTS, jnp.ones(WEIGHTS.shape, int))
