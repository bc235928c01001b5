"""Checks made while tracing: structure, shapes and dtypes always, values never.

Each function returns what it was given, ready for use, or raises with a message that quotes what
it found and, where it is not obvious, how to put it right.
"""

import contextlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._types import Array, Certified, Estimate, PyTree, ScalarFn, cast_like, wide_dtype

T = TypeVar("T")


def floating(x: PyTree, name: str = "x") -> PyTree:
    """`x` as arrays, all of them floating."""
    _refuse_results(x, name)
    leaves = jax.tree.leaves(x)
    if not leaves:
        raise ValueError(f"`{name}` holds no array.")
    for leaf in leaves:
        dtype = _dtype(leaf, name)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"`{name}` must be floating; got {dtype}. {_remedy(dtype, name)}")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, _dtype(leaf, name)), x)


def _refuse_results(x: PyTree, name: str) -> None:
    """Raises where a method's result stands in place of its values, at any depth."""
    for node in jax.tree.leaves(x, is_leaf=_is_result):
        if _is_result(node):
            raise TypeError(
                f"`{name}` must hold arrays only; got {_described(node)}. Pass its `.value`."
            )


def _is_result(node: Any) -> bool:
    return isinstance(node, (Estimate, Certified))


def _described(value: Any) -> str:
    """The type of `value` for a message; of a named tuple with its fields."""
    fields = getattr(value, "_fields", None)
    name = type(value).__name__
    return f"a {name}" if fields is None else f"{name}({', '.join(fields)})"


def _remedy(dtype: Any, name: str) -> str:
    """What to do about arrays that have no gradient, by their dtype and by what they are."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (
            "Take its real and imaginary parts as two arrays, as in "
            "`lambda parts: fn(parts[0] + 1j * parts[1])` of `(z.real, z.imag)`."
        )
    if not jnp.issubdtype(dtype, jnp.integer):
        return f"Convert it, as in `jnp.asarray({name}, jnp.float32)`."
    if name not in ("x", "xs"):
        return f"Convert it, as in `jnp.asarray({name}, jnp.float32)`."
    if dtype == jnp.uint8:
        return (
            "Convert a picture as the model expects it, such as "
            f"`jnp.asarray({name}, jnp.float32) / 255`."
        )
    return (
        "There is no gradient with respect to integers. If they are token ids: cut the model at "
        "its embedding layer with `attrax.cut(model, ids, at=...)` and explain the embedding. If "
        f"they are measurements: convert them, as in `jnp.asarray({name}, jnp.float32)`."
    )


def one_array(value: Any, name: str) -> Array:
    """`value` as one floating array."""
    _refuse_results(value, name)
    if not jax.tree_util.all_leaves([value]):
        raise ValueError(
            f"`{name}` must be one array; got {_described(value)}. Choose one of its arrays, or "
            "map over them with `jax.tree.map`."
        )
    return floating(value, name)


def wide(value: Any, name: str) -> Array:
    """`value` as one floating array, in float32 or wider."""
    array = one_array(value, name)
    return array.astype(wide_dtype(array.dtype))


def leading_axis(tree: PyTree, names: str) -> int:
    """The length of the leading axis that all arrays of `tree` share, 1 or more.

    `names` says whose arrays they are: "`xs` and `aux`".
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    n = shapes[0][0] if shapes and shapes[0] else 0
    if not n or any(shape[:1] != (n,) for shape in shapes):
        raise ValueError(
            f"{names} must have one leading axis of the same length, 1 or more; got "
            f"{'shapes ' + ', '.join(map(str, shapes)) if shapes else 'no array'}."
        )
    return n


def fitting(value: PyTree, x: PyTree, name: str) -> PyTree:
    """`value` as floating arrays, in their own dtypes, with the structure and shapes of `x`."""
    _refuse_results(value, name)
    same_structure(value, x, name)
    for leaf, model in zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=True):
        shape, dtype = jnp.shape(leaf), _dtype(leaf, name)
        if shape != model.shape:
            hint = " For one constant use `jnp.full_like(x, constant)`." if shape == () else ""
            raise ValueError(
                f"`{name}` must have the shapes of `x`; got {shape} against {model.shape}.{hint}"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be floating, as `x` is; got {dtype} against {model.dtype}. "
                f"Convert it, as in `jnp.asarray({name}, x.dtype)`."
            )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, _dtype(leaf, name)), value)


def like(value: PyTree, x: PyTree, name: str) -> PyTree:
    """`value` with the structure, shapes and dtypes of `x`."""
    return cast_like(fitting(value, x, name), x)


def same_structure(value: PyTree, other: PyTree, name: str, other_name: str = "x") -> None:
    """Raises unless both are pytrees of one structure."""
    found, expected = jax.tree.structure(value), jax.tree.structure(other)
    if found != expected:
        raise ValueError(
            f"`{name}` must have the structure of `{other_name}`; got {found} against {expected}."
        )


def baseline_like(baseline: PyTree | None, x: PyTree) -> PyTree:
    """`baseline` checked against `x`; None is zeros."""
    if baseline is None:
        return jax.tree.map(jnp.zeros_like, x)
    return like(baseline, x, "baseline")


def scalar_valued(fn: ScalarFn, name: str = "`fn`") -> ScalarFn:
    """`fn`, raising when what it returns is not one real floating number."""
    function(fn, name)
    _refuse_unbound(fn, name)

    def checked(x: PyTree) -> Array:
        with _naming_adapter(fn):
            value = fn(x)
        if not jax.tree_util.all_leaves([value]):
            raise ValueError(
                f"{name} must return a scalar; got a {type(value).__name__}. Return one score, "
                f"as in `{_scored(fn)}`."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"{name} must return a scalar; got shape {jnp.shape(value)}. Choose one output "
                f"with a score, as in `{_scored(fn)}`. Wrap a model that has a batch axis of its "
                "own, `attrax.unbatched(model)`; map over a batch with `jax.vmap`."
            )
        if not jnp.issubdtype(_dtype(value, "fn"), jnp.floating):
            raise ValueError(f"{name} must return a floating scalar; got {_dtype(value, 'fn')}.")
        return jnp.asarray(value)

    return checked


# What makes a model of a module, by the library of the module: looked up where that is loaded.
ADAPTERS = {
    "flax.linen": "attrax.from_linen(module, variables)",
    "flax.nnx": "attrax.from_nnx(module)",
}


def _owner(fn: Any) -> Any:
    """The object whose method `fn` is; `fn` itself where it is none."""
    return fn.__self__ if inspect.ismethod(fn) else fn


def _adapter_of(fn: Any) -> str | None:
    """What makes a model of a module of Flax, of a method of one, or of a class of them."""
    owner = _owner(fn)
    cls = owner if isinstance(owner, type) else type(owner)
    for package, adapter in ADAPTERS.items():
        library = sys.modules.get(package)
        if library is not None and issubclass(cls, library.Module):
            return adapter
    return None


def _scored(fn: Any) -> str:
    """How to follow `fn` with a score."""
    adapter = _adapter_of(fn)
    if adapter is not None:
        return f"{adapter}.then(attrax.scores.logit(i))"
    if hasattr(fn, "then"):
        return "model.then(attrax.scores.logit(i))"
    return "lambda x: attrax.scores.logit(i)(model(x))"


def _refuse_unbound(fn: Any, name: str) -> None:
    """Raises for what has no weights: a class of modules, a Linen module without variables."""
    adapter, owner = _adapter_of(fn), _owner(fn)
    if adapter is None:
        return
    if isinstance(owner, type):
        raise TypeError(
            f"{name} must be a function of `x`; got the class {owner.__name__}. Make a module of "
            f"it, and write `{_scored(fn)}`."
        )
    if getattr(owner, "scope", fn) is None:
        raise TypeError(
            f"{name} must be a function of `x`; got {type(owner).__name__}, a Linen module that "
            f"has no variables of its own. Write `{_scored(fn)}`."
        )


@contextlib.contextmanager
def _naming_adapter(fn: Any) -> Iterator[None]:
    """Say what makes a model of a module of Flax, where calling it as it is fails."""
    try:
        yield
    except Exception as error:
        if _adapter_of(fn) is not None:
            error.add_note(f"To explain a module of Flax write `{_scored(fn)}`.")
        raise


def function(value: Any, name: str) -> Callable[..., Any]:
    """`value`, provided that it can be called."""
    if not callable(value):
        hint = ""
        if isinstance(value, int | np.integer):
            hint = f" For the output of class {value} pass `attrax.scores.logit({value})`."
        raise TypeError(f"{name} must be a function; got {value!r}.{hint}")
    return value


def count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """`value` as a Python int between `least` and `most`."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"`{name}` determines shapes, so it must be a Python int; got a traced value."
        )
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an int; got {value!r}.")
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}; got {number}.")
    if most is not None and number > most:
        raise ValueError(f"`{name}` must be at most {most}; got {number}.")
    return number


def instance(value: Any, cls: type[T], name: str, hint: str) -> T:
    """`value`, provided that it is a `cls`; `hint` shows how to make one."""
    if not isinstance(value, cls):
        raise TypeError(f"`{name}` must be a {cls.__name__}, {hint}; got {value!r}.")
    return value


def random_key(key: Array | None, owner: str) -> Array:
    """`key`, provided that there is one."""
    if key is None:
        raise ValueError(f"`{owner}` is random: pass `key=jax.random.key(...)`.")
    return key


def axis_of(axis: int, ndim: int, name: str = "axis") -> int:
    """`axis` counted from the front."""
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise ValueError(f"`{name}` must lie in [{-ndim}, {ndim}) here; got {index}.")
    return index % ndim


def _dtype(leaf: Any, name: str) -> Any:
    try:
        return jnp.result_type(leaf)
    except TypeError:
        raise TypeError(f"`{name}` must hold arrays; got {type(leaf).__name__}.") from None
