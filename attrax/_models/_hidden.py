"""Outputs whose arrays JAX cannot see: objects whose classes are not pytrees."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from jax.core import Tracer

_PLAIN = (str, bytes, int, float, complex, type, type(None), types.ModuleType, jax.Array)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def refuse_hidden_arrays(result: Any) -> None:
    """Check that no output which is not a pytree holds an array that was computed in this trace.

    Raises:
        TypeError: one does. The message says how to register the class.
    """
    for leaf in jax.tree.leaves(result):
        if isinstance(leaf, Tracer) or not _holds_tracer(leaf, {}):
            continue
        name = type(leaf).__name__
        if isinstance(leaf, _FUNCTIONS):
            raise TypeError(
                f"the model returns a {name} that holds arrays: return the arrays themselves."
            )
        raise TypeError(
            f"the model returns a {name}, in which JAX does not see the arrays: register it, for a "
            f"dataclass by `jax.tree_util.register_dataclass({name})`, else by "
            f"`jax.tree_util.register_pytree_node({name}, ...)`; or return its arrays."
        )


def _holds_tracer(value: Any, met: dict[int, Any]) -> bool:
    if isinstance(value, Tracer):
        return True
    if isinstance(value, _PLAIN) or id(value) in met:
        return False
    met[id(value)] = value
    return any(_holds_tracer(inner, met) for inner in _inside(value))


def _inside(value: Any) -> Iterator[Any]:
    """What an object refers to, as far as Python shows it."""
    if isinstance(value, types.FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_set(cell))
        yield from value.__defaults__ or ()
    elif isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, Iterable) and hasattr(value, "__len__") and not hasattr(value, "dtype"):
        yield from value
    yield from getattr(value, "__dict__", {}).values()
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                yield getattr(value, slot)


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
