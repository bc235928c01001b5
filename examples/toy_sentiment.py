"""A sentiment network whose weights are set by hand, explained word by word.

    python examples/toy_sentiment.py

An LSTM that reads sentences of the words *neutral*, *good* and *bad* and says whether they are
neutral, positive, negative or confused, which is both. Everybody can see what it should look at, so
its explanations can be judged. Its weights give every number recorded from the network of TruLens'
attribution notebook, whose first state is set for the first row of a batch only; and the points of
a path are such a batch. Printed are the attributions of the network that starts as it should, for
every class, and the numbers of the notebook beside them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import attrax
from attrax import distributions, metrics, positions, scores
from attrax.quadrature import Rule, endpoint_mean, midpoint

VOCABULARY = ("[UNKNOWN]", "neutral", "good", "bad")
CLASSES = ("neutral", "positive", "negative", "confused")

UNKNOWN, NEUTRAL, GOOD, BAD = range(4)

# What the five hidden states stand for. The last two are both the class "confused".
ANY, SEEN_GOOD, SEEN_BAD, GOOD_THEN_BAD, BAD_THEN_GOOD = range(5)
NUM_STATES = 5

# Where a sentence starts: as after a neutral word.
START = np.eye(NUM_STATES)[ANY]

# ----------------------------------------------------------------------------------- network


class ToySentiment(nn.Module):
    """Maps word ids `(length,)` and the first hidden state `(5,)` to logits `(4,)`.

    Sub-modules: `embedding`, `lstm`, `classifier`.
    """

    @nn.compact
    def __call__(self, ids: jax.Array, start: jax.Array) -> jax.Array:
        words = nn.Embed(len(VOCABULARY), len(VOCABULARY), name="embedding")(ids)
        lstm = nn.RNN(nn.LSTMCell(NUM_STATES, parent=None), name="lstm")
        states = lstm(words, initial_carry=(jnp.zeros_like(start), start))
        return nn.Dense(len(CLASSES), use_bias=False, name="classifier")(states[-1])


def toy_sentiment(
    half: float = 8.0, big: float = 20.0, dtype: Any = np.float32
) -> tuple[ToySentiment, dict[str, Any]]:
    """The network and its variables.

    The cells only count words: their gates for input, forgetting and candidates are always open.
    What has been read is in the output gates. A state that was on comes back through a recurrent
    weight, and `half` is what has to be overcome: one of `big` does it for a word that has been
    seen, two of `big` for both, against three of `half`.

    The notebook shows `half = 8`; what it prints was computed with 12.

    It reads 75 of the 81 sentences of four words right. *Confused* is kept from word to word where
    the bad word came last, but not where the good one did: as the notebook's numbers have it, both
    states are kept by the first of them. And four bad words add up to a little too much.
    """
    words, states = len(VOCABULARY), NUM_STATES
    reads, keeps = np.full((words, states), 0.1), np.full((states, states), 0.1)
    reads[NEUTRAL, ANY] = reads[GOOD, SEEN_GOOD] = reads[BAD, SEEN_BAD] = big
    reads[BAD, GOOD_THEN_BAD] = reads[GOOD, BAD_THEN_GOOD] = big
    keeps[ANY, ANY] = keeps[SEEN_GOOD, SEEN_GOOD] = keeps[SEEN_BAD, SEEN_BAD] = big
    keeps[SEEN_GOOD, GOOD_THEN_BAD] = keeps[SEEN_BAD, BAD_THEN_GOOD] = big
    keeps[GOOD_THEN_BAD, [GOOD_THEN_BAD, BAD_THEN_GOOD]] = 2 * big
    resists = np.array([0.1 - half] * 3 + [-3 * half] * 2)

    cell = {"io": {"kernel": reads}, "ho": {"kernel": keeps, "bias": resists}}
    for gate in "ifg":
        cell[f"i{gate}"] = {"kernel": np.full((words, states), 0.1)}
        cell[f"h{gate}"] = {
            "kernel": np.full((states, states), 0.1),
            "bias": np.full(states, 2 * big),
        }
    speaks = np.zeros((states, len(CLASSES)))
    speaks[[ANY, SEEN_GOOD, SEEN_BAD], [0, 1, 2]] = 10, 20, 20
    speaks[[GOOD_THEN_BAD, BAD_THEN_GOOD], 3] = 30
    params = {
        "embedding": {"embedding": np.eye(words)},
        "lstm": {"cell": cell},
        "classifier": {"kernel": speaks},
    }
    return ToySentiment(), {"params": jax.tree.map(lambda a: jnp.asarray(a, dtype), params)}


# --------------------------------------------------------------------------------- sentences


def encode(sentence: str) -> np.ndarray:
    """Word ids, `(length,)`; a word that is not in the vocabulary is `[UNKNOWN]`."""
    known = {word: i for i, word in enumerate(VOCABULARY)}
    return np.array([known.get(word, UNKNOWN) for word in sentence.split()], np.int32)


def decode(ids: Any) -> list[str]:
    """The words of ids."""
    return [VOCABULARY[i] for i in np.asarray(ids)]


def ground_truth(ids: jax.Array | np.ndarray) -> jax.Array:
    """The class of sentences `(..., length)`: bit 0 says that it has *good*, bit 1 that *bad*."""
    return jnp.any(ids == GOOD, axis=-1) + 2 * jnp.any(ids == BAD, axis=-1)


def sentences(
    n: int,
    length: int,
    *,
    key: jax.Array,
    thresholds: tuple[float, float, float] = (0.7, 0.8, 0.9),
) -> tuple[jax.Array, jax.Array]:
    """Random sentences, ids `(n, length)`, and their classes `(n,)`.

    Each word is drawn by itself: *good* between the first two thresholds, *bad* between the last
    two, *neutral* below and above.
    """
    draw = jax.random.uniform(key, (n, length))
    ids = jnp.array([NEUTRAL, GOOD, BAD, NEUTRAL])[jnp.searchsorted(jnp.array(thresholds), draw)]
    return ids, ground_truth(ids)


# ------------------------------------------------------------------------------ explanations


def influences(model: Any, ids: jax.Array, start: jax.Array, *, rule: Rule) -> jax.Array:
    """The mean gradient of every class probability from no words to the words, `(4, length, 4)`.

    The line runs in the embedding, from zero. Times the embedding it is integrated gradients.
    """
    z, tail = attrax.cut(model, ids, start, at="embedding")

    def of_class(c: jax.Array) -> jax.Array:
        fn = lambda z: scores.probability(c)(tail(z))  # noqa: E731
        return attrax.influence(fn, z, distributions.linear(), rule=rule, batch_size=256)

    return jax.vmap(of_class)(jnp.arange(len(CLASSES)))


def notebook_influences(
    model: Any, ids: jax.Array, start: jax.Array, *, resolution: int
) -> jax.Array:
    """What the notebook computes instead: `(4, length, 4)`.

    The points of the line are one batch, and only its first row starts in `start`; the others start
    from zero. So all points but one are of another network than the one explained.
    """
    starts = jnp.zeros((resolution, NUM_STATES), start.dtype).at[0].set(start)
    # One tail for each row; the embedding is the same in all of them.
    z, tails = jax.vmap(lambda s: attrax.cut(model, ids, s, at="embedding"))(starts)
    nodes = jnp.asarray(endpoint_mean(resolution).nodes[::-1], z.dtype)  # the sentence comes first
    points = nodes[:, None, None] * z

    def of_class(c: jax.Array) -> jax.Array:
        score = scores.probability(c)
        slopes = jax.vmap(lambda tail, point: attrax.gradient(lambda z: score(tail(z)), point))
        return jnp.mean(slopes(tails, points), axis=0)

    return jax.vmap(of_class)(jnp.arange(len(CLASSES)))


def explain(model: Any, ids: jax.Array, start: jax.Array, *, rule: Rule) -> dict[str, jax.Array]:
    """Probabilities `(4,)`, word attributions `(4, length)` and completeness gaps `(4,)`.

    Integrated gradients at the embedding: the words of a class add up to its probability
    less that of a sentence without words. The line of thousands of points is for the gates, which
    open within a thousandth of it.
    """
    z, tail = attrax.cut(model, ids, start, at="embedding")

    def of_class(c: jax.Array) -> dict[str, jax.Array]:
        fn = lambda z: scores.probability(c)(tail(z))  # noqa: E731
        attribution = attrax.integrated_gradients(fn, z, rule=rule, batch_size=256)
        return {
            "probability": fn(z),
            "words": positions(attribution),
            "gap": metrics.completeness_gap(fn, attribution, z),
        }

    return jax.vmap(of_class)(jnp.arange(len(CLASSES)))


def plain_text(ids: Any, truth: Any, predicted: Any, values: Any) -> str:
    """One line: `truth->predicted word[value] word[value] ...`."""
    pairs = zip(decode(ids), np.asarray(values), strict=True)
    words = " ".join(f"{word}[{value:.2g}]" for word, value in pairs)
    return f"{int(truth)}->{int(predicted)} {words}"


def main() -> None:
    """Print the explanations of random sentences, and those of the notebook."""
    start = jnp.asarray(START, jnp.float32)
    model = attrax.from_linen(*toy_sentiment())
    ids, truth = sentences(1000, 5, key=jax.random.key(0))
    read = jax.jit(jax.vmap(lambda model, ids: model(ids, start).argmax(), (None, 0)))
    print(f"right on {jnp.mean(read(model, ids) == truth):.1%} of 1000 sentences of five words")
    ids, truth = sentences(5, 5, key=jax.random.key(30))

    @jax.jit
    def explain_all(model, ids, start):
        return jax.vmap(lambda ids: explain(model, ids, start, rule=midpoint(8192)))(ids)

    found = explain_all(model, ids, start)
    predicted = found["probability"].argmax(-1)
    for i in range(len(ids)):
        print(f"GT={CLASSES[int(truth[i])]} PRED={CLASSES[int(predicted[i])]}")
        for c, name in enumerate(CLASSES):
            line = plain_text(ids[i], truth[i], predicted[i], found["words"][i, c])
            print(f"  {name:8}  {line}  (gap {found['gap'][i, c]:+.0e})")

    print("\nPositive, with half = 12: every row started as it should, and as in the notebook")
    model = attrax.from_linen(*toy_sentiment(half=12.0))

    @jax.jit
    def both(model, ids, start):
        z = attrax.capture(model, ids, start, at="embedding")
        rule = endpoint_mean(10)
        every = influences(model, ids, start, rule=rule)
        first = notebook_influences(model, ids, start, resolution=rule.n)
        return positions(every * z), positions(first * z), model(ids, start).argmax()

    for sentence in ("neutral neutral neutral neutral", "neutral neutral neutral good"):
        ids = encode(sentence)
        every, first, predicted = both(model, ids, start)
        print(plain_text(ids, ground_truth(ids), predicted, every[1]))
        print(plain_text(ids, ground_truth(ids), predicted, first[1]))


if __name__ == "__main__":
    main()
