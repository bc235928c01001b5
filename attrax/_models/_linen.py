"""Flax Linen modules as models: while one is read, every call of a submodule is tapped."""

from __future__ import annotations

import contextlib
import inspect
import re
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
from flax import errors
from flax.core import DenyList

from .._core._types import PyTree
from ._adapters import adapter_for
from ._advice import advise, shapes_explained
from ._fixed import Fixed, snapshot
from ._model import Model, Static, copied, copied_in_order, divide
from ._taps import is_opaque, is_reading, next_generation, running_path, tap_call


def from_linen(
    module: nn.Module, variables: PyTree, *, updates: str = "refuse", **apply_kwargs: Any
) -> Model:
    """A Flax Linen module and its variables as a `Model`: `model(x) = module.apply(variables, x)`.

    The model is a value: what is done to `variables` later does not change it.

    Args:
        module: any Linen module, unbound and unmodified.
        variables: all its collections, as `init` returns them.
        updates: what to do where the module writes to its variables (batch statistics, a decode
            cache, a counter). `"refuse"` leaves the error to Flax; `"discard"` lets it write and
            forgets what it wrote: each call starts from `variables`.
        **apply_kwargs: further arguments of `apply` and of the module: `train=False`, `method=...`,
            `rngs=...`. Arrays among them are leaves of the model.

    Returns:
        A `Model` whose weights are `variables`. The outputs and inputs of all submodules can be
        addressed by their paths: `block3/conv`, `block3/conv:in`, `encoder.encode`.

    Raises:
        ValueError: `mutable` is given: a model that changes its variables lets the examples of a
            batch influence each other; `updates` is neither of the two words; `variables` holds
            the parameters without the collection `params` around them.
        TypeError: `module` is not a Linen module, or `variables` does not hold collections.

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
    _check(module, variables, updates)
    arrays, static = divide(copied_in_order(apply_kwargs))
    return Model((copied(variables), arrays), _Linen(Fixed(module), static, updates == "discard"))


def _check(module: Any, variables: Any, updates: str) -> None:
    if updates not in ("refuse", "discard"):
        raise ValueError(f"`updates` must be 'refuse' or 'discard'; got {updates!r}.")
    if inspect.isclass(module):
        raise TypeError(
            f"`module` must be an instance of a Linen module; got the class {module.__name__}: "
            f"write from_linen({module.__name__}(...), variables)."
        )
    if inspect.ismethod(module) and isinstance(module.__self__, nn.Module):
        method = module.__name__
        option = "" if method in ("apply", "init", "__call__") else f", method={method!r}"
        raise TypeError(
            f"`module` must be a Linen module; got its method {method!r}: write "
            f"from_linen(module, variables{option})."
        )
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`module` must be a Linen module; got {type(module).__name__}: {adapter_for(module)}."
        )
    if not isinstance(variables, Mapping):
        raise TypeError(
            "`variables` must be the collections that `init` returns, such as {'params': ...}; got "
            f"{type(variables).__name__}."
        )
    if variables and "params" not in variables and _are_params(variables):
        raise ValueError(
            f"`variables` has no collection 'params', but the entries {sorted(variables)[:5]}: "
            "write {'params': variables}. If these are collections, add an empty one, "
            "{'params': {}, **variables}."
        )


_NUMBERED = re.compile(r".*_\d+")  # as Linen names submodules: `Dense_0`, `layers_2`
_OF_FLAX = {"kernel", "bias", "scale", "embedding"}  # what the layers of Flax call parameters


def _are_params(variables: Mapping[str, Any]) -> bool:
    """Whether these are parameters by module, not collections by name."""
    if not any(isinstance(value, Mapping) for value in variables.values()):
        return True
    return any(_NUMBERED.fullmatch(str(name)) for name in variables) or _holds(variables, _OF_FLAX)


def _holds(tree: Any, names: Set[str]) -> bool:
    """Whether a name stands anywhere in nested mappings."""
    if not isinstance(tree, Mapping):
        return False
    return any(name in names or _holds(value, names) for name, value in tree.items())


_INFERENCE = (
    "Switch the module to inference: `attrax.from_linen(module, variables, train=False)`, or "
    "whatever its own switch is, such as `deterministic=True` or `use_running_average=True`."
)
_UPDATES = f"{_INFERENCE} To drop what it writes instead, add `updates='discard'`."
_RANDOM = f"{_INFERENCE} To draw random numbers instead, add `rngs={{'dropout': key}}`."
_MISSING = (
    errors.ScopeCollectionNotFound,
    errors.ScopeVariableNotFoundError,
    errors.ScopeParamNotFoundError,
)


@contextlib.contextmanager
def _explained(variables: Mapping[str, Any]) -> Iterator[None]:
    """Say how to call the adapter where Flax says what the module lacks."""
    try:
        yield
    except errors.ModifyScopeVariableError as error:
        advise(error, _UPDATES)
        raise
    except errors.InvalidRngError as error:
        advise(error, _RANDOM)
        raise
    except _MISSING as error:
        advise(
            error,
            f"`variables` has the collections {sorted(variables)[:5]}. Give `attrax.from_linen` "
            "all that `init` returns, such as {'params': ..., 'batch_stats': ...}.",
        )
        raise


@dataclass(frozen=True)
class _Linen:
    module: Fixed
    kwargs: Static
    discards: bool

    def __call__(self, weights: tuple[PyTree, Sequence[Any]], *inputs: Any, **kwargs: Any) -> Any:
        variables, arrays = weights
        given = {**self.kwargs.join(arrays), **kwargs}
        with shapes_explained(inputs, kwargs), _explained(variables):
            if not self.discards:
                return self.module.value.apply(variables, *inputs, **given)
            mutable = DenyList("params")
            return self.module.value.apply(variables, *inputs, mutable=mutable, **given)[0]

    def fixed(self) -> Hashable | None:
        """What the program is made of now."""
        return snapshot(self.module.value, self.kwargs, self.discards)

    is_written_by_users = True


class _Active(threading.local):
    reader: _Reader | None = None


_active = _Active()


@contextlib.contextmanager
def tapped() -> Iterator[None]:
    """Tap what is called in this block; of nested blocks only the innermost taps."""
    outer, mine = _active.reader, _Reader()
    _active.reader = mine
    try:
        with mine.generations, nn.intercept_methods(mine.intercept):
            yield
    finally:
        _active.reader = outer


class _Reader:
    """What taps the calls of one reading.

    Paths are relative to the module that `apply` was called on. Where that happens inside of
    another module (one of NNX, or another `apply`), the path of that module stands in front.
    """

    def __init__(self) -> None:
        self.generations = contextlib.ExitStack()
        self.running: tuple[int, str] | None = None
        self.prefix: tuple[str, ...] = ()
        self.prefixes: dict[int, tuple[Any, tuple[str, ...]]] = {}

    def intercept(self, call, args, kwargs, context):
        module, method = context.module, context.method_name
        if _active.reader is not self or not is_reading() or module.scope is None:
            return call(*args, **kwargs)
        if not method.isidentifier():
            # A lifted module (`nn.jit`, `nn.scan`, `nn.remat`) looks up its function by a lambda
            # just before it runs. From here on no earlier trace may be found again: `nn.jit` shares
            # one among all instances of a class, with the names of the first.
            self.generations.enter_context(next_generation())
            return call(*args, **kwargs)
        outer = self.running, self.prefix
        this = (id(module), method)
        self.running, self.prefix = this, self._prefix_of(module)
        try:
            if method == "setup" or (method == "__call__" and not module.path) or this == outer[0]:
                return call(*args, **kwargs)  # the last: `super().__call__`
            path = (*self.prefix, *module.path)
            return tap_call(path, method, is_opaque, call, args, kwargs)
        finally:
            self.running, self.prefix = outer

    def _prefix_of(self, module: nn.Module) -> tuple[str, ...]:
        assert module.scope is not None
        root = module.scope.root
        if id(root) not in self.prefixes:  # lifted modules have a root whose path goes on
            prefix = self.prefix if root.path else running_path()
            self.prefixes[id(root)] = root, prefix
        return self.prefixes[id(root)][1]
