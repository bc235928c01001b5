"""Traces of models: with every call of a module tapped, and as they are."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _program
from ._containers import in_order, key_orders
from ._fixed import Same
from ._hidden import refuse_hidden_arrays
from ._model import Model, Static, divide
from ._taps import not_reading, reading


class Traced(NamedTuple):
    """The raw program of a model at given shapes, a function of the arrays of (weights, inputs)."""

    program: _program.Program
    outputs: Static


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


def with_arrays(result: Any) -> Any:
    """An output with its numbers as arrays."""
    return in_order(jax.tree.map(_as_array, result), key_orders(result))


# Libraries whose modules are named wherever they are called, and what taps them.
_TAPPED = {"flax.linen": "._linen", "flax.nnx": "._nnx", "haiku": "._haiku"}


@contextlib.contextmanager
def _named_modules() -> Iterator[None]:
    """Name the calls of the modules of every library that is loaded."""
    with contextlib.ExitStack() as stack:
        for library, adapter in _TAPPED.items():
            if library in sys.modules:
                stack.enter_context(importlib.import_module(adapter, __package__).tapped())
        yield


def traced(model: Model, arrays: Sequence[Any], static: Static, *, tapped: bool = True) -> Traced:
    """The program of a model, with its taps or as it runs when nobody looks."""
    outputs = []

    def flat(*arrays):
        weights, inputs, kwargs = static.join(arrays)
        with contextlib.ExitStack() as stack:
            for block in (reading(), _named_modules()) if tapped else (not_reading(),):
                stack.enter_context(block)
            result = model.program(weights, *inputs, **kwargs)
        refuse_hidden_arrays(result)
        leaves, rest = divide(with_arrays(result))
        outputs[:] = [rest]
        return leaves

    program = _program.trace(flat, [aval_of(a) for a in arrays])
    return Traced(program, outputs[0])
