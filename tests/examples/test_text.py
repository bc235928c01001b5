"""Slow: MiniLM with its weights and real sentences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import minilm
import text_sentiment
from attrax import paths
from attrax.quadrature import composite, gauss_legendre

pytestmark = pytest.mark.soak

SENTENCES = text_sentiment.SENTENCES


@pytest.fixture(scope="module")
def tokenizer():
    try:
        return minilm.Tokenizer.load()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return attrax.from_linen(*minilm.minilm())


@pytest.fixture(scope="module")
def sentiment(tokenizer):
    """The trained network and its accuracy."""
    try:
        return text_sentiment.trained(tokenizer)
    except ImportError as error:
        pytest.skip(str(error))


@jax.jit
def explain_all(model, *sentences):
    return jax.vmap(lambda *one: text_sentiment.explain(model, *one))(*sentences)


@pytest.fixture(scope="module")
def explained(sentiment, tokenizer):
    """Pieces, ids, mask, baseline and explanations of the sentences, all at once."""
    ids, mask = tokenizer.batch(SENTENCES)
    without = text_sentiment.without_words(ids, tokenizer)
    found = explain_all(sentiment[0], ids, mask, without)
    return [tokenizer.decode(row) for row in ids], (ids, mask, without), found


def test_variables_are_those_of_the_module():
    module, variables = minilm.minilm()
    ids = jax.ShapeDtypeStruct((7,), np.int32)
    expected = jax.eval_shape(module.init, jax.random.key(0), ids, ids)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), variables) == jax.tree.map(
        lambda a: (a.shape, a.dtype), expected
    )


def test_similar_sentences_are_the_published_ones(encoder, tokenizer):
    pairs = {
        ("That is a happy person", "That is a very happy person"): 0.943,
        ("That is a happy person", "Today is a sunny day"): 0.257,
        ("A man is eating pizza.", "Someone is having Italian food."): 0.411,
    }
    texts = sorted({text for pair in pairs for text in pair})
    rows = dict(zip(texts, text_sentiment.embed(encoder, tokenizer, texts), strict=True))
    for (one, other), expected in pairs.items():
        assert float(rows[one] @ rows[other]) == pytest.approx(expected, abs=6e-4)


def test_token_ids_of_words_in_pieces(tokenizer):
    assert tokenizer.encode("Unaffable, naïve!") == [
        *(101, 14477, 20961, 3468, 1010, 15743, 999, 102)
    ]


def test_most_sentences_are_told_right(sentiment):
    assert sentiment[1] > 0.72


def test_words_that_say_it(explained):
    pieces, _, found = explained
    words = [
        dict(text_sentiment.by_word(row, values))
        for row, values in zip(pieces, found.attributions, strict=True)
    ]
    first, second = words[:2]
    assert first["gorgeous"] == max(first.values()) > 1
    assert first["witty"] > 0
    assert second["terrible"] == min(second.values()) < -0.5
    assert second["dull"] < 0
    assert found.score[0] > 0 > found.score[1]


def test_explanations_add_up(explained):
    _, (_, mask, _), found = explained
    assert np.all(np.abs(found.gap) < 1e-3 * np.abs(found.change))
    np.testing.assert_array_equal(np.asarray(found.attributions)[~mask], 0)
    # [CLS] and [SEP] are those of the baseline.
    np.testing.assert_array_equal(found.attributions[:, 0], 0)


def test_more_padding_changes_nothing(sentiment, tokenizer, explained):
    _, (ids, _, _), found = explained
    more, mask = tokenizer.batch(SENTENCES, 24)
    without = text_sentiment.without_words(more, tokenizer)
    filled = explain_all(sentiment[0], more, mask, without)
    length = ids.shape[1]
    np.testing.assert_array_equal(filled.attributions[:, length:], 0)
    atol = 1e-4 * float(jnp.abs(found.attributions).max())
    np.testing.assert_allclose(
        filled.attributions[:, :length], found.attributions, rtol=0, atol=atol
    )


def test_a_batch_is_a_loop(sentiment, explained):
    _, sentences, found = explained
    one = jax.jit(text_sentiment.explain)
    atol = 1e-4 * float(jnp.abs(found.attributions).max())
    for i in range(2):
        alone = one(sentiment[0], *(array[i] for array in sentences))
        np.testing.assert_allclose(found.attributions[i], alone.attributions, rtol=0, atol=atol)


def test_token_by_token_is_what_each_token_changes(sentiment, tokenizer):
    model = sentiment[0]
    ids, mask = tokenizer.batch([SENTENCES[0]])
    without = text_sentiment.without_words(ids, tokenizer)
    ids, mask, without = ids[0], mask[0], without[0]
    n = len(ids)
    path, rule = paths.tokenwise(np.arange(n)), composite(gauss_legendre(32), n)
    explain = jax.jit(functools.partial(text_sentiment.explain, path=path, rule=rule))
    found = explain(model, ids, mask, without)
    # The sentence grows word by word: no gradient, no integral.
    texts = np.where(np.arange(n)[None] < np.arange(n + 1)[:, None], ids[None], without[None])
    logits = jax.jit(jax.vmap(lambda m, ids, mask: m(ids, mask)[0], (None, 0, None)))(
        model, texts, mask
    )
    np.testing.assert_allclose(found.attributions, jnp.diff(logits), rtol=0, atol=5e-3)
    np.testing.assert_allclose(logits[-1] - logits[0], found.change, atol=1e-4)
