"""Flax NNX modules as models.

NNX has no interceptors. While a model is read, the methods of the classes that occur in it are
wrapped (for this thread, under a lock); the path of each module travels with it as a static
attribute, so that it survives `nnx.scan`, `nnx.jit` and `nnx.remat`, where modules are taken apart
and built again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .._core._types import PyTree
from ._model import Model, divide, hashable, unwrapped
from ._program import copies, trace
from ._reading import cached
from ._taps import is_numpy, is_reading, tap_call

_PATH = "_attrax_path"
_lock = threading.RLock()
_active = threading.local()


def from_nnx(module: Any) -> Model:
    """A Flax NNX module as a `Model`: `model(x) = module(x)`.

    Args:
        module: an `nnx.Module`, unmodified, or a bound method of one (`module.encode`).

    Returns:
        A `Model` whose weights are the state of the module, as `nnx.split` gives it. The outputs
        and inputs of all submodules can be addressed by their paths: `blocks/0/conv`,
        `blocks/0/conv:in`, `encoder.encode`. A module that is shared has the path that comes first,
        and its calls are counted: `table#0`, `table#1`.

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
    return Model(state, _Nnx(hashable(graph), method))


@dataclass(frozen=True)
class _Nnx:
    graph: Any
    method: str

    def __call__(self, state: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        result, after = self._run(state, *inputs, **kwargs)
        rewritten = _rewritten(state, after)
        if rewritten:
            self._check_copies(rewritten, state, inputs, kwargs)
        return result

    def _run(self, state: PyTree, *inputs: Any, **kwargs: Any) -> tuple[Any, Any]:
        # A copy of the variables, so that a change of one is seen here and stays here.
        module = nnx.merge(unwrapped(self.graph), jax.tree.map(lambda a: a, state))
        if not is_reading():
            return getattr(module, self.method)(*inputs, **kwargs), nnx.state(module)
        with _tapped(module, self.method):
            return getattr(module, self.method)(*inputs, **kwargs), nnx.state(module)

    def _check_copies(self, paths: list[Any], state: Any, inputs: Any, kwargs: Any) -> None:
        """`nnx.scan` and `nnx.jit` write every variable back: is what they write what they read?"""
        arrays, static = divide((state, inputs, kwargs))

        def make():
            def written(*arrays):
                state, inputs, kwargs = static.join(arrays)
                before, after = _arrays(state), _arrays(self._run(state, *inputs, **kwargs)[1])
                return [after[p] for p in paths], [before.get(p, jnp.zeros(())) for p in paths]

            found = copies(trace(written, [jax.typeof(a) for a in arrays]).jaxpr)
            after, before = found[: len(paths)], found[len(paths) :]
            changed = [a is None or a != b for a, b in zip(after, before, strict=True)]
            return [p for p, c in zip(paths, changed, strict=True) if c], True

        changed = sorted(
            cached(("unchanged", self, static, tuple(map(jax.typeof, arrays))), make), key=str
        )
        if changed:
            raise ValueError(
                f"the call changes the variables {', '.join(_dotted(p) for p in changed[:5])}: "
                "a model that updates its state cannot be explained one example at a time. Switch "
                "it to inference first (`module.eval()`)."
            )


def _dotted(path: Any) -> str:
    return ".".join(map(str, path[:-1]))


def _arrays(state: Any) -> dict[Any, Any]:
    """The arrays of all variables by path, but for what was sown."""
    return {
        (*path, i): leaf
        for path, variable in nnx.to_flat_state(state)
        if not isinstance(variable, nnx.Intermediate)
        for i, leaf in enumerate(jax.tree.leaves(variable))
    }


def _rewritten(before: Any, after: Any) -> list[Any]:
    old = _arrays(before)
    return [path for path, leaf in _arrays(after).items() if old.get(path) is not leaf]


@contextlib.contextmanager
def _tapped(module: Any, method: str):
    seen: set[int] = set()  # a module that is shared has the path that comes first
    for path, child in nnx.iter_modules(module):
        if id(child) not in seen:
            seen.add(id(child))
            setattr(child, _PATH, "/".join(map(str, path)))
    setattr(module, _PATH, "")
    classes = {type(child) for _, child in nnx.iter_modules(module)}
    with _lock, contextlib.ExitStack() as undo:
        for cls in sorted(classes, key=lambda cls: len(cls.__mro__)):
            for name in _methods(cls):
                _wrap(cls, name, undo)
        outer = getattr(_active, "entry", None)
        _active.entry = _Entry(method)
        try:
            yield
        finally:
            _active.entry = outer


class _Entry:
    """The method of the whole module that is being read, and the call that runs."""

    def __init__(self, method: str):
        self.method = method
        self.running: tuple[int, str] | None = None


def _methods(cls: type) -> list[str]:
    """Methods that the user's classes define, not those of `nnx.Module` itself."""
    known = set(dir(nnx.Module))
    return [
        name
        for name in dir(cls)
        if name == "__call__" or not (name.startswith("_") or name in known)
        if _is_method(inspect.getattr_static(cls, name))
    ]


def _is_method(attribute: Any) -> bool:
    """A function, or what `nnx.jit` and its like make of one."""
    return callable(attribute) and not isinstance(attribute, (type, staticmethod, classmethod))


def _is_opaque(value: Any) -> bool:
    """What NNX tracks by identity must reach a method as it is, not taken apart and copied."""
    return isinstance(value, (nnx.Object, nnx.Variable)) or is_numpy(value)


def _wrap(cls: type, name: str, undo: contextlib.ExitStack) -> None:
    original, own = getattr(cls, name), name in vars(cls)

    @functools.wraps(original)
    def wrapped(self, *args, **kwargs):
        path, entry = getattr(self, _PATH, None), getattr(_active, "entry", None)
        if path is None or entry is None or not is_reading() or (not path and name == entry.method):
            return original(self, *args, **kwargs)
        this = (id(self), name)
        if entry.running == this:  # `super().__call__`, or a method that is inherited
            return original(self, *args, **kwargs)
        outer, entry.running = entry.running, this
        try:
            parts = tuple(path.split("/")) if path else ()
            function = functools.partial(original, self)
            return tap_call(parts, name, _is_opaque, function, args, kwargs)
        finally:
            entry.running = outer

    setattr(cls, name, wrapped)
    undo.callback(lambda: setattr(cls, name, original) if own else delattr(cls, name))
