"""Checks made while tracing: structure, shapes and dtypes always, values never.

Each function returns what it was given, ready for use, or raises with a message that quotes what
it found and, where it is not obvious, how to put it right.
"""

import operator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ._types import Array, Certified, Estimate, PyTree, ScalarFn

T = TypeVar("T")


def floating(x: PyTree, name: str = "x") -> PyTree:
    """`x` as arrays, all of them floating."""
    if isinstance(x, (Estimate, Certified)):
        fields = f"{type(x).__name__}({', '.join(x._fields)})"
        raise TypeError(f"`{name}` must hold values alone; got {fields}. Pass its `.value`.")
    leaves = jax.tree.leaves(x)
    if not leaves:
        raise ValueError(f"`{name}` holds no array.")
    for leaf in leaves:
        dtype = _dtype(leaf, name)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"`{name}` must be floating; got {dtype}. There is no gradient with respect to "
                "integers such as token ids: cut the model at its embedding layer with "
                "`attrax.cut(model, ids, at=...)` and explain the embedding."
            )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, _dtype(leaf, name)), x)


def like(value: PyTree, x: PyTree, name: str = "baseline") -> PyTree:
    """`value` with the dtypes of `x`, provided that structure, shapes and kind are those of `x`."""
    found, expected = jax.tree.structure(value), jax.tree.structure(x)
    if found != expected:
        raise ValueError(
            f"`{name}` must have the structure of `x`; got {found} against {expected}."
        )
    for leaf, model in zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=True):
        shape, dtype = jnp.shape(leaf), _dtype(leaf, name)
        if shape != model.shape:
            hint = " For one constant use `jnp.full_like(x, constant)`." if shape == () else ""
            raise ValueError(
                f"`{name}` must have the shapes of `x`; got {shape} against {model.shape}.{hint}"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be floating, as `x` is; got {dtype} against {model.dtype}."
            )
    return jax.tree.map(lambda leaf, model: jnp.asarray(leaf, model.dtype), value, x)


def baseline_like(baseline: PyTree | None, x: PyTree) -> PyTree:
    """`baseline` checked against `x`; None is zeros."""
    if baseline is None:
        return jax.tree.map(jnp.zeros_like, x)
    return like(baseline, x, "baseline")


def scalar_valued(fn: ScalarFn, name: str = "`fn`") -> ScalarFn:
    """`fn`, raising when what it returns is not one real floating number."""

    def checked(x: PyTree) -> Array:
        value = fn(x)
        if not jax.tree_util.all_leaves([value]):
            raise ValueError(
                f"{name} must return a scalar; got a {type(value).__name__}. Return one score, "
                "such as `attrax.scores.logit(i)(outputs)`."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"{name} must return a scalar; got shape {jnp.shape(value)}. Choose one output "
                "with a score, such as `attrax.scores.logit(i)`, and map over a batch with "
                "`jax.vmap`."
            )
        if not jnp.issubdtype(_dtype(value, "fn"), jnp.floating):
            raise ValueError(f"{name} must return a floating scalar; got {_dtype(value, 'fn')}.")
        return jnp.asarray(value)

    return checked


def count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """`value` as a Python int between `least` and `most`."""
    if isinstance(value, Tracer):
        raise TypeError(f"`{name}` decides shapes and must be a Python int; got a traced value.")
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


def shapes(tree: PyTree) -> str:
    """The shapes of all arrays, for a message."""
    return ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))
