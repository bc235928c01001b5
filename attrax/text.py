"""Texts in tokens, and how the tokens of each kind of tokenizer are spelled.

`attrax.html.tokens` and `attrax.plot.tokens` show a `Text`. A *spelling* turns the tokens of a text
into strings whose concatenation is the text.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from numpy.typing import ArrayLike

from ._core._names import shown

__all__ = [
    "Spelling",
    "Text",
    "byte_pairs",
    "sentence_pieces",
    "word_pieces",
    "words",
]
__dir__ = shown(__name__)

Spelling: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
"""From the tokens of a text to strings, one a token, whose concatenation is the text."""


class Text(NamedTuple):
    """A text in tokens, and the attribution of each.

    Attributes:
        tokens: `L` strings.
        attribution: `(L,)`, or `(K, L)` with a row for each class.
        truth: its true class.
        prediction: the class that the model predicts.
    """

    tokens: Sequence[str]
    attribution: ArrayLike
    truth: str | None = None
    prediction: str | None = None


def words(tokens: Sequence[str]) -> list[str]:
    """Tokens that are words: a space between any two.

    Example:
        >>> words(["not", "good"])
        ['not', ' good']
    """
    return [f" {token}" if i else token for i, token in enumerate(tokens)]


def word_pieces(tokens: Sequence[str]) -> list[str]:
    """Tokens of BERT and similar models: `##` continues the word before.

    Example:
        >>> word_pieces(["sing", "##ing", "birds"])
        ['sing', 'ing', ' birds']
    """
    return [
        token[2:] if token.startswith("##") and len(token) > 2 else f" {token}" if i else token
        for i, token in enumerate(tokens)
    ]


def sentence_pieces(tokens: Sequence[str]) -> list[str]:
    """Tokens of SentencePiece: `▁` is a space.

    Example:
        >>> sentence_pieces(["▁sing", "ing", "▁birds"])
        [' sing', 'ing', ' birds']
    """
    return [token.replace("▁", " ") for token in tokens]


def byte_pairs(tokens: Sequence[str]) -> list[str]:
    r"""Tokens of GPT-2 and similar models: every letter is a byte of the text in UTF-8.

    A character whose bytes are split between tokens shows as a replacement character in each.
    Tokens with letters that do not stand for a byte, such as special tokens, are left as they are.

    Example:
        >>> byte_pairs(["sing", "ing", "Ġcaf", "Ã©", "Ċ"])
        ['sing', 'ing', ' caf', 'é', '\n']
    """
    return [
        bytes(_BYTES[letter] for letter in token).decode("utf-8", "replace")
        if all(letter in _BYTES for letter in token)
        else token
        for token in tokens
    ]


# Printable bytes stand for themselves, the others for the letters from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
