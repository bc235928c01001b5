"""Readings: the traced program of a model in which every value is named, and their cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
from jax.core import Tracer

from .._core._types import PyTree
from . import _program
from ._adapters import is_of_users
from ._check import Seen, verify
from ._fixed import snapshot
from ._model import Model, divide
from ._tracing import Traced, aval_of, context, traced


class Reading:
    """The program of a model in which every value is named, and what was derived from it."""

    def __init__(self, traced: Traced, axes: _program.Axes | None = None, *, is_kept: bool = False):
        self.program = _program.normalise(traced.program, axes)
        self.outputs = traced.outputs
        self.has_closures = _program.closes_over_values(traced.program.jaxpr)
        self.sites = list(_program.sites(self.program.jaxpr))
        # JAX loses what a derivative rule closes over inside a nested jit; and a program that is
        # used once is not worth a compilation.
        self.is_compiled = is_kept and not self.has_closures
        self._derived: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def compiled(self, jaxpr: _program.Body) -> Callable[..., list[Any]]:
        """A piece of this program as a function: compiled once, and inlined where it is traced."""
        plain = _program.strip(jaxpr)
        return self.jitted(lambda *args: _program.run(plain, args))

    def jitted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function, inline=True) if self.is_compiled else function

    def derive(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Make something of this program once."""
        with self._lock:
            if key not in self._derived:
                self._derived[key] = make()
            return self._derived[key]


_CACHE_SIZE = 128


class Kept:
    """The last `_CACHE_SIZE` things that were made."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], tuple[Any, bool]]) -> Any:
        """Look up, or make; `make` says whether to keep."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        value, keep = make()
        if keep:
            with self._lock:
                value = self._found.setdefault(key, value)
                while len(self._found) > _CACHE_SIZE:
                    self._found.popitem(last=False)
        return value


_kept = Kept()


def cached(program: Any, key: Hashable, make: Callable[[bool], tuple[Any, bool]]) -> Any:
    """What was made of a program before, if it cannot have changed since; or make it.

    Only programs that say what they are made of are kept: those of adapters by `fixed`, and those
    that hold their own results (`kept`: tails, which cannot change). `make` is told whether what it
    makes may be kept, and says whether it is.
    """
    own = getattr(program, "kept", None)
    if own is not None:
        return own.get(key, lambda: make(True))
    fixed = fixed_of(program)
    if fixed is None or key is None:
        return make(False)[0]
    return _kept.get((fixed, key), lambda: make(True))


def fixed_of(program: Any) -> Hashable | None:
    """What a program is made of now; None for one that may change unseen, as a plain function."""
    return program.fixed() if hasattr(program, "fixed") else None


def key_of(kind: str, weights: PyTree, inputs: PyTree) -> Hashable | None:
    """What a program depends on besides the model, or None if that may change unseen."""
    (given, static), (arrays, structure) = divide(inputs), divide(weights)
    seen = snapshot(static)
    if seen is None:
        return None
    return kind, seen, structure, tuple(map(aval_of, [*arrays, *given])), context()


_seen = Seen()


def read(
    model: Model, inputs: Sequence[Any], kwargs: Mapping[str, Any], *, verified: bool = True
) -> tuple[Reading, list[Any]]:
    """The named program of a model at these inputs, and the arrays to run it with.

    The first time it is compared with what the model computes when it is not read.
    """
    arrays, static = divide((model.weights, tuple(inputs), dict(kwargs)))

    def make(may_keep: bool):
        found = traced(model, arrays, static)
        if verified and is_of_users(model.program):
            # What is kept is read once; of the rest this says whether the like of it was verified.
            shape = None if may_keep else snapshot((model.program, static), values=False)
            key = shape and (shape, tuple(map(aval_of, arrays)), context())
            if key is None or key not in _seen:
                verify(model, found, arrays, static)
            if key is not None:
                _seen.add(key)
        # A constant that is a tracer belongs to the trace that is running, and to no other; one
        # that is an array was closed over, and may be another one the next time.
        consts = _program.held_arrays(found.program)
        keep = may_keep and not any(isinstance(c, (Tracer, jax.Array)) for c in consts)
        return Reading(found, is_kept=keep), keep

    key = key_of("read", model.weights, (tuple(inputs), dict(kwargs)))
    found = cached(model.program, key, make)
    return found, [*found.program.consts, *arrays]
