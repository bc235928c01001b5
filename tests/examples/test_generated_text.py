"""The example that trains a language model and explains, token by token, what it writes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import attrax
import generated_text
import language_model
from generated_text import token_matrix
from language_model import Bits, learn_pieces
from transformer import Transformer

# ------------------------------------------------------------------------------------ the parts


def test_the_most_frequent_pair_is_merged_first():
    pieces = learn_pieces("low low low lower\n", merges=4)
    assert pieces.merges[:2] == (("o", "w"), ("l", "ow"))
    assert pieces.merges[2:] == ((" ", "low"), ("e", "r"))
    assert pieces.vocabulary[-4:] == ("ow", "low", " low", "er")
    ids = pieces.encode("lower low\n")
    assert pieces.decode(ids) == ["low", "er", " low", "\n"]
    assert pieces.decode(pieces.encode("lo?")) == ["l", "o", "<unknown>"]


def test_bits_of_the_simple_models_on_paper():
    pieces = learn_pieces("ab\n", merges=0)  # unknown, the end of a line, a, b
    learnt = pieces.encode("abab")
    bits = Bits(pieces, pieces.encode("abababa"), length=4)  # judged are four tokens: b, a, b, a
    np.testing.assert_array_equal(pieces.decode(bits.tokens), ["b", "a", "b", "a"])
    np.testing.assert_array_equal(pieces.decode(bits.before), ["a", "b", "a", "b"])
    assert bits.unigram(learnt, 4) == pytest.approx(-math.log2(3 / 8))
    # Of b, one kind of token followed it, once; of a, too, but twice.
    after_a, after_b = (2 + 3 / 8) / 3, (1 + 3 / 8) / 2
    expected = -(math.log2(after_a) + math.log2(after_b)) / 2
    assert bits.bigram(learnt, 4) == pytest.approx(expected)


def test_labels_of_tokens():
    found = generated_text.labels(["\n", "Return", " the", " mask", "ed", ".", "\n", "I", "f"])
    assert found == ["↵", "Return", "the", "mask", "-ed", ".", "↵", "I", "-f"]


def test_the_matrix_holds_the_gradients_of_all_rows():
    ids, start = jnp.array([3, 1, 4, 1, 5]), 2
    module = Transformer(vocabulary=7, length=5, width=4, heads=2, depth=1)
    model = attrax.from_linen(module, jax.jit(module.init)(jax.random.key(0), ids))
    baseline = jnp.array([0.3, -0.2, 0.1, 0.5])

    @jax.jit
    def both(model, ids, baseline):
        def log_p(z):
            logits = attrax.intervene(model, ids, at={"embed": z})
            return jax.nn.log_softmax(logits)[jnp.arange(len(ids) - 1), ids[1:]]

        z = attrax.capture(model, ids, at="embed")
        slopes = jax.jacrev(log_p)(z)[start - 1 :]
        explain = attrax.gradient_times_input
        found = token_matrix(model, ids, baseline, start, explain)
        return found, jnp.sum(slopes * (z - baseline[None])[None], axis=-1)

    found, expected = both(model, ids, baseline)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    np.testing.assert_array_equal(found != 0, np.tri(3, 5, 1, dtype=bool))


# --------------------------------------------------------------------------------- the whole job


@pytest.fixture(scope="module")
def model():
    return language_model.learn(jax.random.key(0))


@pytest.fixture(scope="module")
def ran(model, tmp_path_factory):
    file = tmp_path_factory.mktemp("out") / "generated_text.png"
    return generated_text.report(model, file), file


@pytest.mark.soak
def test_the_model_predicts_better_than_pairs_of_tokens(model):
    assert model.bits["transformer"] < 0.95 * model.bits["bigram"]
    assert model.bits["bigram"] < 0.75 * model.bits["unigram"]


@pytest.mark.soak
def test_pieces_give_the_text_back(model):
    _, held_out = language_model.texts()
    ids = model.pieces.encode(held_out)
    assert "".join(model.pieces.decode(ids)) == held_out
    assert len(ids) < len(held_out) / 2.5


@pytest.mark.soak
def test_generated_tokens_are_the_most_probable_ones(model, ran):
    logits = np.asarray(model.module.apply(model.variables, ran[0].ids))
    start = ran[0].explanation.start
    np.testing.assert_array_equal(ran[0].ids[start:], logits[start - 1 : -1].argmax(-1))


@pytest.mark.soak
def test_nothing_is_attributed_to_the_token_itself_or_to_later_ones(ran):
    e = ran[0].explanation
    for matrix in e.matrices.values():
        np.testing.assert_array_equal(matrix != 0, np.tri(*matrix.shape, e.start - 1, dtype=bool))


@pytest.mark.soak
def test_rows_of_integrated_gradients_are_complete(model, ran):
    e = ran[0].explanation
    log_p = jax.nn.log_softmax(model.module.apply(model.variables, ran[0].ids))
    unknown = jax.nn.log_softmax(model.module.apply(model.variables, 0 * ran[0].ids))
    places = np.arange(e.start - 1, len(e.tokens) - 1), ran[0].ids[e.start :]
    np.testing.assert_allclose(e.after, log_p[places], atol=1e-4)
    np.testing.assert_allclose(e.before, unknown[places], atol=1e-4)
    change = e.after - e.before
    gaps = {name: np.abs(m.sum(1) - change).max() for name, m in e.matrices.items()}
    assert gaps["integrated gradients"] < 1e-3 * np.abs(change).max()
    assert gaps["gradient x input"] > 0.1 * np.abs(change).max()


@pytest.mark.soak
def test_at_the_baseline_the_model_expects_what_is_frequent(model, ran):
    e = ran[0].explanation
    frequent = np.log(model.frequencies[ran[0].ids[e.start :]])
    assert np.abs(e.before - frequent).mean() < 0.5


@pytest.mark.soak
def test_hiding_the_token_that_is_said_to_matter_matters_most(model, ran):
    """The change of log p when one token is hidden, against the attribution of that token."""
    e, ids = ran[0].explanation, jnp.asarray(ran[0].ids)

    @jax.jit
    def log_p(variables, ids):
        logits = jax.nn.log_softmax(model.module.apply(variables, ids))
        return logits[jnp.arange(len(ids) - 1), ran[0].ids[1:]]

    hidden = jnp.where(jnp.eye(len(ids), dtype=bool), 0, ids[None])
    every = np.asarray(jax.vmap(log_p, (None, 0))(model.variables, hidden))
    drops = (np.asarray(log_p(model.variables, ids)) - every)[:, e.start - 1 :].T  # (G, T)
    matrix = e.matrices["integrated gradients"]
    before = np.tri(*matrix.shape, e.start - 1, dtype=bool)
    first = np.arange(len(matrix)), matrix.argmax(1)
    assert drops[first].mean() > 4 * drops[before].mean()
    assert np.corrcoef(drops[before], matrix[before])[0, 1] > 0.5


@pytest.mark.soak
def test_all_rows_are_one_program_and_equal_the_loop(ran):
    rows = len(ran[0].explanation.after)
    for cost in ran[0].costs.values():
        assert cost.traces == 1
        assert cost.difference < 1e-5
    together, in_turn = ran[0].forward_passes
    assert together < 1.15 * (rows + 1)
    assert in_turn > 1.8 * rows


@pytest.mark.soak
def test_the_picture(ran):
    with Image.open(ran[1]) as picture:
        assert min(picture.size) > 500
