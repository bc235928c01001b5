r"""A small language model of docstrings: its text, its pieces of words, its training.

    model = learn(jax.random.key(0))
    ids = generate(model, model.pieces.encode("\nIf the array"), 12)
    "".join(model.pieces.decode(ids))    # '\nIf the array is a masked array, the ...'

The text is that of the docstrings of NumPy, JAX and Matplotlib, which attrax needs anyway: half
a million characters of plain English about arrays, read where they are installed. With a minute on
one core they suffice for a model that knows how such sentences go on.
"""

import ast
import functools
import importlib.util
import itertools
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from transformer import Transformer

# ---------------------------------------------------------------------------------------- text

PACKAGES = ("numpy", "jax", "matplotlib")
_PROSE = re.compile(r"[A-Z](?:[A-Za-z0-9 ,.;()']|-(?!-))+\.")


@functools.cache
def texts() -> tuple[str, str]:
    """The text to learn from and the text to judge by: every tenth paragraph, one a line."""
    found = list(dict.fromkeys(p for name in PACKAGES for p in paragraphs(name)))
    learnt = [p for k, p in enumerate(found) if k % 10]
    return "\n".join(learnt) + "\n", "\n".join(found[::10]) + "\n"


def paragraphs(package: str) -> Iterator[str]:
    """Plain sentences in the docstrings of a package, which is read and not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    for file in sorted(root.rglob("*.py")):
        if "test" in str(file.relative_to(root)):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                line = " ".join(re.sub("`[.~]|[`*]", "", paragraph).split())
                if len(line) >= 40 and _PROSE.fullmatch(line):
                    yield line


# -------------------------------------------------------------------------------------- pieces

_WORDS = re.compile(r" ?\w+| ?[^\w\s]|\n")  # a word keeps the space before it


UNKNOWN = "<unknown>"


@dataclass(frozen=True)
class Pieces:
    """Words and parts of words: the vocabulary, and the pairs that are merged, in their order.

    The first piece of the vocabulary stands for what is not known.
    """

    vocabulary: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    @functools.cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def encode(self, text: str) -> np.ndarray:
        """The ids of the pieces of a text; 0 for a character that was never seen."""
        cache: dict[str, list[int]] = {}
        ids: list[int] = []
        for word in _WORDS.findall(text):
            if word not in cache:
                cache[word] = [self._ids.get(piece, 0) for piece in self._parts(word)]
            ids += cache[word]
        return np.array(ids, np.int32)

    def decode(self, ids: Any) -> list[str]:
        """The pieces; joined, they are the text."""
        return [self.vocabulary[i] for i in np.asarray(ids).tolist()]

    def _parts(self, word: str) -> list[str]:
        """One merge after another, the one that was learnt first first."""
        parts = list(word)
        while pairs := [p for p in itertools.pairwise(parts) if p in self._ranks]:
            parts = _merged(parts, min(pairs, key=self._ranks.__getitem__))
        return parts


def learn_pieces(text: str, merges: int) -> Pieces:
    """Byte-pair encoding: the most frequent pair of neighbours becomes a piece, `merges` times.

    References:
        Sennrich, Haddow and Birch (2016), arXiv:1508.07909, section 3.2.
    """
    counts = Counter(_WORDS.findall(text))
    words = [list(word) for word in counts]
    often = list(counts.values())
    pairs: Counter[tuple[str, str]] = Counter()
    holding: dict[tuple[str, str], set[int]] = defaultdict(set)  # the words a pair may stand in

    def count(i: int, sign: int) -> None:
        for pair in itertools.pairwise(words[i]):
            pairs[pair] += sign * often[i]
            holding[pair].add(i)

    for i in range(len(words)):
        count(i, 1)
    learnt: list[tuple[str, str]] = []
    for _ in range(merges):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        learnt.append(best)
        for i in sorted(holding[best]):
            count(i, -1)
            words[i] = _merged(words[i], best)
            count(i, 1)
    vocabulary = dict.fromkeys([UNKNOWN, *sorted(set(text)), *map("".join, learnt)])
    return Pieces(tuple(vocabulary), tuple(learnt))


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    new: list[str] = []
    for part in parts:
        if new and (new[-1], part) == pair:
            new[-1] += part
        else:
            new.append(part)
    return new


# --------------------------------------------------------------------------------------- model


class LanguageModel(NamedTuple):
    """A trained transformer, its pieces, and how well it and simpler models predict."""

    module: Transformer
    variables: Any
    pieces: Pieces
    frequencies: np.ndarray  # of the pieces, in the text it has learnt from
    bits: dict[str, float]  # per character of the held-out text


def learn(key: jax.Array) -> LanguageModel:
    """Reads the text, learns its pieces, trains the model and judges it. Prints what it does."""
    text, held_out = texts()
    pieces = learn_pieces(text, merges=1000)
    ids, judged = pieces.encode(text), pieces.encode(held_out)
    size = len(pieces.vocabulary)
    module = Transformer(size, length=64, width=64, heads=4, depth=2)
    print(f"Training on {len(text)} characters of docstrings: {len(ids)} tokens, {size} different")
    begin = time.perf_counter()
    variables = train(module, ids, key=key)
    print(f"  {time.perf_counter() - begin:.0f} s")

    bits = Bits(pieces, judged, module.length)
    found = {
        "unigram": bits.unigram(ids, size),
        "bigram": bits.bigram(ids, size),
        "transformer": bits.transformer(module, variables),
    }
    print("Bits per character of held-out text:")
    for name, value in found.items():
        print(f"  {name:<12}{value:.3f}")
    return LanguageModel(module, variables, pieces, unigram(ids, size), found)


# ------------------------------------------------------------------------------------ training


def train(
    module: Transformer,
    ids: np.ndarray,
    *,
    key: jax.Array,
    steps: int = 4000,
    batch: int = 8,
    rate: float = 5e-3,
) -> Any:
    """The variables after `steps` steps of AdamW on random stretches of the text.

    In one stretch of each batch a random share of the tokens is hidden behind the piece for what is
    not known. So the model learns what to expect when it knows nothing, and a text of unknown
    tokens is a baseline that it understands.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20, steps, rate / 50)
    optimizer = optax.adamw(schedule, b2=0.98, weight_decay=0.1)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables, state, ids, key):
        first, second, third = jax.random.split(key, 3)
        starts = jax.random.randint(first, (batch, 1), 0, len(ids) - module.length)
        stretches = ids[starts + jnp.arange(module.length + 1)[None]]
        share = jax.random.uniform(second)
        hidden = jax.random.bernoulli(third, share, (module.length,))
        seen = stretches[:, :-1].at[0].multiply(1 - hidden)

        def loss(variables):
            each = jax.vmap(functools.partial(nats, module, variables))
            return jnp.mean(each(seen, stretches[:, 1:]))

        value, slope = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(slope, state, variables)
        return optax.apply_updates(variables, updates), state, value

    first, key = jax.random.split(key)
    variables = module.init(first, jnp.zeros(module.length, jnp.int32))
    state, text = optimizer.init(variables), jnp.asarray(ids)
    for k in range(steps):
        variables, state, value = step(variables, state, text, jax.random.fold_in(key, k))
        if (k + 1) % (steps // 4) == 0:
            print(f"  step {k + 1}: {value:.2f} nats a token")
    return variables


def nats(module: Transformer, variables: Any, ids: jax.Array, following: jax.Array) -> jax.Array:
    """`-log p` of the token that follows each token, `(T,)`."""
    logits = jnp.asarray(module.apply(variables, ids))
    return optax.softmax_cross_entropy_with_integer_labels(logits, following)


# ------------------------------------------------------------------------------------- judging


class Bits:
    """Bits per character of a held-out text; every model is judged on the same tokens of it.

    Each prediction sees at least half of the context that the transformer can hold.
    """

    def __init__(self, pieces: Pieces, ids: np.ndarray, length: int):
        half = length // 2
        count = (len(ids) - 1 - half) // half
        self.stretches = np.stack([ids[k * half : k * half + length + 1] for k in range(count)])
        self.before = self.stretches[:, half:-1].ravel()
        self.tokens = self.stretches[:, half + 1 :].ravel()
        self.characters = sum(map(len, pieces.decode(self.tokens)))
        self.half = half

    def _of(self, nats: np.ndarray) -> float:
        return float(np.sum(nats, dtype=np.float64) / np.log(2) / self.characters)

    def transformer(self, module: Transformer, variables: Any) -> float:
        @jax.jit
        def judge(variables, stretches):
            def one(stretch):
                return nats(module, variables, stretch[:-1], stretch[1:])

            return jax.lax.map(one, stretches, batch_size=32)

        return self._of(np.asarray(judge(variables, jnp.asarray(self.stretches)))[:, self.half :])

    def unigram(self, ids: np.ndarray, size: int) -> float:
        """The frequency of each token, plus one."""
        return self._of(-np.log(unigram(ids, size)[self.tokens]))

    def bigram(self, ids: np.ndarray, size: int) -> float:
        """The frequency of each pair, mixed with that of its second token (Witten and Bell).

        `p(b | a) = (n(a, b) + u(a) p(b)) / (n(a) + u(a))`, `u(a)` the number of different tokens
        that follow a.
        """
        pairs = np.zeros((size, size))
        np.add.at(pairs, (ids[:-1], ids[1:]), 1)
        followers = np.maximum((pairs > 0).sum(1, keepdims=True), 1)
        mixed = (pairs + followers * unigram(ids, size)) / (pairs.sum(1, keepdims=True) + followers)
        return self._of(-np.log(mixed[self.before, self.tokens]))


def unigram(ids: np.ndarray, size: int) -> np.ndarray:
    """The frequency of each token, after one more of each."""
    return (np.bincount(ids, minlength=size) + 1) / (len(ids) + size)


# ---------------------------------------------------------------------------------- generating


def generate(model: LanguageModel, prompt: np.ndarray, count: int) -> np.ndarray:
    """The prompt and the `count` tokens that follow it, each the most probable one."""

    @jax.jit
    def run(variables, ids):
        def append(k, ids):
            return ids.at[k].set(jnp.argmax(jnp.asarray(model.module.apply(variables, ids))[k - 1]))

        return jax.lax.fori_loop(len(prompt), len(ids), append, ids)

    return np.asarray(run(model.variables, jnp.pad(jnp.asarray(prompt), (0, count))))
