"""Flax NNX modules as models.

NNX has no interceptors. While a model is read, the methods of all NNX classes are wrapped (for this
thread, under a lock), each on the class that defines it. The path of each module travels with it as
a static attribute, so that it survives `nnx.scan`, `nnx.jit` and `nnx.remat`, where modules are
taken apart and built again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .._core._types import Array, PyTree
from . import _program
from ._adapters import adapter_for
from ._advice import shapes_explained
from ._fixed import snapshot
from ._model import Model, copied, divide
from ._reading import cached, key_of
from ._taps import is_array, is_opaque, is_reading, running_path, tap_call

_PATH = "_attrax_path"
_lock = threading.RLock()


def from_nnx(
    module: Any,
    *,
    updates: str = "refuse",
    rngs: Mapping[str, Array | int] | nnx.Rngs | None = None,
) -> Model:
    """A Flax NNX module as a `Model`: `model(x) = module(x)`.

    The model is a value: it holds the variables and the mode (`eval`, `train`) that the module has
    now. Training steps and `module.eval()` do not change it: call `from_nnx` again.

    Each call starts from these variables. What it writes to them is dropped if it does not depend
    on the input (the count of a dropout stream, a counter of calls, normalised weights).

    Args:
        module: an `nnx.Module`, unmodified, or a bound method of one (`module.encode`).
        updates: what to do where the module writes something that does depend on the input (batch
            statistics, a decode cache): `"refuse"`, or `"discard"` to drop that, too.
        rngs: keys or seeds of random streams by name, as in `from_linen`: `{"dropout": key}`. Each
            stream of that name starts anew from the key. `default` stands for all other streams;
            and where the module has default streams only, so does any one name.
            Without it a stream goes on from where it stands in the module, the same at each call.

    Returns:
        A `Model` whose weights are the state of the module, as `nnx.split` gives it. The outputs
        and inputs of all submodules can be addressed by their paths: `blocks/0/conv`,
        `blocks/0/conv:in`, `encoder.encode`. A module that is shared has the path that comes first,
        and its calls are counted: `table#0`, `table#1`.

    Raises:
        ValueError: `updates` is neither of the two words, or the module has no stream of a name in
            `rngs`; on a call, when what it writes to a variable depends on the input (batch norm
            in training mode): such a model cannot be explained one example at a time.
        TypeError: `module` is no NNX module.

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
    method, owner = "__call__", module
    if inspect.ismethod(module):
        method, owner = module.__name__, module.__self__
    _check(owner, updates)
    graph, state = nnx.split(owner)
    state = copied(state)
    if rngs is not None:
        state = _reseeded(nnx.merge(graph, state), rngs)
    return Model(state, _Nnx(_Graph(graph, owner), method, updates == "discard"))


def _check(module: Any, updates: str) -> None:
    if updates not in ("refuse", "discard"):
        raise ValueError(f"`updates` must be 'refuse' or 'discard'; got {updates!r}.")
    if isinstance(module, nnx.Module):
        return
    if inspect.isclass(module):
        raise TypeError(
            f"`module` must be an NNX module; got the class {module.__name__}: write "
            f"from_nnx({module.__name__}(...))."
        )
    raise TypeError(
        f"`module` must be an NNX module; got {type(module).__name__}: {adapter_for(module)}."
    )


def _reseeded(module: Any, rngs: Mapping[str, Any] | nnx.Rngs) -> PyTree:
    """The state of a module with its random streams started anew."""
    streams = [node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngStream)]
    found = {stream.tag for stream in streams}
    keys = {
        name: jax.random.key(key) if isinstance(key, int) else key
        for name, key in ((name, rngs[name]) for name in rngs)
    }
    keys = {name: key() if isinstance(key, nnx.RngStream) else key for name, key in keys.items()}
    if "default" in found and len(rest := keys.keys() - found) == 1:
        keys["default"] = keys.pop(rest.pop())  # it stands for every name without a stream
    if unknown := sorted(keys.keys() - found - {"default"}):
        raise ValueError(
            f"`rngs` names the stream {unknown[0]!r}; the module has the streams {sorted(found)}."
        )
    for number, stream in enumerate(streams):
        key = keys.get(stream.tag, keys.get("default"))
        if key is None:
            continue
        key = jax.random.fold_in(key, number)  # streams of one name differ
        shape = stream.key[...].shape
        stream.key[...] = jax.random.split(key, shape) if shape else key
        stream.count[...] = jnp.zeros_like(stream.count[...])
    return nnx.state(module)


class _Graph:
    """The structure of a module, equal to one of the same classes and static values."""

    def __init__(self, graph: Any, module: Any):
        self.value, self.cls = graph, type(module)
        self.static = tuple(_static(module))
        self.key = self.now()

    def now(self) -> Hashable | None:
        """What it is made of now."""
        return snapshot(self.static)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Graph) or self.key is None:
            return self is other
        return self.key == other.key and self.value == other.value

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)


def _static(module: Any) -> Iterator[Any]:
    """The classes that occur in a module, and all that is no array."""
    classes = set()
    for _, value in nnx.iter_graph(module):
        if isinstance(value, (nnx.Pytree, nnx.Variable)):
            if type(value) not in classes:
                classes.add(type(value))
                yield type(value)
            continue
        for leaf in jax.tree.leaves(value, is_leaf=is_opaque):
            if not (isinstance(leaf, (nnx.Pytree, nnx.Variable)) or is_array(leaf)):
                yield leaf


@dataclass(frozen=True)
class _Nnx:
    graph: _Graph
    method: str
    discards: bool

    def fixed(self) -> Hashable | None:
        """What the program is made of now."""
        static = self.graph.now()
        return None if static is None else (self, static)

    is_written_by_users = True

    def __call__(self, state: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        result, after = self._run(state, *inputs, **kwargs)
        rewritten = [] if self.discards else _rewritten(state, after)
        if rewritten:
            self._refuse_updates(rewritten, state, inputs, kwargs)
        return result

    def _run(self, state: PyTree, *inputs: Any, **kwargs: Any) -> tuple[Any, Any]:
        # A copy of the variables, so that a change of one is seen here and stays here.
        module = nnx.merge(self.graph.value, jax.tree.map(lambda a: a, state))
        with shapes_explained(inputs, kwargs):
            result = getattr(module, self.method)(*inputs, **kwargs)
        return result, nnx.state(module)

    def _refuse_updates(self, paths: list[Any], state: Any, inputs: Any, kwargs: Any) -> None:
        """`nnx.scan` and `nnx.jit` write every variable back: does the input change what?"""

        def make(may_keep: bool):
            weights, structure = divide(state)
            given, static = divide((inputs, kwargs))

            def written(*arrays):
                inputs, kwargs = static.join(arrays[len(weights) :])
                state = structure.join(arrays[: len(weights)])
                after = _arrays(self._run(state, *inputs, **kwargs)[1])
                return [after[p] for p in paths]

            program = _program.trace(written, [jax.typeof(a) for a in [*weights, *given]])
            others = len(program.consts) + len(weights)
            inside = [False] * others + [True] * len(given)
            found = _program.depends(program.jaxpr, inside)
            return [p for p, d in zip(paths, found, strict=True) if d], may_keep

        changed = cached(self, key_of("updates", state, (inputs, kwargs)), make)
        if changed:
            names = ", ".join(_dotted(p) for p in sorted(changed, key=str)[:5])
            raise ValueError(
                f"the call changes the variables {names}, and how depends on the input: a model "
                "that updates its state cannot be explained one example at a time. Switch it to "
                "inference (`module.eval()`) and call `from_nnx` again; or, to explain each call "
                "from the state that it has now, write from_nnx(module, updates='discard')."
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


class _Active(threading.local):
    reader: _Reader | None = None


_active = _Active()


@contextlib.contextmanager
def tapped() -> Iterator[None]:
    """Tap what is called in this block; of nested blocks only the innermost taps."""
    outer, mine = _active.reader, _Reader()
    with _lock, contextlib.ExitStack() as undo:
        for cls in _classes() if outer is None else ():
            for name in _methods(cls):
                _wrap(cls, name, undo)
        _active.reader = mine
        try:
            yield
        finally:
            _active.reader = outer
            mine.unmark()


class _Reader:
    """What taps the calls of one reading.

    The path of a module is relative to the module that is called from outside. Where that happens
    inside of another module (one of Linen), the path of that module stands in front.
    """

    def __init__(self) -> None:
        self.roots = itertools.count()
        self.marked: list[Any] = []
        self.wrapped: dict[int, tuple[Any, str]] = {}
        self.running: list[tuple[str, int, str]] = []

    def mark(self, module: Any) -> str:
        """Write into each module under this one where it stands."""
        here = f"{next(self.roots)}|{'/'.join(running_path())}|"
        for path, child in nnx.iter_modules(module):
            mark = here + "/".join(map(str, path))
            if isinstance(child, nnx.bridge.ToNNX):  # its attributes are variables of Linen
                self.wrapped.setdefault(id(child), (child, mark))
            elif _PATH not in vars(child):  # one that is shared has the path that comes first
                object.__setattr__(child, _PATH, mark)
                self.marked.append(child)
        return here

    def unmark(self) -> None:
        for module in self.marked:
            vars(module).pop(_PATH, None)

    def call(self, original: Callable[..., Any], name: str, module: Any, args: Any, kwargs: Any):
        mark = vars(module).get(_PATH) or self.wrapped.get(id(module), (None, ""))[1]
        mark = mark or self.mark(module)
        root, prefix, path = mark.split("|")
        this = (root, id(module), name)
        # `super().__call__`; and what is called from outside has no name of its own
        is_again = bool(self.running) and self.running[-1] == this
        is_first = not path and all(other != root for other, _, _ in self.running)
        self.running.append(this)
        try:
            if is_again or is_first:
                return original(module, *args, **kwargs)
            parts = tuple(part for part in f"{prefix}/{path}".split("/") if part)
            function = functools.partial(original, module)
            return tap_call(parts, name, is_opaque, function, args, kwargs)
        finally:
            self.running.pop()


def _classes() -> list[type]:
    """All classes of NNX modules, and those that they inherit methods from."""
    found, waiting = set(), [nnx.Module]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            if cls not in found:
                found.add(cls)
                waiting.append(cls)
    known = set(nnx.Module.__mro__)
    return list({base for cls in found for base in cls.__mro__ if base not in known})


def _methods(cls: type) -> list[str]:
    """Methods that this class defines, other than those of `nnx.Module` itself."""
    known = set(dir(nnx.Module))
    return [
        name
        for name, attribute in vars(cls).items()
        if name == "__call__" or not (name.startswith("_") or name in known)
        if _is_method(attribute)
    ]


def _is_method(attribute: Any) -> bool:
    """A function, or what `nnx.jit` and its like make of one: not what is called without `self`."""
    without = (type, staticmethod, classmethod, functools.partial)
    binds = hasattr(type(attribute), "__get__")
    return callable(attribute) and binds and not isinstance(attribute, without)


def _wrap(cls: type, name: str, undo: contextlib.ExitStack) -> None:
    attribute = vars(cls)[name]
    original = getattr(cls, name)

    @functools.wraps(original)
    def wrapped(self, *args, **kwargs):
        reader = _active.reader
        if reader is None or not is_reading() or not isinstance(self, nnx.Module):
            return original(self, *args, **kwargs)
        return reader.call(original, name, self, args, kwargs)

    setattr(cls, name, wrapped)
    undo.callback(setattr, cls, name, attribute)
