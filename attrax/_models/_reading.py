"""Readings: the traced program of a model in which every value is named, and their cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from . import _program
from ._adapters import closes_over_modules
from ._model import Model, Same, Static, divide
from ._taps import reading


class Traced(NamedTuple):
    """The raw program of a model at given shapes, a function of the arrays of (weights, inputs)."""

    program: _program.Program
    outputs: Static


class Reading:
    """The program of a model in which every value is named, and what was derived from it."""

    def __init__(self, traced: Traced, axes: _program.Axes | None = None):
        self.program = _program.normalise(traced.program, axes)
        self.outputs = traced.outputs
        self.has_closures = _program.closes_over_values(traced.program.jaxpr)
        self.sites = list(_program.sites(self.program.jaxpr))
        self._derived: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def compiled(self, jaxpr: _program.Body) -> Callable[..., list[Any]]:
        """A piece of this program as a function: compiled once, and inlined where it is traced."""
        plain = _program.strip(jaxpr)
        if self.has_closures:  # JAX loses what a derivative rule closes over inside a nested jit
            return lambda *args: _program.run(plain, args)
        return jax.jit(lambda *args: _program.run(plain, args), inline=True)

    def derive(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Make something of this program once."""
        with self._lock:
            if key not in self._derived:
                self._derived[key] = make()
            return self._derived[key]


_CACHE_SIZE = 128


_cache: OrderedDict[Hashable, Any] = OrderedDict()


_lock = threading.RLock()


def cached(key: Hashable, make: Callable[[], tuple[Any, bool]]) -> Any:
    """Look up, or make and keep the last `_CACHE_SIZE`; `make` says whether to keep."""
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    value, keep = make()
    if keep:
        with _lock:
            value = _cache.setdefault(key, value)
            while len(_cache) > _CACHE_SIZE:
                _cache.popitem(last=False)
    return value


_probe = jax.jit(lambda: 0)


def context() -> Hashable:
    """All settings of JAX that a trace depends on, such as precision, meshes and mapped axes.

    JAX finds the same trace of `_probe` again exactly where they are the same.
    """
    prng = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
    return Same(_probe.trace().jaxpr), prng


def aval_of(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, (bool, int, float, complex, np.generic)) else leaf


def traced(model: Model, arrays: Sequence[Any], static: Static) -> Traced:
    outputs = []

    def flat(*arrays):
        weights, inputs, kwargs = static.join(arrays)
        with reading():
            result = model.program(weights, *inputs, **kwargs)
        leaves, rest = divide(jax.tree.map(_as_array, result))
        outputs[:] = [rest]
        return leaves

    program = _program.trace(flat, [aval_of(a) for a in arrays])
    return Traced(program, outputs[0])


def read(
    model: Model, inputs: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Reading, list[Any]]:
    """The named program of a model at these inputs, and the arrays to run it with."""
    arrays, static = divide((model.weights, tuple(inputs), dict(kwargs)))

    def make():
        found = traced(model, arrays, static)
        # A constant that is a tracer belongs to the trace that is running, and to no other.
        keep = not any(isinstance(c, Tracer) for c in found.program.consts)
        # An NNX module may have changed by the next call, and nothing here would notice.
        keep = keep and not closes_over_modules(model.program)
        return Reading(found), keep

    key = ("read", model.program, static, tuple(map(aval_of, arrays)), context())
    found = cached(key, make)
    return found, [*found.program.consts, *arrays]
