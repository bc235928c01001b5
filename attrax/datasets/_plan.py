"""What a run over a dataset will do, and what its store belongs to."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import Array, PyTree
from ._batches import Batch, Rows, Source, fingerprint
from ._store import Kind, Store, check_names


@dataclass(frozen=True)
class Plan:
    """A run, decided before anything is computed.

    Attributes:
        source: the batches.
        store: where the results go.
        compute: from a batch to its results, by name; compiled at the first.
        verify: whether finished batches are read, too.
    """

    source: Source
    store: Store
    compute: Callable[[Rows], dict[str, Array]]
    verify: bool

    def is_own(self, number: int) -> bool:
        """Whether a batch belongs to this process."""
        return number % jax.process_count() == jax.process_index()

    def is_wanted(self, number: int) -> bool:
        """Whether a batch is to be read."""
        return self.is_own(number) and (
            self.verify or number not in self.store.finished or self.store.has_unreadable(number)
        )

    @property
    def left(self) -> int | None:
        """Examples that are not finished, in whole batches; None where nobody knows."""
        count = self.source.count
        if count is None:
            return None
        mine = [number for number in range(count) if self.is_own(number)]
        return self.source.size * sum(number not in self.store.finished for number in mine)


def plan(
    method: Callable[..., PyTree],
    model: PyTree,
    batches: Iterable[PyTree | Batch],
    store: str | Path,
    *,
    key: Array | None = None,
    sharding: jax.sharding.Sharding | None = None,
    metadata: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Plan:
    """What `explain` will do; makes the store, or refuses the one that is there."""
    source = Source(batches)
    _check_sharding(sharding, source.size)
    place = functools.partial(jax.device_put, device=sharding)
    model, key = _on_the_devices((model, key), sharding)

    def arguments(rows: Rows) -> tuple[PyTree, ...]:
        indices = np.arange(rows.first, rows.first + source.size, dtype=np.uint32)
        return model, place(rows.inputs), place(indices), key

    # Lowering is a trace; what it gives is compared with the store before anything is compiled.
    lowered = _lowered(method, sharding, arguments(source.first))
    kinds = _kinds(lowered.out_info, source.size)
    beside = {name: Kind(v.shape[1:], v.dtype) for name, v in source.first.beside.items()}
    check_names([*kinds, *beside])
    kept = Store(
        Path(store),
        _record(lowered.as_text(), model, key, source, sharding),
        metadata or {},
        dict([*kinds.items(), *beside.items()]),
        source.size,
        jax.process_index(),
    )
    kept.expect(source.count)
    compiled = functools.cache(lowered.compile)

    def compute(rows: Rows) -> dict[str, Array]:
        outputs = compiled()(*arguments(rows))
        return dict(zip(kinds, jax.tree.leaves(outputs), strict=True))

    return Plan(source, kept, compute, verify)


def _lowered(
    method: Callable[..., PyTree], sharding: jax.sharding.Sharding | None, arguments: Any
) -> jax.stages.Lowered:
    """The program of one batch, traced."""
    program = functools.partial(_batch, method)
    try:
        return jax.jit(program, out_shardings=sharding).lower(*arguments)
    except Exception as error:
        error.add_note(
            "`method` is given a whole batch. Map one of a single example over it: "
            "`jax.vmap(method, in_axes=(None, 0, ...))`."
        )
        raise


def _batch(
    method: Callable[..., PyTree], model: PyTree, inputs: PyTree, indices: Array, key: Array | None
) -> PyTree:
    """What is compiled: the results of one batch."""
    parts = tuple(inputs) if type(inputs) in (tuple, list) else (inputs,)
    if key is None:
        return method(model, *parts)
    return method(model, *parts, key=jax.vmap(jax.random.fold_in, (None, 0))(key, indices))


def _kinds(out_info: PyTree, size: int) -> dict[str, Kind]:
    """The arrays that the results become, by name."""
    kinds = {}
    for path, info in jax.tree.flatten_with_path(out_info)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        if info.shape[:1] != (size,):
            raise ValueError(
                f"`method` must return arrays with the leading axis of a batch, {size}; "
                f"{name!r} has shape {info.shape}. Map one of a single example over the batch: "
                "`jax.vmap(method, in_axes=(None, 0, ...))`."
            )
        if name in kinds:
            raise ValueError(f"Names of results must differ; {name!r} occurs twice.")
        kinds[name] = Kind(info.shape[1:], np.dtype(info.dtype))
    if not kinds:
        raise ValueError("`method` must return at least one array; got none.")
    return kinds


def _record(
    program: str,
    model: PyTree,
    key: Array | None,
    source: Source,
    sharding: jax.sharding.Sharding | None,
) -> dict[str, Any]:
    """What the results depend on, and so what a store belongs to."""
    weights = jax.tree.leaves(model)
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in map(_numbers, weights))
    devices = {jnp.zeros(()).device} if sharding is None else sharding.device_set
    kinds = {getattr(device, "device_kind", str(device)) for device in devices}
    return {
        "method": fingerprint([program.encode()]),
        "model": fingerprint([shapes.encode(), *map(_numbers, weights)]),
        "key": None if key is None else fingerprint([_numbers(key)]),
        "batch": {"examples": source.size, **source.description},
        "versions": ", ".join(f"{name} {version(name)}" for name in ("attrax", "jax", "jaxlib")),
        "devices": f"{len(devices)} x {', '.join(sorted(kinds))}",
    }


def _numbers(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _check_sharding(sharding: jax.sharding.Sharding | None, size: int) -> None:
    if sharding is None:
        return
    if not sharding.is_fully_addressable:
        raise ValueError(
            "`sharding` must be over devices of this process, as of "
            "`Mesh(jax.local_devices(), 'examples')`: every process explains batches of its own."
        )
    try:
        sharding.shard_shape((size,))
    except (IndexError, ValueError) as error:
        raise ValueError(
            "The examples of a batch must be divisible among the devices of `sharding`, and no "
            f"other axis be divided; got {size} examples and {sharding}."
        ) from error


def _on_the_devices(model: PyTree, sharding: jax.sharding.Sharding | None) -> PyTree:
    """`model` with every array on the devices of `sharding`, copied to all where it was not."""
    if sharding is None:
        return jax.device_put(model)
    everywhere = sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())

    def placed(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and leaf.sharding.device_set == sharding.device_set:
            return leaf
        return jax.device_put(leaf, everywhere)

    return jax.tree.map(placed, model)
