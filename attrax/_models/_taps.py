"""The tap: an identity primitive that names a value inside a JAX function.

A tap is bound only while a program is being *read* (traced so that its layers can be addressed).
The state "being read" is a user context of JAX, and so part of the key of every trace cache: a
function that was jitted before it is read still shows its taps, and a function first traced while
it is read leaves none in the caller's own programs.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._core._types import PyTree
from ._address import Address, Blocked, is_plain
from ._containers import Journal, Opaque, replaced

# Made at import: making a user context is not thread-safe, using one is.
_reading: Any = jax.make_user_context(default_value=None)
_generations = itertools.count()


class _Running(threading.local):
    """The reading on this thread: what it has replaced in containers, and the module that runs."""

    journal: Journal | None = None
    path: tuple[str, ...] = ()


_running = _Running()


class Call:
    """One call of a method of a module, shared by the taps of its input and of its output."""

    def __init__(self) -> None:
        self.returns_arrays = False


class Label(NamedTuple):
    """What a tap says about the value that passes through it.

    A raw label holds what the tracing code knew (`path`, `method`, `anchor`); a final one also
    holds the addresses, `names`, which the naming pass of `_program` gave it. A tap without a label
    marks a value that is not to be named.
    """

    kind: str  # "module", "tap", "function", "primitive"
    path: tuple[str, ...]
    method: str = ""  # ".encode" for a method other than `__call__`
    anchor: str = ""  # ":in" for the input of a module
    tree: Any = None  # the structure of the value
    call: Call | None = None
    names: tuple[Address, ...] = ()
    axes: tuple[tuple[int, ...], ...] = ()  # per array: axes of size one that are not the value's
    blocked: Blocked | None = None  # why this value cannot be cut or captured


tap_p = Primitive("attrax_tap")
tap_p.multiple_results = True
tap_p.def_impl(lambda *values, label: list(values))
tap_p.def_abstract_eval(lambda *avals, label: list(avals))
mlir.register_lowering(tap_p, lambda ctx, *values, label: list(values))


def _jvp(primals, tangents, *, label):
    # The tangent passes untapped: one call, one name, also where the model takes a gradient itself.
    return tap_p.bind(*primals, label=label), list(tangents)


def _batch(values, dims, *, label):
    # A `vmap` inside the model: the captured value has the mapped axis in front, wherever it was.
    front = [v if d is None else jnp.moveaxis(v, d, 0) for v, d in zip(values, dims, strict=True)]
    if label is not None and label.axes:
        shifts = [0 if d is None else 1 for d in dims]
        axes = zip(label.axes, shifts, strict=True)
        label = label._replace(axes=tuple(tuple(a + by for a in some) for some, by in axes))
    return tap_p.bind(*front, label=label), [None if d is None else 0 for d in dims]


ad.primitive_jvps[tap_p] = _jvp
ad.primitive_transposes[tap_p] = lambda cotangents, *values, label: list(cotangents)
batching.primitive_batchers[tap_p] = _batch


def is_reading() -> bool:
    """Whether the code that runs is traced in order to be read."""
    return _reading.value is not None


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Trace with taps inside this block."""
    journal, outer = Journal(), (_running.journal, _running.path)
    _running.journal, _running.path = journal, ()
    try:
        with _reading(next(_generations)):
            yield
    finally:
        journal.undo()
        _running.journal, _running.path = outer


@contextlib.contextmanager
def not_reading() -> Iterator[None]:
    """Trace without taps inside this block, wherever it stands."""
    with _reading(None):
        yield


def next_generation() -> contextlib.AbstractContextManager[Any]:
    """A context in which no trace made earlier, in this reading or another, is found again.

    All instances of a Linen module under `nn.jit` share one trace, and so the names of the first.
    """
    return _reading(next(_generations))


def is_nothing(value: Any) -> bool:
    """No value is opaque: what `tap` itself looks through."""
    return False


def bind_tap(label: Label, value: PyTree, opaque: Opaque = is_nothing) -> PyTree:
    """Send every array of `value` through one tap; what is `opaque` passes as it is.

    The result of a module comes back in its own containers, as others may hold them; a value that
    is tapped by hand comes back in new ones.
    """
    leaves, tree = jax.tree.flatten(value, is_leaf=opaque)
    arrays = [leaf for leaf in leaves if _is_tapped(leaf, opaque)]
    if not arrays:
        return value
    if label.call is not None:
        label.call.returns_arrays = True
    if len(arrays) < len(leaves):
        tree = jax.tree.structure([0] * len(arrays))
    tapped = iter(tap_p.bind(*arrays, label=label._replace(tree=tree)))
    journal = None if label.kind == "tap" else _running.journal

    def change(leaf):
        return next(tapped) if _is_tapped(leaf, opaque) else leaf

    return replaced(value, change, opaque, journal)


def _is_tapped(leaf: Any, opaque: Opaque) -> bool:
    return is_array(leaf) and not opaque(leaf)


def tap_call(
    path: tuple[str, ...],
    method: str,
    opaque: Opaque,
    function: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    """Call a method with its arrays tapped: one array, or a tuple of all; and tap its result.

    The method gets the containers that it was given, with each array replaced by one tapped array
    wherever it stands; after the call the arrays that are still there are put back.
    """
    label = Label("module", path, "" if method == "__call__" else f".{method}", call=Call())
    leaves = jax.tree.leaves((args, kwargs), is_leaf=opaque)
    arrays = list({id(a): a for a in leaves if _is_tapped(a, opaque)}.values())
    if not arrays:
        with _inside(path):
            result = function(*args, **kwargs)
        return bind_tap(label, result, opaque)
    tree = jax.tree.structure(0 if len(arrays) == 1 else (0,) * len(arrays))
    tapped = tap_p.bind(*arrays, label=label._replace(anchor=":in", tree=tree))
    found = {id(a): t for a, t in zip(arrays, tapped, strict=True)}
    journal = Journal()
    args, kwargs = replaced(
        (args, dict(kwargs)), lambda leaf: found.get(id(leaf), leaf), opaque, journal
    )
    try:
        with _inside(path):
            result = function(*args, **kwargs)
    finally:
        journal.undo()
    return bind_tap(label, result, opaque)


@contextlib.contextmanager
def _inside(path: tuple[str, ...]) -> Iterator[None]:
    outer, _running.path = _running.path, path
    try:
        yield
    finally:
        _running.path = outer


def running_path() -> tuple[str, ...]:
    """The path of the module whose method runs."""
    return _running.path


def is_numpy(value: Any) -> bool:
    """Values that a module may use to decide shapes: never traced on the way into a module."""
    return isinstance(value, (np.ndarray, np.generic))


def is_opaque(value: Any) -> bool:
    """What must reach a method as it is: NumPy values, and what NNX tracks by identity."""
    nnx = sys.modules.get("flax.nnx")
    return is_numpy(value) or (nnx is not None and isinstance(value, (nnx.Object, nnx.Variable)))


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a pytree is traced; Python scalars, strings and flags are constants."""
    is_flag = isinstance(leaf, (np.bool_, np.integer))
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not is_flag


def tap(name: str, value: PyTree) -> PyTree:
    """Name a value inside any JAX function, so that it can be addressed: returns `value`.

    `tap(name, v) = v`, exactly, with the same derivatives. Outside of attrax's own traces nothing
    is added to the program at all. Inside a module that an adapter taps (`from_linen`, `from_nnx`)
    the name is relative to the module: `tap("h", v)` in `block3` is addressed as `block3/h`.

    Args:
        name: one or more words separated by `/`; the characters `# : [ ]` are used by addresses.
        value: any pytree; its arrays are named together.

    Returns:
        `value`.

    Raises:
        ValueError: `name` is empty or holds a reserved character.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> def model(x):
        ...     h = attrax.tap("hidden", x ** 2)
        ...     return h.sum()
        >>> attrax.capture(model, jnp.array([1.0, 2.0]), at="hidden")
        Array([1., 4.], dtype=float32)
    """
    if not is_plain(name):
        raise ValueError(
            "a tap's `name` must be words separated by '/', without '#', ':', '[' or ']'; got "
            f"{name!r}."
        )
    if not is_reading():
        return value
    return bind_tap(Label("tap", tuple(name.split("/"))), value)
