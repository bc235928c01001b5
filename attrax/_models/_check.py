"""Does a model compute the same while it is read?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from . import _program
from ._adapters import as_model
from ._model import Model, Static, divide
from ._tracing import Traced, traced

_SEEN = 1024


def check(model: Any, *inputs: Any, **kwargs: Any) -> None:
    """Compare the program of a model as attrax reads it with `model(*inputs)`.

    Reading calls every module with tapped arrays. A model that looks at more than values (whether
    two objects are the same, which function a class holds) may take another branch for that. The
    model is traced once as it is read and once as it runs, and both programs are compared operation
    by operation. Only where they differ, both are run, and their outputs compared: to 1e-4 of the
    largest, in float32 or wider.

    It runs by itself the first time that a model is read at given shapes, for one more trace of it
    and no computation; a plain function counts as read before if another one was that differs from
    it in nothing but the values of arrays.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with; for `jax.ShapeDtypeStruct` random numbers stand in.
        **kwargs: further arguments of the model.

    Raises:
        ValueError: the outputs differ. The message names the first layer where they do.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> attrax.check(lambda x: jax.nn.relu(attrax.tap("h", 2 * x)), jnp.ones(3))
    """
    model = as_model(model)
    arrays, static = divide((model.weights, inputs, kwargs))
    verify(model, traced(model, arrays, static), arrays, static)


class Seen:
    """What was verified, but for the values of its arrays."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._keys

    def add(self, key: Hashable) -> None:
        """From now on this was verified."""
        with self._lock:
            self._keys[key] = None
            if len(self._keys) > _SEEN:
                self._keys.popitem(last=False)


def verify(model: Model, found: Traced, arrays: Sequence[Any], static: Static) -> None:
    """Raise if the program of a model as it was read is not what the model computes."""
    plain = traced(model, arrays, static, tapped=False)
    where = _program.difference(found.program, plain.program)
    same = found.outputs == plain.outputs
    if where is None and same:
        return
    if same and _agree(found, plain, arrays):
        return
    where = where or _program.Difference((), "output")
    raise ValueError(
        "the model computes something else while attrax reads it: the first difference is at "
        f"`{where.operation}` in {_place(where.path)}. It looks at more than the values of its "
        "arrays, such as whether two of them are the same object, or it is not the same at every "
        "call. Make that part depend on values and shapes only."
    )


def _place(path: tuple[str, ...]) -> str:
    return f"the layer {'/'.join(path)!r}" if path else "the model itself, outside of its layers"


def _agree(found: Traced, plain: Traced, arrays: Sequence[Any]) -> bool:
    with jax.ensure_compile_time_eval():
        rng = np.random.default_rng(0)
        given = [_concrete(a, rng) for a in arrays]
        held = {id(c): _concrete(c, rng) for t in (found, plain) for c in t.program.consts}
        ours, theirs = (
            _program.run(
                _program.strip(t.program.jaxpr), [*(held[id(c)] for c in t.program.consts), *given]
            )
            for t in (found, plain)
        )
    return all(map(_close, ours, theirs))


def _concrete(leaf: Any, rng: np.random.Generator) -> Any:
    """The array, or one of its kind for a shape or a tracer."""
    if not isinstance(leaf, (Tracer, jax.ShapeDtypeStruct)):
        return leaf
    if not isinstance(leaf.dtype, np.dtype):
        return jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else jax.random.key(0)
    if jax.numpy.issubdtype(leaf.dtype, np.inexact):
        return jax.numpy.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _close(one: Any, two: Any) -> bool:
    if (one.shape, one.dtype) != (two.shape, two.dtype):
        return False
    if not jax.numpy.issubdtype(one.dtype, np.inexact):
        return one is two or not isinstance(one.dtype, np.dtype) or bool((one == two).all())
    kind = np.complex128 if jax.numpy.issubdtype(one.dtype, np.complexfloating) else np.float64
    one, two = np.asarray(one, kind), np.asarray(two, kind)
    largest = np.max(np.abs(two), initial=0.0, where=np.isfinite(two))
    return np.allclose(one, two, rtol=0, atol=1e-4 * largest, equal_nan=True)
