"""Batches of examples, read in order and checked on the host."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import jax
import numpy as np

from .._core import _checks
from .._core._types import PyTree


@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples, what is to be stored beside their attributions, and which could not be read.

    An iterable of batches may yield these or plain pytrees of arrays; a plain one is `inputs`.

    Attributes:
        inputs: arguments of the method, arrays with a leading axis of examples. A tuple or list is
            taken apart: `method(model, *inputs)`; anything else is one argument.
        beside: numeric arrays with the same leading axis, by name. The method never sees them.
        unreadable: placeholder rows for examples that could not be read, each with the reason.
            They hold anything of the right shape, such as another row.
    """

    inputs: PyTree
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unreadable: Mapping[int, str] = dataclasses.field(default_factory=dict)


def batches(
    items: Any, batch_size: int, *, beside: Mapping[str, Any] | None = None
) -> Sequence[Batch]:
    """Batches of a reader of single examples, each read when it is needed.

    Example i is `items[i]`; of a tuple or a dict of readers it is the tuple or dict of their
    entries. An array is a reader of its rows. An example is unreadable when reading it raises, or
    when its structure, shapes or dtypes differ from those of the first one that can be read:
    `explain` reports it with its index and goes on.

    Args:
        items: anything with `len` and `[i]` that gives pytrees of arrays; or a tuple or dict of
            them, all of one length.
        batch_size: examples in a batch. The last batch holds what is left.
        beside: readers of numbers to be stored with the attributions, by name.

    Returns:
        A sequence of `Batch`. It can be read in any order, so that a resumed run need not read what
        is finished, and each of many hosts reads its own batches only.

    Raises:
        TypeError: when `batch_size` is not an int.
        ValueError: when it is below 1, or readers have different lengths or none at all; and, on
            reading, when no example can be read.

    Example:
        >>> found = batches((np.arange(6.0).reshape(3, 2), np.array([7, 8, 9])), 2)
        >>> len(found), found[1].inputs
        (2, (array([[4., 5.]]), array([9])))
    """
    beside = dict(beside or {})
    lengths = {len(reader) for reader in (*_readers(items), *beside.values())}
    if len(lengths) != 1 or not max(lengths):
        raise ValueError(
            "`items` and `beside` must have one length, of 1 or more; got lengths "
            f"{sorted(lengths)}."
        )
    return _Batches(items, beside, max(lengths), _checks.count(batch_size, "batch_size"))


class _Batches(Sequence[Batch]):
    def __init__(self, items: Any, beside: dict[str, Any], length: int, size: int):
        self._items, self._beside, self._length, self._size = items, beside, length, size
        self._filler: PyTree = None  # the first example that can be read

    def __len__(self) -> int:
        return -(-self._length // self._size)

    @overload
    def __getitem__(self, number: int) -> Batch: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Batch]: ...
    def __getitem__(self, number: int | slice) -> Batch | Sequence[Batch]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        indices = range(number * self._size, min((number + 1) * self._size, self._length))
        rows, unreadable = [], {}
        for row, index in enumerate(indices):
            try:
                rows.append(self._read(index))
            # Whatever a reader raises is reported with the index of its example.
            except Exception as error:
                rows.append(self._any())
                unreadable[row] = f"{type(error).__name__}: {error}"
        beside = {
            name: np.asarray([reader[i] for i in indices]) for name, reader in self._beside.items()
        }
        return Batch(jax.tree.map(lambda *leaves: np.stack(leaves), *rows), beside, unreadable)

    def _read(self, index: int) -> PyTree:
        example = jax.tree.map(np.asarray, _entry(self._items, index))
        expected, found = described(self._any(), 0), described(example, 0)
        if found != expected:
            raise ValueError(f"An example must be like the first; got {found} against {expected}.")
        return example

    def _any(self) -> PyTree:
        """An example to fill rows with that cannot be read."""
        reason = None
        for index in range(self._length):
            if self._filler is not None:
                break
            try:
                self._filler = jax.tree.map(np.asarray, _entry(self._items, index))
            except Exception as error:
                reason = reason or error
        if self._filler is None:
            raise ValueError(
                f"`items` must hold examples that can be read; none of {self._length} can."
            ) from reason
        return self._filler


def _readers(items: Any) -> list[Any]:
    if isinstance(items, dict):
        items = tuple(items.values())
    return [r for part in items for r in _readers(part)] if isinstance(items, tuple) else [items]


def _entry(items: Any, index: int) -> PyTree:
    if isinstance(items, tuple):
        return tuple(_entry(part, index) for part in items)
    if isinstance(items, dict):
        return {name: _entry(part, index) for name, part in items.items()}
    return items[index]


class Rows(NamedTuple):
    """One batch, checked, and filled up to the size of the first."""

    number: int
    first: int  # the index of its first example
    examples: int  # those that are real
    inputs: PyTree
    beside: dict[str, np.ndarray]  # `count` rows
    unreadable: dict[int, str]  # by the index of the example
    fingerprints: list[str]  # of each example; empty where it could not be read


class Source:
    """An iterable of batches, read once from the front, or by number where it can be."""

    def __init__(self, batches: Iterable[Any]):
        if isinstance(batches, Mapping | str) or hasattr(batches, "dtype"):
            raise TypeError(
                "`batches` must be an iterable of batches; got one "
                f"{type(batches).__name__}. Arrays are made into batches by "
                "`datasets.batches(arrays, batch_size)`."
            )
        by_number = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
        self._batches: Any = batches if by_number else iter(batches)
        self.count: int | None = len(self._batches) if by_number else None
        """How many batches there are; None until the end of an iterator has been seen."""
        nothing = object()
        if by_number:
            raw = self._batches[0] if self.count else nothing
        else:
            raw = next(self._batches, nothing)
        if raw is nothing:
            raise ValueError("`batches` must hold at least one batch; got none.")
        self._first = raw
        batch = _arrays(raw, 0)
        self.size = _count(batch, 0)
        self.description = _batch_description(batch)
        self.first = self._rows(0, batch)

    def rows(self, wanted: Callable[[int], bool]) -> Iterator[Rows]:
        """The wanted batches. Those of a sequence that are not wanted are not read."""
        short: tuple[int, Batch] | None = None
        for number, raw in self._numbered(wanted):
            if short is not None:
                raise self._uneven(*short)
            batch = _arrays(raw, number)
            if (description := _batch_description(batch)) != self.description:
                raise ValueError(
                    f"Every batch must be like the first; batch {number} holds {description} "
                    f"against {self.description}."
                )
            count = _count(batch, number)
            if count == self.size:
                if wanted(number):
                    yield self._rows(number, batch)
            elif count < self.size and self.count in (None, number + 1):
                short = number, batch  # whether an iterator has more shows at the next step
            else:
                raise self._uneven(number, batch)
        if short is not None and wanted(short[0]):
            yield self._rows(*short)

    def _numbered(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Any]]:
        first = [(0, self._first)]
        if self.count is not None:
            rest = ((n, self._batches[n]) for n in range(1, self.count) if wanted(n))
            yield from itertools.chain(first, rest)
            return
        number = 0
        for number, raw in itertools.chain(first, enumerate(self._batches, 1)):
            yield number, raw
        self.count = number + 1

    def _uneven(self, number: int, batch: Batch) -> ValueError:
        return ValueError(
            f"Every batch must have as many examples as the first, {self.size}, and only the last "
            f"may have fewer; batch {number} has {_count(batch, number)}."
        )

    def _rows(self, number: int, batch: Batch) -> Rows:
        count, first = _count(batch, number), number * self.size

        def filled(leaf: np.ndarray) -> np.ndarray:
            return np.concatenate([leaf, np.repeat(leaf[-1:], self.size - count, axis=0)])

        inputs = batch.inputs if count == self.size else jax.tree.map(filled, batch.inputs)
        leaves = jax.tree.leaves((batch.inputs, dict(batch.beside)))
        return Rows(
            number,
            first,
            count,
            inputs,
            dict(batch.beside),
            {first + row: reason for row, reason in sorted(batch.unreadable.items())},
            [
                "" if i in batch.unreadable else fingerprint(x[i] for x in leaves)
                for i in range(count)
            ],
        )


def fingerprint(arrays: Iterable[np.ndarray | bytes]) -> str:
    """A hash of the bytes of arrays."""
    whole = hashlib.blake2b(digest_size=16)
    for array in arrays:
        whole.update(array if isinstance(array, bytes) else array.tobytes())
    return whole.hexdigest()


def described(tree: PyTree, skip: int) -> dict[str, str]:
    """Dtype and shape of each array by its place, without the first `skip` axes."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape[skip:])}"
        for path, leaf in jax.tree.flatten_with_path(tree)[0]
    }


def _batch_description(batch: Batch) -> dict[str, dict[str, str]]:
    return {"inputs": described(batch.inputs, 1), "beside": described(dict(batch.beside), 1)}


def _arrays(raw: Any, number: int) -> Batch:
    batch = raw if isinstance(raw, Batch) else Batch(raw)
    return Batch(
        jax.tree.map(np.asarray, batch.inputs),
        {name: np.asarray(values) for name, values in batch.beside.items()},
        batch.unreadable,
    )


def _count(batch: Batch, number: int) -> int:
    """The number of examples in a batch."""
    leaves = jax.tree.leaves((batch.inputs, dict(batch.beside)))
    for leaf in leaves:
        if leaf.dtype.kind in "OSUMm":
            raise TypeError(
                f"Batches must hold numbers; batch {number} holds {leaf.dtype}. Texts, such as "
                "names of files, go into `metadata`, in the order of the examples."
            )
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "The arrays of a batch must have one leading axis, of 1 or more examples; batch "
            f"{number} has shapes {', '.join(str(leaf.shape) for leaf in leaves) or 'none'}."
        )
    (count,) = lengths
    if wrong := [row for row in batch.unreadable if not 0 <= row < count]:
        raise ValueError(
            f"`unreadable` must name rows of its batch, 0 to {count - 1}; batch {number} names "
            f"{wrong[0]}."
        )
    return count
