"""The example of hand-set weights: its sentences, what it reads, and what it prints."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import toy_sentiment as toy


@pytest.mark.parametrize(
    ("sentence", "truth"),
    [
        ("neutral neutral", "neutral"),
        ("neutral good", "positive"),
        ("bad bad", "negative"),
        ("bad neutral good", "confused"),
        ("nothing known", "neutral"),
    ],
)
def test_ground_truth(sentence, truth):
    assert toy.CLASSES[int(toy.ground_truth(toy.encode(sentence)))] == truth


def test_words_and_ids():
    ids = toy.encode("neutral good bad other")
    assert ids.tolist() == [1, 2, 3, 0]
    assert toy.decode(ids) == ["neutral", "good", "bad", "[UNKNOWN]"]


def test_random_sentences():
    ids, classes = toy.sentences(3000, 5, key=jax.random.key(0))
    assert ids.shape == (3000, 5)
    assert classes.shape == (3000,)
    words, counts = np.unique(ids, return_counts=True)
    assert words.tolist() == [toy.NEUTRAL, toy.GOOD, toy.BAD]
    np.testing.assert_allclose(counts / ids.size, [0.8, 0.1, 0.1], atol=0.015)  # 6 sigma
    np.testing.assert_array_equal(classes, toy.ground_truth(ids))
    assert np.unique(classes).tolist() == [0, 1, 2, 3]
    again, _ = toy.sentences(3000, 5, key=jax.random.key(0))
    np.testing.assert_array_equal(ids, again)
    only_good, _ = toy.sentences(3000, 5, key=jax.random.key(0), thresholds=(0.0, 1.0, 1.0))
    assert np.all(only_good == toy.GOOD)


@pytest.fixture(scope="module")
def model():
    return attrax.from_linen(*toy.toy_sentiment())


START = jnp.asarray(toy.START, jnp.float32)


def test_it_reads_all_sentences_of_four_words_but_six(model):
    ids = np.array(list(itertools.product([toy.NEUTRAL, toy.GOOD, toy.BAD], repeat=4)))
    logits = jax.jit(jax.vmap(lambda ids, model: model(ids, START), (0, None)))(ids, model)
    wrong = ids[np.asarray(logits.argmax(-1) != toy.ground_truth(ids))]
    assert {"".join(word[0] for word in toy.decode(row)) for row in wrong} == {
        *("nbgn", "bngn", "bgnn", "bggn", "bbgn"),  # forgotten with the next neutral word
        "bbbb",
    }


def test_plain_text():
    line = toy.plain_text([1, 2], jnp.array(1), 3, [-0.0037169, 2.3e-11])
    assert line == "1->3 neutral[-0.0037] good[2.3e-11]"
