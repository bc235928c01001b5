"""Addresses: how a value inside a model is called. The one parser and the one printer of names.

    address = word* ["#" count] [":in"]
    word    = mark name loop*       mark: "/" a module or tap, "." a method, ":" an operation
    loop    = "[" low ":" high "]"  all iterations of a scan
            | "[" k "]"             one of them

The first mark "/" is not written. `layers[0:12]/attention.scores:div#1` is the second division in
the method `scores` of `layers/attention`, in each of 12 iterations.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Blocked(NamedTuple):
    """Why a value cannot be reached, or is not a value of one example."""

    reason: str


class Loop(NamedTuple):
    """The iterations `low` to `high - 1` of a scan; without `high`, iteration `low` alone.

    It is written behind word number `depth`, counted from one.
    """

    depth: int
    low: int
    high: int | None = None

    @property
    def is_range(self) -> bool:
        return self.high is not None

    @property
    def length(self) -> int:
        return 1 if self.high is None else self.high - self.low

    def holds(self, other: Loop) -> bool:
        """Whether `other` is this loop, or one iteration of it."""
        inside = self.high is not None and other.high is None and self.low <= other.low < self.high
        return self.depth == other.depth and (self == other or inside)

    def is_apart_from(self, other: Loop) -> bool:
        """Whether no iteration is in both."""
        return self.low + self.length <= other.low or other.low + other.length <= self.low

    def __str__(self) -> str:
        return f"[{self.low}]" if self.high is None else f"[{self.low}:{self.high}]"


@dataclass(frozen=True)
class Address:
    """The address of a value.

    Attributes:
        words: each with its mark: `("/layers", "/attention", ":div")`.
        loops: the scans around the value, the outermost first.
        count: which of the values called so, in the order of execution; None where it is not said.
        anchor: ":in" for the input of a module.
    """

    words: tuple[str, ...]
    loops: tuple[Loop, ...] = ()
    count: int | None = None
    anchor: str = ""

    def __str__(self) -> str:
        count = "" if self.count is None else f"#{self.count}"
        return "".join(self._written()).removeprefix("/") + count + self.anchor

    def _written(self) -> Iterator[str]:
        for depth, word in enumerate(self.words, 1):
            yield word
            yield from (str(loop) for loop in self.loops if loop.depth == depth)

    def __lt__(self, other: Address) -> bool:  # the keys of a dict that JAX flattens are sorted
        return str(self) < str(other)

    @property
    def base(self) -> Address:
        """What is counted: all iterations of a scan are one call."""
        return Address(self.words, anchor=self.anchor)

    @property
    def is_operation(self) -> bool:
        return bool(self.words) and self.words[-1].startswith(":")

    @property
    def ranges(self) -> tuple[Loop, ...]:
        """The scans of which all iterations are meant."""
        return tuple(loop for loop in self.loops if loop.is_range)

    def counted(self, count: int | None) -> Address:
        return dataclasses.replace(self, count=count)

    def as_function(self) -> Address:
        """`block:relu`, which no module can shadow, as `block/relu`."""
        return dataclasses.replace(self, words=(*self.words[:-1], "/" + self.words[-1][1:]))

    def inside(self, loop: Loop) -> Address:
        """The same value where one more scan stands around it."""
        deepest = self.loops[0].depth if self.loops else len(self.words)
        return dataclasses.replace(
            self, loops=(loop._replace(depth=min(loop.depth, deepest)), *self.loops)
        )

    def narrowed(self, low: int, high: int | None) -> Address:
        """Other iterations of the outermost scan of which all are meant."""
        where = next(i for i, loop in enumerate(self.loops) if loop.is_range)
        loops = list(self.loops)
        loops[where] = loops[where]._replace(low=low, high=high)
        return dataclasses.replace(self, loops=tuple(loops))

    def at(self, iterations: Sequence[int | None]) -> Address:
        """With one number for each range, or None for all of its iterations."""
        chosen = iter(iterations)
        loops = []
        for loop in self.loops:
            k = next(chosen) if loop.is_range else None
            loops.append(loop if k is None else Loop(loop.depth, k))
        return dataclasses.replace(self, loops=tuple(loops))

    def covers(self, other: Address) -> bool:
        """Whether `layers[0:4]/ff#0` covers `layers[2]/ff#0`."""
        return (
            (self.words, self.count, self.anchor) == (other.words, other.count, other.anchor)
            and len(self.loops) == len(other.loops)
            and all(mine.holds(its) for mine, its in zip(self.loops, other.loops, strict=True))
        )

    def is_apart_from(self, other: Address) -> bool:
        """Whether two addresses of one count are other iterations of one scan."""
        return len(self.loops) == len(other.loops) and any(
            mine.depth == its.depth and mine.is_apart_from(its)
            for mine, its in zip(self.loops, other.loops, strict=True)
        )

    def means(self, wanted: Address) -> tuple[int | None, ...] | None:
        """The iterations that `wanted` asks for, one for each range; None if it means another."""
        if wanted.base != self.base or wanted.count not in (None, self.count):
            return None
        found, left = [], list(wanted.loops)
        for loop in self.loops:
            its = left.pop(0) if left and left[0].depth == loop.depth else None
            if not (loop.is_range if its is None else loop.holds(its)):
                return None
            if loop.is_range:
                found.append(None if its is None or its.is_range else its.low)
        return None if left else tuple(found)


_WORD = r"([/.:])([^/.:#\[\]]*)((?:\[\d+(?::\d+)?\])*)"
_ADDRESS = re.compile(rf"((?:{_WORD})*?)(?:#(\d+))?((?::in)?)")
_LOOP = re.compile(r"\[(\d+)(?::(\d+))?\]")
_RESERVED = "#:[]"


def parse(text: str) -> Address:
    """What a user writes, as an address; one that nothing bears if it is not well formed."""
    marked = text if text[:1] in (":", ".") else f"/{text}"
    found = _ADDRESS.fullmatch(marked)
    if found is None:
        return Address((marked,))
    count, anchor = found.groups()[-2:]
    words, loops = [], []
    for mark, name, written in re.findall(_WORD, found.group(1)):
        words.append(mark + name)
        for low, high in _LOOP.findall(written):
            loops.append(Loop(len(words), int(low), int(high) if high else None))
    return Address(tuple(words), tuple(loops), int(count) if count else None, anchor)


def words_of(path: Sequence[str], method: str = "") -> tuple[str, ...]:
    """The words of a path of modules, or of a tap, and of a method (`".encode"`).

    A character that addresses use is written as an underscore.
    """
    text = "/".join(path).translate(str.maketrans(_RESERVED, "_" * len(_RESERVED)))
    return parse((f"{text}{method}") if text else method).words if text or method else ()


def is_plain(name: str) -> bool:
    """Whether a name may be given to a tap."""
    return all(name.split("/")) and set(name).isdisjoint(_RESERVED)
