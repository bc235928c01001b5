"""Any callable as a model."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ._model import Model, Static, copied, divide, unwrapped


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
    return Model(copied(weights), _Function(static))


def code_of(program: Any) -> Hashable | None:
    """What users wrote of a program; None for one that attrax derived from another."""
    if not isinstance(program, _Function):
        return program.code if hasattr(program, "code") else None
    values = [unwrapped(rest.value) for rest in program.static.rest if rest is not None]
    function = values[0] if values else program.static.structure
    function = getattr(function, "func", function)  # of a partial
    function = getattr(function, "__func__", function)  # of a method
    return getattr(function, "__code__", type(function))
