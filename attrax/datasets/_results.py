"""A store as it is read: arrays that are on disk until they are asked for."""

import dataclasses
import operator
from pathlib import Path
from typing import Any

import numpy as np

from ._store import (
    NOT_FINITE,
    STATUS,
    UNREADABLE,
    array_at,
    attributes_of,
    finished_in,
    marker_at,
    read_json,
)


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array on disk: indexing reads what is asked for, and nothing else, as NumPy.

    Attributes:
        tensorstore: the `tensorstore.TensorStore` behind it, for reading in the background.
    """

    tensorstore: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, the number of examples first."""
        return tuple(self.tensorstore.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype."""
        return self.tensorstore.dtype.numpy_dtype

    def __len__(self) -> int:
        """The number of examples so far."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """The rows that the first index asks for are read; the others are NumPy's, behind it."""
        first, *others = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            return np.asarray(self.tensorstore.read().result())[(..., *others)]
        rows, among_rows = self._rows(first)
        read = np.asarray(self.tensorstore[rows].read().result())
        return read[(*among_rows, *others)]

    def _rows(self, index: Any) -> tuple[Any, tuple[Any, ...]]:
        """`index` as TensorStore counts, from the front, and what it leaves of the first axis."""
        n = len(self)
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            numbers = range(start, stop, step)
            return (np.asarray(numbers) if step != 1 else slice(start, max(start, stop))), (
                slice(None),
            )
        if np.ndim(index) == 0 and not isinstance(index, bool | np.bool):
            return range(n)[operator.index(index)], ()
        chosen = np.arange(n)[index]
        return chosen.ravel(), (np.arange(chosen.size).reshape(chosen.shape),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it."""
        return np.array(self[...], dtype=dtype, copy=copy)


@dataclasses.dataclass(frozen=True)
class Results:
    """A store, read lazily: `results["value"]` is an array of it, `results["value"][3]` is read.

    Attributes:
        path: where it is.
        arrays: a `Stored` for each array of the results and each one stored beside them, by name,
            with a leading axis of examples.
        status: an array of a number for each example: 0 unfinished, 1 explained, 2 explained with
            a result that is not finite, 3 unreadable. It is written after the results, so that
            they are there wherever it is not 0. Where it is 3, floating results are NaN, others
            are 0.
        metadata: what the call was given.
        complete: whether every batch is finished.
    """

    path: Path
    arrays: dict[str, Stored]
    status: Stored
    metadata: dict[str, Any]
    complete: bool

    def __getitem__(self, name: str) -> Stored:
        """The array of that name; nothing of it is read yet."""
        if name not in self.arrays:
            raise KeyError(f"{name!r} is not among the results, {', '.join(sorted(self.arrays))}.")
        return self.arrays[name]

    def __len__(self) -> int:
        """The number of examples so far."""
        return len(self.status)

    @property
    def not_finite(self) -> list[int]:
        """Indices of examples with a NaN or an infinity in a result."""
        return np.flatnonzero(self.status[:] == NOT_FINITE).tolist()

    @property
    def unreadable(self) -> dict[int, str]:
        """Indices of examples in finished batches that could not be read, with the reasons."""
        indices = np.flatnonzero(self.status[:] == UNREADABLE)
        size = self.status.tensorstore.chunk_layout.read_chunk.shape[0]
        batches = set((indices // size).tolist())
        reasons = {}
        for number in sorted(batches & finished_in(self.path)):
            reasons |= read_json(marker_at(self.path, number))["unreadable"]
        return {int(index): reason for index, reason in reasons.items()}


def open(path: str | Path) -> Results:
    """The results in a store; while it is still being written, those that are finished.

    Args:
        path: of the store.

    Returns:
        `Results`: arrays that are read when they are asked for.

    Raises:
        ValueError: when there is no store of `explain` at `path`.
    """
    path = Path(path)
    attributes = attributes_of(path)
    names = [*attributes["attrax"]["arrays"], STATUS]
    arrays = {name: Stored(array_at(path / name)) for name in names}
    end = marker_at(path, "end")
    complete = end.exists() and len(finished_in(path)) == read_json(end)["batches"]
    return Results(path, arrays, arrays.pop(STATUS), attributes["metadata"], complete)
