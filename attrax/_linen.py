"""Flax Linen modules as models: while one is read, every call of a submodule is tapped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from ._models import Model, Same, Static, divide, tap_inputs
from ._taps import Label, bind_tap, is_reading, next_generation
from ._types import PyTree


def from_linen(module: nn.Module, variables: PyTree, **apply_kwargs: Any) -> Model:
    """A Flax Linen module and its variables as a `Model`: `model(x) = module.apply(variables, x)`.

    Args:
        module: any Linen module, unbound and unmodified.
        variables: all its collections, as `init` returns them.
        **apply_kwargs: further arguments of `apply` and of the module: `train=False`, `method=...`,
            `rngs=...`. Arrays among them are leaves of the model.

    Returns:
        A `Model` whose weights are `variables`. The outputs and inputs of all submodules can be
        addressed by their paths: `block3/conv`, `block3/conv:in`, `encoder.encode`.

    Raises:
        ValueError: `mutable` is given: a model that changes its variables lets the examples of a
            batch influence each other.

    Example:
        >>> import attrax, flax.linen as nn, jax, jax.numpy as jnp
        >>> module = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
        >>> x = jnp.ones(3)
        >>> model = attrax.from_linen(module, module.init(jax.random.key(0), x))
        >>> attrax.layers(model, x)
        layer     shape  dtype
        --------  -----  -------
        layers_0  (4,)   float32
        relu#0    (4,)   float32
        layers_2  (2,)   float32
    """
    if apply_kwargs.get("mutable"):
        raise ValueError(
            f"`mutable` must not be given, got {apply_kwargs['mutable']!r}: a model that updates "
            "its variables (batch norm in training mode) cannot be explained one example at a time."
        )
    arrays, static = divide(apply_kwargs)
    return Model((variables, arrays), _Linen(Same(module), static))


@dataclass(frozen=True)
class _Linen:
    module: Same
    kwargs: Static

    def __call__(self, weights: tuple[PyTree, Sequence[Any]], *inputs: Any, **kwargs: Any) -> Any:
        variables, arrays = weights
        given = {**self.kwargs.join(arrays), **kwargs}
        with _tapped():
            return self.module.value.apply(variables, *inputs, **given)


@contextlib.contextmanager
def _tapped():
    if not is_reading():
        yield
        return
    with contextlib.ExitStack() as generations, nn.intercept_methods(_interceptor(generations)):
        yield


def _interceptor(generations: contextlib.ExitStack):
    def intercept(call, args, kwargs, context):
        method, path = context.method_name, context.module.path
        if not method.isidentifier():
            # A lifted module (`nn.jit`, `nn.scan`, `nn.remat`) looks up its function by a lambda
            # just before it runs. From here on no earlier trace may be found again: `nn.jit` shares
            # one among all instances of a class, with the names of the first.
            generations.enter_context(next_generation())
            return call(*args, **kwargs)
        if method == "setup" or (method == "__call__" and not path):
            return call(*args, **kwargs)
        label = Label("module", tuple(path), "" if method == "__call__" else f".{method}")
        args, kwargs = tap_inputs(label, args, kwargs)
        return bind_tap(label, call(*args, **kwargs))

    return intercept
