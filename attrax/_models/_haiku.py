"""Haiku functions as models: while any function is read, every call of a Haiku module is tapped."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

from .._core._types import Array, PyTree
from ._advice import shapes_explained
from ._fixed import Same
from ._model import Model, copied
from ._taps import is_opaque, is_reading, tap_call


def from_haiku(
    transformed: Any, params: PyTree, state: PyTree | None = None, *, rng: Array | None = None
) -> Model:
    """A function under `hk.transform` and its parameters: `model(x) = apply(params, rng, x)`.

    Modules are addressed by their paths, without the `~` that Haiku writes for what is
    made in a constructor: `mlp/linear_0`.

    Args:
        transformed: what `hk.transform` or `hk.transform_with_state` returns.
        params: the parameters that `init` returns.
        state: the state that `init` returns, for `hk.transform_with_state`. Each call starts from
            it, and what a call changes in it is dropped.
        rng: a key for functions that draw random numbers.

    Returns:
        A `Model` whose weights are `(params, state, rng)`.
    """
    return Model((copied(params), copied(state), rng), _Haiku(Same(transformed.apply)))


@dataclass(frozen=True)
class _Haiku:
    apply: Same

    is_written_by_users = True

    def __call__(self, weights: Any, *inputs: Any, **kwargs: Any) -> Any:
        params, state, rng = weights
        with shapes_explained(inputs, kwargs):
            if state is None:
                return self.apply.value(params, rng, *inputs, **kwargs)
            return self.apply.value(params, state, rng, *inputs, **kwargs)[0]


class _Active(threading.local):
    reader: object = None


_active = _Active()


@contextlib.contextmanager
def tapped():
    """Tap what is called in this block; of nested blocks only the innermost taps."""
    import haiku as hk  # pyright: ignore[reportMissingImports]

    outer, mine = _active.reader, object()
    running: list[tuple[int, str]] = []

    def intercept(call, args, kwargs, context):
        this = (id(context.module), context.method_name)
        inside = _active.reader is mine and is_reading() and context.method_name != "__init__"
        if not inside or (running and running[-1] == this):  # the last: `super().__call__`
            return call(*args, **kwargs)
        running.append(this)
        try:
            path = tuple(p for p in context.module.module_name.split("/") if p != "~")
            return tap_call(path, context.method_name, is_opaque, call, args, kwargs)
        finally:
            running.pop()

    _active.reader = mine
    try:
        with hk.intercept_methods(intercept):
            yield
    finally:
        _active.reader = outer
