"""What a function is made of, as a value: two that are equal compute the same.

A program that was traced may be used again only if the function it was traced from has not changed.
`snapshot` looks at all that the function can see: fields, closures, defaults, and the globals that
its code names. Numbers, strings and containers of them are copied, so that a later change makes the
next snapshot another one. An array, or anything whose inside cannot be seen, has no snapshot: what
depends on it is traced anew.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import sys
import threading
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

# Their code does not depend on what users assign; their objects compare by value.
_TRUSTED = {
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "optax",
    "attrax",
    "builtins",
    *sys.stdlib_module_names,
} - {"__main__"}
_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis))
_SMALL = 1 << 12  # bytes of a NumPy array that is copied
# What a bound module of Linen knows of the call that runs.
_OF_LINEN = {"parent", "scope", "_state", "_id", "_parent_ref"}
_DEEP = 150  # a chain of objects longer than this is not followed


class Same:
    """Any object as a static value, equal only to itself."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Fixed:
    """An object as a static value, equal to those that were made of the same things.

    What it was made of is looked at once, when it becomes a static value. An object that may change
    unseen is equal only to itself.
    """

    def __init__(self, value: Any):
        self.value = value
        found = snapshot(value)
        self.key: Hashable = Same(value) if found is None else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.value)


class _Changeable(Exception):
    """Something that may change unseen."""


def snapshot(*of: Any, values: bool = True) -> Hashable | None:
    """A hashable copy of what these values are made of, or None if something may change unseen.

    Without `values` an array counts as its shape and dtype.
    """
    try:
        return _Walk(values).all(of)
    except _Changeable:
        return None


def _is_trusted(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _TRUSTED


class _Walk:
    """One walk over values; what was met before is a number."""

    def __init__(self, values: bool) -> None:
        self.values = values
        self.met: dict[int, int] = {}
        self.alive: list[Any] = []
        self.depth = 0

    def all(self, values: Any) -> tuple[Hashable, ...]:
        return tuple(self(value) for value in values)

    def __call__(self, value: Any) -> Hashable:
        if isinstance(value, _PLAIN):
            return type(value), value
        if isinstance(value, (float, complex, np.generic, np.dtype)):
            return type(value), repr(value)  # -0.0 and nan
        if id(value) in self.met:
            return "met before", self.met[id(value)]
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        self.depth += 1
        if self.depth > _DEEP:
            raise _Changeable
        found = self._composed(value)
        self.depth -= 1
        return found

    def _composed(self, value: Any) -> Hashable:
        if not self.values and hasattr(value, "shape") and hasattr(value, "dtype"):
            return "array", value.shape, str(value.dtype)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, type):
            return Same(value), self.all(self._of_class(value))
        if isinstance(value, (Same, Fixed)):  # what it is made of now
            return self(value.value)
        if isinstance(value, (list, tuple, collections.deque)):
            return Same(type(value)), self.all(value), self._beside(value)
        if isinstance(value, (set, frozenset)):
            return Same(type(value)), frozenset(self.all(value)), self._beside(value)
        if isinstance(value, Mapping):
            return (
                Same(type(value)),
                self.all(itertools.chain(*value.items())),
                self._beside(value),
            )
        if isinstance(value, jax.tree_util.PyTreeDef):
            return self._structure(value)
        if isinstance(value, types.FunctionType):
            return value.__code__, self.all(self._of_function(value)), self._beside(value)
        if isinstance(value, functools.partial):
            return "partial", self.all((value.func, value.args, value.keywords))
        if isinstance(value, types.MethodType):
            return "method", self.all((value.__func__, value.__self__))
        return self._object(value)

    def _beside(self, value: Any) -> Hashable:
        """Attributes of a container or of a function."""
        if _is_trusted(type(value).__module__) and not isinstance(value, types.FunctionType):
            return ()
        return self.all(itertools.chain(*sorted(getattr(value, "__dict__", {}).items())))

    def _array(self, value: np.ndarray) -> Hashable:
        if value.nbytes > _SMALL or value.dtype.hasobject:
            raise _Changeable
        return value.shape, value.dtype, value.tobytes()

    def _structure(self, tree: Any) -> Hashable:
        if jax.tree_util.treedef_is_leaf(tree):
            return "leaf"
        kind, data = tree.node_data() or (None, None)
        children = tuple(self._structure(child) for child in tree.children())
        return Same(kind), self(data), children

    def _of_class(self, cls: type) -> Iterator[Any]:
        """The methods and attributes of a class that users wrote."""
        for base in cls.__mro__:
            if _is_trusted(base.__module__):
                continue
            for name, attribute in vars(base).items():
                if not name.startswith("__") or _is_written(attribute):
                    yield name
                    yield _unbound(attribute)

    def _of_function(self, function: types.FunctionType) -> Iterator[Any]:
        yield function.__defaults__
        yield function.__kwdefaults__
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a variable that is assigned later
                raise _Changeable from None
        if not _is_trusted(function.__globals__.get("__name__")):
            yield from self._globals(function)

    def _globals(self, function: types.FunctionType) -> Iterator[Any]:
        names = set(_names(function.__code__))
        # `config.scale`, `package.config.scale`, and what is imported inside of the function.
        spaces = [function.__globals__]
        spaces += [vars(sys.modules[n]) for n in sorted(names & sys.modules.keys())]
        for space in spaces:
            if space is not function.__globals__ and _is_trusted(space.get("__name__")):
                continue
            for name in sorted(names & space.keys()):
                value = space[name]
                if not isinstance(value, types.ModuleType):
                    yield name
                    yield value
                elif all(vars(value) is not known for known in spaces):
                    spaces.append(vars(value))

    def _object(self, value: Any) -> Hashable:
        if isinstance(value, types.ModuleType):
            return self._trusted(value, value.__name__)
        if isinstance(value, types.BuiltinFunctionType):
            owner = getattr(value, "__self__", None)  # a module; of `counts.get` a dict
            return self._trusted(value, getattr(owner, "__name__", ""))
        if isinstance(value, enum.Enum):
            return Same(value)
        if isinstance(value, (threading.local, contextvars.ContextVar)):
            raise _Changeable
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            if isinstance(value, jax.ShapeDtypeStruct):
                return _by_value(value)
            raise _Changeable
        if isinstance(value, (jax.custom_jvp, jax.custom_vjp)):  # the function and its rules
            return Same(type(value)), self.all(itertools.chain(*sorted(vars(value).items())))
        inner = getattr(value, "__wrapped__", None)
        if inner is not None and _is_trusted(type(value).__module__):  # `jax.jit`
            return Same(type(value)), self(inner)
        if _has_slots(type(value)):
            raise _Changeable
        if dataclasses.is_dataclass(value):
            fields = [f.name for f in dataclasses.fields(value)]
            names = {*fields, *getattr(value, "__dict__", {})} - _OF_LINEN
            found = [(name, getattr(value, name)) for name in sorted(names) if hasattr(value, name)]
        elif _is_by_value(value):
            return _by_value(value)
        elif hasattr(value, "__dict__"):
            found = sorted(vars(value).items())
        else:
            raise _Changeable
        return self(type(value)), self.all(itertools.chain(*found))

    def _trusted(self, value: Any, module: str) -> Hashable:
        if not _is_trusted(module):
            raise _Changeable
        return Same(value)


def _has_slots(cls: type) -> bool:
    """Whether a class that users wrote keeps values where `vars` does not show them."""
    return any(
        vars(base).get("__slots__") for base in cls.__mro__ if not _is_trusted(base.__module__)
    )


def _is_written(attribute: Any) -> bool:
    """Whether a special method was written by a user, and not made by `dataclasses`."""
    return (
        isinstance(attribute, types.FunctionType) and attribute.__code__.co_filename != "<string>"
    )


def _is_by_value(value: Any) -> bool:
    """Objects of JAX and of Python itself, such as a mesh, a lock or a logger."""
    module = type(value).__module__
    if isinstance(value, types.SimpleNamespace) or not _is_trusted(module):
        return False
    return not (module.startswith("flax") and hasattr(value, "__dict__"))


def _by_value(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        raise _Changeable from None
    return Same(type(value)), value


def _unbound(attribute: Any) -> Any:
    if isinstance(attribute, (staticmethod, classmethod)):
        return attribute.__func__
    if isinstance(attribute, property):
        return attribute.fget, attribute.fset
    if isinstance(attribute, functools.cached_property):
        return attribute.func
    if isinstance(attribute, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        return attribute.__name__  # a slot
    return attribute


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that a function's code looks up, and those of the functions defined in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
