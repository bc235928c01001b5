"""The tap: an identity primitive that names a value inside a JAX function.

A tap is bound only while a program is being *read* (traced so that its layers can be addressed).
The state "being read" is a user context of JAX, and so part of the key of every trace cache: a
function that was jitted before it is read still shows its taps, and a function first traced while
it is read leaves none in the caller's own programs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._core._types import PyTree
from ._address import Address, Blocked, is_plain

# Made at import: making a user context is not thread-safe, using one is.
_reading: Any = jax.make_user_context(default_value=None)
_generations = itertools.count()


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
    with _reading(next(_generations)):
        yield


def next_generation() -> contextlib.AbstractContextManager[Any]:
    """A context in which no trace made earlier, in this reading or another, is found again.

    All instances of a Linen module under `nn.jit` share one trace, and so the names of the first.
    """
    return _reading(next(_generations))


def is_nothing(value: Any) -> bool:
    """No value is opaque: what `tap` itself looks through."""
    return False


def bind_tap(label: Label, value: PyTree, opaque: Callable[[Any], bool] = is_nothing) -> PyTree:
    """Send every array of `value` through one tap; what is `opaque` passes as it is."""
    leaves, tree = jax.tree.flatten(value, is_leaf=opaque)
    where = [i for i, leaf in enumerate(leaves) if is_array(leaf) and not opaque(leaf)]
    if not where:
        return value
    if label.call is not None and not label.anchor:
        label.call.returns_arrays = True
    arrays = tree if len(where) == len(leaves) else jax.tree.structure([0] * len(where))
    tapped = tap_p.bind(*[leaves[i] for i in where], label=label._replace(tree=arrays))
    for i, leaf in zip(where, tapped, strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(tree, leaves)


def tap_call(
    path: tuple[str, ...],
    method: str,
    opaque: Callable[[Any], bool],
    function: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    """Call a method with its arrays tapped: one array, or a tuple of all; and tap its result."""
    label = Label("module", path, "" if method == "__call__" else f".{method}", call=Call())
    leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=opaque)
    where = [i for i, leaf in enumerate(leaves) if is_array(leaf) and not opaque(leaf)]
    if where:
        given = [leaves[i] for i in where]
        value = bind_tap(
            label._replace(anchor=":in"), given[0] if len(given) == 1 else tuple(given)
        )
        for i, leaf in zip(where, [value] if len(given) == 1 else value, strict=True):
            leaves[i] = leaf
        args, kwargs = jax.tree.unflatten(tree, leaves)
    return bind_tap(label, function(*args, **kwargs), opaque)


def is_numpy(value: Any) -> bool:
    """Values that a module may use to decide shapes: never traced on the way into a module."""
    return isinstance(value, (np.ndarray, np.generic))


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
