"""Any callable as a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._core._checks import ADAPTERS
from ._advice import shapes_explained
from ._model import Model, Static, copied, divide


@dataclass(frozen=True)
class _Function:
    """The program of a plain function (no arrays) or of a callable pytree (its arrays)."""

    static: Static

    def __call__(self, weights: Sequence[Any], *inputs: Any, **kwargs: Any) -> Any:
        with shapes_explained(inputs, kwargs):
            return self.static.join(weights)(*inputs, **kwargs)


def as_model(anything: Any) -> Model:
    """See any callable as a `Model`: a function, a callable pytree, a bound Linen or NNX module.

    The arrays of a callable pytree become the model's weights. A Linen module must be bound, or be
    given with its variables to `from_linen`.

    A module becomes a value: training it later does not change the model. A plain function, or an
    object that is no pytree, is what it is at each call: it is traced anew each time. Under
    `jax.jit` it is traced once, and what it closes over becomes a constant of the program: pass
    weights as arguments, or as a callable pytree.

    Args:
        anything: a `Model` (returned as it is), `flax.nnx.Module` or a bound method of one, bound
            `flax.linen.Module`, `jax.tree_util.Partial`, or any other callable.

    Returns:
        The model. The same object gives an equal static program each time, so that a jitted
        function of it is not traced again.

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
    owner = getattr(anything, "__self__", anything)
    if _is_module(owner, "flax.linen"):
        return _of_linen(anything, owner)
    if _is_module(owner, "flax.nnx"):
        from ._nnx import from_nnx

        return from_nnx(anything)
    _refuse(anything)
    weights, static = divide(anything)
    return Model(copied(weights), _Function(static))


def _is_module(value: Any, package: str) -> bool:
    found = sys.modules.get(package)
    return found is not None and isinstance(value, found.Module)


def _of_linen(anything: Any, module: Any) -> Model:
    if anything is not module:
        method = anything.__name__
        option = "" if method in ("apply", "init", "__call__") else f", method={method!r}"
        raise TypeError(
            "a method of a Linen module has no weights of its own: write attrax.from_linen(module, "
            f"variables{option})."
        )
    if module.scope is None:
        raise TypeError(
            f"the Linen module {type(module).__name__} has no variables of its own: "
            "write attrax.from_linen(module, variables)."
        )
    from ._linen import from_linen

    return from_linen(*module.unbind())


def _refuse(anything: Any) -> None:
    name = anything.__name__ if isinstance(anything, type) else type(anything).__name__
    for package, adapter in ADAPTERS.items():
        found = sys.modules.get(package)
        if found and isinstance(anything, type) and issubclass(anything, found.Module):
            raise TypeError(f"{name} is a class: make a module of it, and write {adapter}.")
    if callable(anything):
        return
    raise TypeError(f"a model must be callable; got {name}: {adapter_for(anything)}.")


def adapter_for(value: Any) -> str:
    """What to write for a value that is not what an adapter takes."""
    if _is_module(value, "flax.linen"):
        return "write from_linen(module, variables)"
    if _is_module(value, "flax.nnx"):
        return "write from_nnx(module)"
    if hasattr(value, "apply_fn") and hasattr(value, "params"):
        return (
            "write from_linen(module, {'params': state.params}), or a function that calls "
            "`state.apply_fn`"
        )
    if callable(value):
        return "a function needs no adapter, see as_model"
    return "give a Flax module, or a function of the inputs"


def is_of_users(program: Any) -> bool:
    """Whether users wrote a program; False for one that attrax derived from another."""
    return isinstance(program, _Function) or hasattr(program, "is_written_by_users")
