"""Models: callable pytrees whose weights are leaves, and the cache of their traced programs."""

from __future__ import annotations

import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from . import _program
from ._taps import is_array, is_reading, reading
from ._types import PyTree


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["program"]
)
@dataclass(frozen=True, eq=False)
class Model:
    """A function with its weights: `model(*inputs) = program(weights, *inputs)`.

    A pytree: the weights are leaves, the program is static. Pass a model as an argument of a jitted
    function and its weights are inputs of the compiled program, never constants in it.
    """

    weights: PyTree
    program: Callable[..., Any]

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.program(self.weights, *inputs, **kwargs)


class Same:
    """Any object as a static value, equal only to itself (Linen modules may be unhashable)."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def divide(tree: PyTree) -> tuple[list[Any], Static]:
    """The arrays of a pytree, and everything else."""
    leaves, structure = jax.tree.flatten(tree)
    rest = tuple(None if is_array(leaf) else _constant(leaf) for leaf in leaves)
    return [leaf for leaf in leaves if is_array(leaf)], Static(structure, rest)


class _Constant(NamedTuple):
    """A static value that is not equal to one of another type: 1, 1.0 and True differ."""

    kind: type
    text: str
    value: Any


def _constant(value: Any) -> _Constant:
    text = repr(value) if isinstance(value, (float, complex)) else ""  # -0.0 and nan
    return _Constant(type(value), text, hashable(value))


def hashable(value: Any) -> Any:
    """The value, or if it cannot be hashed a `Same` that holds it."""
    try:
        hash(value)
    except TypeError:
        return Same(value)
    return value


class Static(NamedTuple):
    """What `divide` leaves of a pytree when its arrays are taken out."""

    structure: Any
    rest: tuple[_Constant | None, ...]

    def join(self, arrays: Sequence[Any]) -> PyTree:
        remaining = iter(arrays)
        leaves = [next(remaining) if rest is None else unwrapped(rest.value) for rest in self.rest]
        return jax.tree.unflatten(self.structure, leaves)


def unwrapped(value: Any) -> Any:
    """The value of a `Same`."""
    return value.value if isinstance(value, Same) else value


@dataclass(frozen=True)
class _Function:
    """The program of a plain function (no arrays) or of a callable pytree (its arrays)."""

    static: Static

    def __call__(self, weights: Sequence[Any], *inputs: Any, **kwargs: Any) -> Any:
        return self.static.join(weights)(*inputs, **kwargs)


def as_model(anything: Any) -> Model:
    """See any callable as a `Model`: a function, a callable pytree, a bound Linen or NNX module.

    The arrays of a callable pytree become the model's weights. A Linen module must be bound, or be
    given with its variables to `from_linen`.

    What a plain function closes over belongs to its program: change it, and attrax, like `jax.jit`,
    may still find the program of before. Pass weights as arguments, or as a callable pytree.

    Args:
        anything: a `Model` (returned as it is), `flax.nnx.Module` or a bound method of one, bound
            `flax.linen.Module`, `jax.tree_util.Partial`, or any other callable.

    Returns:
        The model. The same object gives an equal static program each time, so that a second call
        finds the traces of the first.

    Raises:
        TypeError: `anything` is not callable, is a Linen module without variables, or a method of
            a Linen module.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> model = attrax.as_model(jax.tree_util.Partial(jnp.dot, jnp.array([1.0, 2.0])))
        >>> model(jnp.array([3.0, 4.0]))
        Array(11., dtype=float32)
    """
    if isinstance(anything, Model):
        return anything
    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if linen is not None and isinstance(anything, linen.Module):
        if anything.scope is None:
            raise TypeError(
                f"the Linen module {type(anything).__name__} has no variables of its own: "
                "write attrax.from_linen(module, variables)."
            )
        from ._linen import from_linen

        return from_linen(*anything.unbind())
    if linen is not None and isinstance(getattr(anything, "__self__", None), linen.Module):
        raise TypeError(
            "a method of a Linen module has no weights of its own: write attrax.from_linen(module, "
            f"variables, method={anything.__name__!r})."
        )
    if nnx is not None and isinstance(getattr(anything, "__self__", anything), nnx.Module):
        from ._nnx import from_nnx

        return from_nnx(anything)
    if not callable(anything):
        raise TypeError(f"a model must be callable; got {type(anything).__name__}.")
    weights, static = divide(anything)
    return Model(weights, _Function(static))


def _closes_over_modules(program: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    if nnx is None or not isinstance(program, _Function):
        return False
    functions = [unwrapped(c.value) for c in program.static.rest if c is not None]
    cells = [c for f in functions for c in getattr(f, "__closure__", None) or ()]
    return any(isinstance(cell.cell_contents, nnx.Module) for cell in cells)


# ------------------------------------------------------------------------------- traced programs


class Traced(NamedTuple):
    """The raw program of a model at given shapes, a function of the arrays of (weights, inputs)."""

    program: _program.Program
    outputs: Static


class Reading:
    """The program of a model in which every value is named, and what was derived from it."""

    def __init__(self, traced: Traced, axes: Mapping[str, Any] | None = None):
        self.program = _program.normalise(traced.program, axes)
        self.outputs = traced.outputs
        self.has_closures = _program.closes_over_values(traced.program.jaxpr)
        self.sites = list(_program.sites(self.program.jaxpr))
        self._derived: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def compiled(self, jaxpr: Any) -> Callable[..., list[Any]]:
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


def _context() -> Hashable:
    """All settings of JAX that a trace depends on, such as precision, meshes and mapped axes.

    JAX finds the same trace of `_probe` again exactly where they are the same.
    """
    prng = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
    return Same(_probe.trace().jaxpr), prng


def _aval(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, (bool, int, float, complex, np.generic)) else leaf


def _trace(model: Model, arrays: Sequence[Any], static: Static) -> Traced:
    outputs = []

    def flat(*arrays):
        weights, inputs, kwargs = static.join(arrays)
        with reading():
            result = model.program(weights, *inputs, **kwargs)
        leaves, rest = divide(jax.tree.map(_as_array, result))
        outputs[:] = [rest]
        return leaves

    program = _program.trace(flat, [_aval(a) for a in arrays])
    return Traced(program, outputs[0])


def read(
    model: Model, inputs: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Reading, list[Any]]:
    """The named program of a model at these inputs, and the arrays to run it with."""
    arrays, static = divide((model.weights, tuple(inputs), dict(kwargs)))

    def make():
        traced = _trace(model, arrays, static)
        # A constant that is a tracer belongs to the trace that is running, and to no other.
        keep = not any(isinstance(c, Tracer) for c in traced.program.consts)
        # An NNX module may have changed by the next call, and nothing here would notice.
        keep = keep and not _closes_over_modules(model.program)
        return Reading(traced), keep

    key = ("read", model.program, static, tuple(map(_aval, arrays)), _context())
    found = cached(key, make)
    return found, [*found.program.consts, *arrays]


# -------------------------------------------------------------------------------------- unbatched


def unbatched(model: Any, *, in_axes: int = 0) -> Model:
    """A model with a batch axis of its own, seen as a function of one example.

    `unbatched(model)(x) = model(x[None])[0]`. Which axis of an activation or output is the batch
    axis is found from the shapes at two batch sizes, not assumed; activations without one (position
    tables) are left alone.

    Args:
        model: anything that `as_model` takes.
        in_axes: where the batch axis of every input array stands, counted from the front.

    Returns:
        A `Model` of one example; its layers are addressed as before, without the batch axis.

    Raises:
        ValueError: `in_axes` is negative; on a call, when an output has no batch axis of its own;
            on cutting, when that activation mixes the batch with another axis.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = attrax.unbatched(lambda xs: xs.sum(axis=1))
        >>> model(jnp.array([1.0, 2.0]))
        Array(3., dtype=float32)
    """
    if in_axes < 0:
        raise ValueError(f"`in_axes` must count from the front; got {in_axes}.")
    model = as_model(model)
    return Model(model.weights, _Unbatched(model.program, in_axes))


@dataclass(frozen=True)
class _Unbatched:
    program: Callable[..., Any]
    axis: int

    def __call__(self, weights: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        inner = Model(weights, self.program)
        single = self._batch((inputs, kwargs), None)
        arrays, static = divide((weights, *single))
        if not is_reading():
            axes = self._out_axes(inner, (inputs, kwargs), arrays, static)
            result = self.program(weights, *single[0], **single[1])
            return jax.tree.unflatten(
                jax.tree.structure(result),
                [_squeeze(leaf, a) for leaf, a in zip(jax.tree.leaves(result), axes, strict=True)],
            )
        two, three = (read(inner, *self._batch((inputs, kwargs), n))[0] for n in (2, 3))
        found = Reading(_trace(inner, arrays, static), _batch_axes(two, three))
        leaves = _program.run(found.program.jaxpr, [*found.program.consts, *arrays])
        shapes = [[v.aval.shape for v in r.program.jaxpr.outvars] for r in (two, three)]
        axes = [_batch_axis(a, b) for a, b in zip(*shapes, strict=True)]
        return found.outputs.join(
            [_squeeze(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
        )

    def _batch(self, tree: PyTree, size: int | None) -> Any:
        """Give every array a batch axis: of size one, or as shapes of another size."""

        def convert(leaf):
            if not is_array(leaf):
                return leaf
            if size is None:
                return jnp.expand_dims(leaf, self.axis)
            shape = list(leaf.shape)
            shape.insert(self.axis, size)
            return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

        return jax.tree.map(convert, tree)

    def _out_axes(self, inner: Model, args: Any, arrays: Sequence[Any], static: Static) -> Any:
        def make():
            shapes = [
                jax.eval_shape(lambda w, i, k: self.program(w, *i, **k), inner.weights, *batch)
                for batch in (self._batch(args, 2), self._batch(args, 3))
            ]
            leaves = [jax.tree.leaves(s) for s in shapes]
            return [_batch_axis(a.shape, b.shape) for a, b in zip(*leaves, strict=True)], True

        key = ("axes", self, static, tuple(map(_aval, arrays)), _context())
        return cached(key, make)


def _batch_axis(two: Sequence[int], three: Sequence[int]) -> int | str | None:
    """The axis of size 2 at batch size 2 and of size 3 at batch size 3."""
    if len(two) == len(three):
        differ = [i for i, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
        if not differ:
            return None
        if len(differ) == 1 and (two[differ[0]], three[differ[0]]) == (2, 3):
            return differ[0]
    return f"the batch is not an axis of its own: {tuple(two)} at batch size 2, {tuple(three)} at 3"


def _batch_axes(two: Reading, three: Reading) -> dict[str, Any]:
    shapes = {s.label.names[0]: [a.shape for a in s.avals] for s in three.sites}
    axes: dict[str, Any] = {}
    for site in two.sites:
        name, here = site.label.names[0], [a.shape for a in site.avals]
        if name not in shapes or len(shapes[name]) != len(here):
            axes[name] = "the model runs other operations at another batch size"
            continue
        found = [_batch_axis(a, b) for a, b in zip(here, shapes[name], strict=True)]
        mixed = next((a for a in found if isinstance(a, str)), None)
        axes[name] = mixed or [
            _program.BatchAxis(tuple(1 if i == a else n for i, n in enumerate(shape)), a)
            for shape, a in zip(here, found, strict=True)
            if not isinstance(a, str)
        ]
    return axes


def _squeeze(leaf: Any, axis: int | str | None) -> Any:
    if isinstance(axis, str) or axis is None:
        raise ValueError(
            "`unbatched` takes a model whose outputs have one batch axis each; "
            + (axis or f"an output of shape {jnp.shape(leaf)} does not vary with the batch size")
            + "."
        )
    return jnp.squeeze(leaf, axis)
