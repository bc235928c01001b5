"""The loop over a dataset: read, explain, write, mark."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array, PyTree
from ._batches import Batch, Rows
from ._plan import Plan, plan
from ._prefetch import prefetched
from ._progress import bar
from ._results import Results, open
from ._store import DISK_ERRORS, EXPLAINED, NOT_FINITE, UNREADABLE, Store, fill_value


def explain(
    method: Callable[..., PyTree],
    model: PyTree,
    batches: Iterable[PyTree | Batch],
    *,
    store: str | Path,
    key: Array | None = None,
    sharding: jax.sharding.Sharding | None = None,
    metadata: Mapping[str, Any] | None = None,
    verify: bool = True,
    prefetch: int = 2,
    progress: bool = False,
) -> Results:
    """The results of `method` for every example of a dataset, in a Zarr store.

    `results[first : first + size] = method(model, *batch)`, for every batch

    The method takes a whole batch. One of a single example is mapped over it by JAX:
    `jax.vmap(method, in_axes=(None, 0, 0))` for a model, an example and its label. With `key` it is
    called with `key=` too: a key for each example, `fold_in(key, i)` for example i.

    One program explains a batch, compiled once. A last batch that is smaller is filled up by
    repeating its last example, and the results of that are dropped. While one batch is computed,
    others are read and written.

    A batch is finished when it is on disk, and finished batches survive whatever stops the run: a
    kill, a full disk, an exception of `batches`. The same call again goes on with the first batch
    that is not finished. On the same machine and versions the store is then, byte for byte, that of
    a run that nothing stopped. A store of another method, model, key, data, or of other versions of
    JAX and attrax is refused, and left as it is.

    What goes wrong with one example is reported with its index, in `Results.not_finite` and
    `Results.unreadable`, and the rest goes on. The next call tries again to read what it could not.

    Under `jax.distributed` every process makes the same call, on a file system that all share.
    Batch n belongs to process n modulo their number: no process waits for another, and each returns
    when its own batches are finished.

    Args:
        method: `method(model, *inputs)` or `method(model, *inputs, key=keys)`, of a whole batch; it
            returns any pytree of arrays with the leading axis of examples: an array, an
            `attrax.Estimate`, a dict.
        model: any pytree, such as an `attrax.Model`. Weights that `method` closes over instead
            become constants of the program.
        batches: any iterable of pytrees of arrays with a leading axis of examples, the same for all
            batches but the last; or of `Batch`. Iterating gives the same batches each time. A
            sequence, such as `batches(...)` or a Grain `MapDataset`, is read by number; an iterator
            from the front.
        store: path of the store.
        key: a key of `jax.random`. The key of an example depends on its index only.
        sharding: of the leading axis, over devices of this process; None is one device. Arrays of
            the model that are not on those devices are copied to all of them, and so is `key`.
        metadata: a dict of anything that JSON can hold, kept in the store: names of classes or
            files.
        verify: read finished batches, too, and compare their hashes with those in the store. False
            does not read them, if `batches` is a sequence; then only their number, shapes and
            dtypes tell other data from these.
        prefetch: batches read ahead, in a thread; 0 reads in this one.
        progress: show examples per second and the time that is left, with rich.

    Returns:
        `Results`, as `open(store)` gives. An array that `method` returns is named `value`; of a
        result with several, `value` and `standard_error`, the keys of a dict, and so on.

    Raises:
        TypeError: when `batches` is an array, or holds texts or objects.
        ValueError: when there is no batch; when batches differ in structure, shapes, dtypes, or in
            size before the last one; when the size does not suit `sharding`; when a result of
            `method` does not have the leading axis; when names collide; when JSON cannot hold
            `metadata`; when the store is another one.
        OSError: when the store cannot be written. What is finished is kept.

    Example:
        >>> import attrax, tempfile
        >>> def method(w, x, y):  # of one example
        ...     return attrax.gradient_times_input(lambda x: x[y] * w, x)
        >>> xs, ys = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0, 1, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = explain(
        ...         jax.vmap(method, in_axes=(None, 0, 0)), 10.0,
        ...         attrax.datasets.batches((xs, ys), 2), store=f"{folder}/example.zarr")
        ...     results["value"][:].tolist()
        [[10.0, 0.0], [0.0, 40.0], [0.0, 60.0]]
    """
    prefetch = _checks.count(prefetch, "prefetch", least=0)
    planned = plan(
        method, model, batches, store, key=key, sharding=sharding, metadata=metadata, verify=verify
    )
    with bar(progress, planned.left) as advance:
        run(planned, prefetch, advance)
    return open(store)


def run(plan: Plan, prefetch: int, advance: Callable[[int], None], *, ahead: int = 2) -> None:
    """Carry out a plan; `advance(examples)` is called whenever a batch is finished.

    While `ahead` batches are written, as many more are computed; with 0 a batch is on disk before
    the next one is computed.
    """
    source, store = plan.source, plan.store
    with contextlib.closing(prefetched(source.rows(plan.is_wanted), prefetch)) as batches:
        _go_through(batches, plan.compute, store, _Queue(store, advance, ahead))
    assert source.count is not None
    store.expect(source.count)
    if plan.is_own(0):
        store.end(source.count)


def _go_through(
    batches: Iterator[Rows],
    compute: Callable[[Rows], dict[str, Array]],
    store: Store,
    queue: "_Queue",
) -> None:
    """Compute and write what is not finished. Batches before one that raises are finished first."""
    finished = frozenset(store.finished)
    while True:
        try:
            rows = next(batches, None)
        except Exception as error:
            queue.flush()
            error.add_note(
                f"What is finished is kept in {str(store.path)!r}: the same call goes on."
            )
            raise
        if rows is None:
            break
        store.expect(None, rows.number)
        if rows.number not in finished or store.needs(rows):
            queue.add(rows, compute(rows))
    queue.flush()


class _Queue:
    """Batches on their way to disk: one is computed while others are written."""

    def __init__(self, store: Store, advance: Callable[[int], None], ahead: int):
        self._store, self._advance, self._ahead = store, advance, ahead
        self._computed: collections.deque[tuple[Rows, dict[str, Array]]] = collections.deque()
        self._written: collections.deque[tuple[Rows, np.ndarray, list[Any]]] = collections.deque()

    def add(self, rows: Rows, outputs: dict[str, Array]) -> None:
        self._computed.append((rows, outputs))
        self._settle(self._ahead)

    def flush(self) -> None:
        self._settle(0)

    def _settle(self, left: int) -> None:
        """Bring batches on until at most `left` are computed and as many are written."""
        while len(self._computed) > left:
            rows, outputs = self._computed.popleft()
            values, status = _values(rows, outputs)
            with self._resumable(rows.number):
                futures = self._store.write(rows.first, values)
            self._written.append((rows, status, futures))
        while len(self._written) > left:
            rows, status, futures = self._written.popleft()
            with self._resumable(rows.number):
                for future in futures:
                    future.result()
                self._store.mark(rows, status)
            self._advance(rows.examples)

    @contextlib.contextmanager
    def _resumable(self, number: int):
        try:
            yield
        except DISK_ERRORS as error:
            raise OSError(
                f"`store` must be writable; batch {number} could not be written: {error} What is "
                f"finished is kept in {str(self._store.path)!r}: the same call goes on."
            ) from error


def _values(rows: Rows, outputs: dict[str, Array]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is written for a batch, and what became of each example."""
    status = np.full(rows.examples, EXPLAINED, np.uint8)
    values = {name: np.asarray(output)[: rows.examples] for name, output in outputs.items()}
    missing = [index - rows.first for index in rows.unreadable]
    for name, array in values.items():
        if jnp.issubdtype(array.dtype, jnp.inexact):
            finite = np.isfinite(array).reshape(rows.examples, -1).all(axis=1)
            status[~finite] = NOT_FINITE
        if missing:
            values[name] = array = array.copy()
            array[missing] = fill_value(array.dtype)
    status[missing] = UNREADABLE
    return {**values, **rows.beside}, status
