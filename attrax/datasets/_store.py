"""A Zarr store that is written batch by batch and never holds half of one.

store/zarr.json          the group: what the store belongs to, and the metadata of its user
store/<name>/...         one array for each array of the results, one chunk for each batch
store/status/...         what became of each example
store/_batches/<n>.json  batch n is finished: hashes of its examples, why some are missing
store/_batches/end.json  the number of batches, once it is known
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._batches import Rows

try:
    import tensorstore
except ImportError as error:
    raise ImportError("`attrax.datasets` needs tensorstore: pip install tensorstore") from error

STATUS = "status"
UNFINISHED, EXPLAINED, NOT_FINITE, UNREADABLE = range(4)

DISK_ERRORS = (OSError, RuntimeError, ValueError)
"""What TensorStore raises when something is wrong with a disk."""

_MARKERS = "_batches"


class Kind(NamedTuple):
    """Shape of one example in an array, and its dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Store:
    """A store that is being written.

    Args:
        path: where; it is made if there is nothing.
        record: what the results depend on. A store with another one is refused.
        metadata: what the user wants to keep with it.
        kinds: the arrays, without `status`.
        size: examples in a batch.
        process: the number of this one among those that make the same call.
    """

    def __init__(
        self,
        path: Path,
        record: Mapping[str, Any],
        metadata: Mapping[str, Any],
        kinds: Mapping[str, Kind],
        size: int,
        process: int,
    ):
        arrays = {name: f"{dtype}{list(shape)}" for name, (shape, dtype) in kinds.items()}
        here = {"attrax": {**record, "arrays": arrays}, "metadata": _as_json(metadata)}
        if not path.exists():
            _create(path, here, {**kinds, STATUS: Kind((), np.dtype("uint8"))}, size, process)
        there = attributes_of(path)
        _refuse_another(path, _flat(there), _flat(here))
        self.path = path
        self._arrays = {name: array_at(path / name) for name in (*kinds, STATUS)}
        self.finished = finished_in(path)
        end = marker_at(path, "end")
        self._count = read_json(end)["batches"] if end.exists() else None

    def expect(self, count: int | None, number: int = 0) -> None:
        """Raise when this cannot be the data of the store: `count` batches, or batch `number`."""
        there = self._count
        if count is not None:
            wrong = there not in (None, count) or max(self.finished, default=0) >= count
        else:
            wrong = there is not None and number >= there
        if wrong:
            known = there or f"{max(self.finished) + 1} or more"
            here = f"more than {there}" if count is None else count
            raise ValueError(
                f"`store` must hold the same data; {str(self.path)!r} holds {known} batches, "
                f"against {here} here. Give another path."
            )

    def needs(self, rows: Rows) -> bool:
        """Whether a finished batch is to be explained again.

        It is when examples can be read that could not, unless others cannot be read any more: what
        is known of those stays.

        Raises:
            ValueError: when the batch holds other examples than the one that was explained.
        """
        there = read_json(marker_at(self.path, rows.number))["examples"]
        if len(there) != rows.examples:
            raise ValueError(
                f"`store` must hold the same data; batch {rows.number} has {len(there)} examples "
                f"in {str(self.path)!r}, and {rows.examples} here. Give another path."
            )
        for i, (old, new) in enumerate(zip(there, rows.fingerprints, strict=True)):
            if old and new and old != new:
                raise ValueError(
                    f"`store` must hold the same data; example {rows.first + i} is another one "
                    f"in {str(self.path)!r}. Give another path."
                )
        known = [(bool(old), bool(new)) for old, new in zip(there, rows.fingerprints, strict=True)]
        return (False, True) in known and (True, False) not in known

    def has_unreadable(self, number: int) -> bool:
        """Whether a finished batch has examples that could not be read."""
        return bool(read_json(marker_at(self.path, number))["unreadable"])

    def write(self, first: int, values: Mapping[str, np.ndarray]) -> list[Any]:
        """Begin to write the examples from `first` on; futures that are done when it is on disk."""
        stop = first + len(next(iter(values.values())))
        self._arrays |= {name: self._grown(name, stop) for name in self._arrays}
        return [self._arrays[name][first:stop].write(array) for name, array in values.items()]

    def _grown(self, name: str, length: int) -> Any:
        """An array of at least this length."""
        array = self._arrays[name]
        if array.shape[0] >= length:
            return array
        try:
            most = [length, *[None] * (array.ndim - 1)]
            return array.resize(exclusive_max=most, expand_only=True).result()
        except ValueError:
            array = array_at(self.path / name)
            if array.shape[0] < length:
                raise
            return array  # another process has made it longer meanwhile

    def mark(self, rows: Rows, status: np.ndarray) -> None:
        """Say that a batch is finished, once all of its chunks are on disk.

        The order makes a kill or a loss of power harmless at any moment. TensorStore has written
        each chunk to a new file, synced it and renamed it before its future is done; only then is
        the status written in the same way, so that no reader takes for explained what is not there
        yet; then the marker is written to a new file, synced, and renamed. A marker that is in
        place is whole, and so are the chunks of its batch; a batch without one is explained again.
        """
        for future in self.write(rows.first, {STATUS: status}):
            future.result()
        marker = {
            "examples": rows.fingerprints,
            "unreadable": {str(index): reason for index, reason in rows.unreadable.items()},
        }
        _put_in_place(marker_at(self.path, rows.number), marker)
        self.finished.add(rows.number)

    def end(self, count: int) -> None:
        """Say how many batches there are."""
        if self._count is None:
            _put_in_place(marker_at(self.path, "end"), {"batches": count})


def check_names(names: list[str]) -> None:
    """Raise when names cannot be those of arrays in one store."""
    for name in names:
        for part in name.split("/") if isinstance(name, str) else [""]:
            if not re.fullmatch(r"[^\W_][\w .-]*", part) or part == "zarr.json" or name == STATUS:
                raise ValueError(
                    "Names of results must be words of letters, digits, `_`, `.` and `-`, and not "
                    f"`{STATUS}`; got {name!r}."
                )
    parents = {name.rsplit("/", i)[0] for name in names for i in range(1, name.count("/") + 1)}
    twice = {name for name in names if names.count(name) > 1 or name in parents}
    if twice:
        raise ValueError(
            f"Names of results and of arrays beside them must differ; {min(twice)!r} occurs twice."
        )


def fill_value(dtype: Any) -> Any:
    """What stands where there is no result."""
    return np.nan if jnp.issubdtype(dtype, jnp.inexact) else 0


def _create(
    path: Path, attributes: Mapping[str, Any], kinds: Mapping[str, Kind], size: int, process: int
) -> None:
    """Make an empty store beside its place, whole, and rename it: it is there or it is not."""
    new = path.with_name(f".{path.name}.new{process}")
    shutil.rmtree(new, ignore_errors=True)  # of a call that was stopped right here
    (new / _MARKERS).mkdir(parents=True)
    group = {"zarr_format": 3, "node_type": "group"}
    for name, kind in kinds.items():
        for parent in (new / name).relative_to(new).parents:
            (new / parent).mkdir(parents=True, exist_ok=True)
            _put_in_place(new / parent / "zarr.json", group)
        future = tensorstore.open(
            _spec(new / name),
            create=True,
            dtype=tensorstore.dtype(kind.dtype),
            shape=(0, *kind.shape),
            chunk_layout=tensorstore.ChunkLayout(chunk_shape=(size, *kind.shape)),
            fill_value=fill_value(kind.dtype),
        )
        try:
            future.result()
        except DISK_ERRORS as error:
            raise OSError(
                f"`store` must be writable; {str(path)!r} could not be made: {error}"
            ) from error
    _put_in_place(new / "zarr.json", {**group, "attributes": attributes})
    try:
        new.rename(path)
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(new)  # another process was faster
    _sync(path.parent)


def _refuse_another(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differing = [
        f"{name} ({there.get(name)} there, {here.get(name)} here)"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise ValueError(
            "`store` must hold results of the same method, model, key, data and versions; "
            f"{str(path)!r} differs in {'; '.join(differing)}. Give another path."
        )


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata` as it is read back."""
    try:
        return json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`metadata` must be what JSON can hold: dicts, lists, texts, finite numbers; "
            f"got {metadata!r}: {error}."
        ) from error


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {**attributes["attrax"], "metadata": attributes["metadata"]}


def attributes_of(path: Path) -> dict[str, Any]:
    group = path / "zarr.json"
    attributes = read_json(group).get("attributes", {}) if group.exists() else {}
    if "attrax" not in attributes:
        raise ValueError(
            f"`store` must be a store that `attrax.datasets.explain` made; {str(path)!r} is "
            f"{'something else' if path.exists() else 'not there'}."
        )
    return attributes


def _spec(path: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.absolute())}}


def array_at(path: Path) -> Any:
    return tensorstore.open(_spec(path), open=True).result()


def marker_at(path: Path, number: int | str) -> Path:
    return path / _MARKERS / f"{number}.json"


def finished_in(path: Path) -> set[int]:
    stems = (file.stem for file in (path / _MARKERS).glob("*.json"))
    return {int(stem) for stem in stems if stem.isdigit()}


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _put_in_place(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is, under its name, whole or not there, even after a loss of power."""
    new = file.with_name(file.name + ".new")
    with new.open("w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())  # the content before the name
    os.replace(new, file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
