"""Flax NNX modules as models.

NNX has no interceptors. While a model is read, the methods of the classes that occur in it are wrapped
(for this thread, under a lock); the path of each module travels with it as a static attribute, so that
it survives `nnx.scan`, `nnx.jit` and `nnx.remat`, where modules are taken apart and built again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from ._models import Model, tap_inputs
from ._taps import Label, bind_tap, is_reading
from ._types import PyTree

_PATH = "_attrax_path"
_lock = threading.RLock()
_active = threading.local()


def from_nnx(module: Any) -> Model:
    """A Flax NNX module as a `Model`: `model(x) = module(x)`.

    Args:
        module: an `nnx.Module`, unmodified, or a bound method of one (`module.encode`).

    Returns:
        A `Model` whose weights are the state of the module, as `nnx.split` gives it. The outputs and
        inputs of all submodules can be addressed by their paths: `blocks/0/conv`, `blocks/0/conv:in`,
        `encoder.encode`.

    Raises:
        ValueError: on a call, when it changes a variable (batch norm in training mode, a dropout
            stream): such a model cannot be explained one example at a time.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> from flax import nnx
        >>> module = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu)
        >>> attrax.layers(attrax.from_nnx(module), jnp.ones(3))
        layer     shape  dtype
        --------  -----  -------
        layers/0  (4,)   float32
        relu#0    (4,)   float32
    """
    method = "__call__"
    if inspect.ismethod(module):
        method, module = module.__name__, module.__self__
    graph, state = nnx.split(module)
    return Model(state, _Nnx(graph, method))


@dataclass(frozen=True)
class _Nnx:
    graph: Any
    method: str

    def __call__(self, state: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        # A copy of the variables, so that a change of one is seen here and stays here.
        module = nnx.merge(self.graph, jax.tree.map(lambda a: a, state))
        if not is_reading():
            result = getattr(module, self.method)(*inputs, **kwargs)
        else:
            with _tapped(module, self.method):
                result = getattr(module, self.method)(*inputs, **kwargs)
        _check_unchanged(state, nnx.state(module))
        return result


def _check_unchanged(before: Any, after: Any) -> None:
    old = dict(nnx.to_flat_state(before))
    changed = [
        ".".join(map(str, path))
        for path, variable in nnx.to_flat_state(after)
        if not isinstance(variable, nnx.Intermediate)
        and (path not in old or _value(old[path]) is not _value(variable))
    ]
    if changed:
        raise ValueError(
            f"the call changes the variables {', '.join(changed[:5])}: a model that updates its state "
            "cannot be explained one example at a time. Switch it to inference first "
            "(`module.eval()`)."
        )


def _value(variable: Any) -> Any:
    return jax.tree.leaves(variable)[0] if jax.tree.leaves(variable) else None


@contextlib.contextmanager
def _tapped(module: Any, method: str):
    for path, child in nnx.iter_modules(module):
        if not hasattr(child, _PATH):
            setattr(child, _PATH, "/".join(map(str, path)))
    setattr(module, _PATH, "")
    classes = {type(child) for _, child in nnx.iter_modules(module)}
    with _lock, contextlib.ExitStack() as undo:
        for cls in classes:
            for name in _methods(cls):
                _wrap(cls, name, undo)
        outer = getattr(_active, "method", None)
        _active.method = method
        try:
            yield
        finally:
            _active.method = outer


def _methods(cls: type) -> list[str]:
    """Methods that the user's classes define, not those of `nnx.Module` itself."""
    known = set(dir(nnx.Module))
    return [
        name
        for name, value in inspect.getmembers(cls, inspect.isfunction)
        if name == "__call__" or not (name.startswith("_") or name in known)
        if not isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod))
    ]


def _wrap(cls: type, name: str, undo: contextlib.ExitStack) -> None:
    original, own = getattr(cls, name), name in vars(cls)

    @functools.wraps(original)
    def wrapped(self, *args, **kwargs):
        path = getattr(self, _PATH, None)
        entry = getattr(_active, "method", None)
        if path is None or entry is None or not is_reading() or (not path and name == entry):
            return original(self, *args, **kwargs)
        parts = tuple(path.split("/")) if path else ()
        label = Label("module", parts, "" if name == "__call__" else f".{name}")
        args, kwargs = tap_inputs(label, args, kwargs)
        return bind_tap(label, original(self, *args, **kwargs))

    setattr(cls, name, wrapped)
    undo.callback(lambda: setattr(cls, name, original) if own else delattr(cls, name))
