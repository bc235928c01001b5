"""Flax Linen modules as models: while one is read, every call of a submodule is tapped."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from .._core._types import PyTree
from ._model import Model, Static, divide, hashable, unwrapped
from ._taps import is_numpy, is_reading, next_generation, tap_call


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
    return Model((variables, arrays), _Linen(hashable(module), static))


@dataclass(frozen=True)
class _Linen:
    module: Any
    kwargs: Static

    def __call__(self, weights: tuple[PyTree, Sequence[Any]], *inputs: Any, **kwargs: Any) -> Any:
        variables, arrays = weights
        given = {**self.kwargs.join(arrays), **kwargs}
        with _tapped():
            return unwrapped(self.module).apply(variables, *inputs, **given)


_active = threading.local()


@contextlib.contextmanager
def _tapped():
    """Tap what is called in this block; of blocks in one another only the innermost taps."""
    if not is_reading():
        yield
        return
    outer, mine = getattr(_active, "reader", None), _Reader()
    _active.reader = mine
    try:
        with mine.generations, nn.intercept_methods(mine.intercept):
            yield
    finally:
        _active.reader = outer


class _Reader:
    def __init__(self) -> None:
        self.generations = contextlib.ExitStack()
        self.running: tuple[int, str] | None = None

    def intercept(self, call, args, kwargs, context):
        if _active.reader is not self:
            return call(*args, **kwargs)
        method, path = context.method_name, context.module.path
        if not method.isidentifier():
            # A lifted module (`nn.jit`, `nn.scan`, `nn.remat`) looks up its function by a lambda
            # just before it runs. From here on no earlier trace may be found again: `nn.jit` shares
            # one among all instances of a class, with the names of the first.
            self.generations.enter_context(next_generation())
            return call(*args, **kwargs)
        this = (id(context.module), method)
        if method == "setup" or (method == "__call__" and not path) or this == self.running:
            return call(*args, **kwargs)  # the last: `super().__call__`
        outer, self.running = self.running, this
        try:
            return tap_call(tuple(path), method, is_numpy, call, args, kwargs)
        finally:
            self.running = outer
