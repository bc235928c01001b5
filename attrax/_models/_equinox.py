"""Pytrees of modules, such as those of Equinox, as models."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from ._model import Model, Static, copied, divide
from ._taps import is_opaque, is_reading, tap_call


def from_equinox(module: Any) -> Model:
    """A pytree of callable modules as a `Model`: `model(x) = module(x)`.

    For Equinox, and for any library whose modules are pytrees that are called; nothing of it is
    imported. A module is addressed by its place in the pytree: `layers/0`. One that JAX rebuilds
    during the call (layers under a scan) has no name of its own.

    Args:
        module: the outermost module. Switch it to inference first
            (`eqx.nn.inference_mode(module)`).

    Returns:
        A `Model` whose weights are the arrays of `module`.

    Raises:
        TypeError: `module` is not callable.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> module = jax.tree_util.Partial(lambda w, x: w * x, jnp.array([1.0, 2.0]))
        >>> attrax.from_equinox(module)(jnp.ones(2))
        Array([1., 2.], dtype=float32)
    """
    if not callable(module):
        raise TypeError(f"`module` must be callable; got {type(module).__name__}.")
    weights, static = divide(module)
    return Model(copied(weights), _Modules(static))


@dataclass(frozen=True)
class _Modules:
    static: Static
    is_written_by_users = True

    def __call__(self, weights: Sequence[Any], *inputs: Any, **kwargs: Any) -> Any:
        module = self.static.join(weights)
        if not is_reading():
            return module(*inputs, **kwargs)
        found = list(_inside(module, ()))
        # The objects are held in `found`, so that their identities stay theirs.
        paths = {id(inner): path for path, inner in reversed(found)}
        with _tapped({type(inner) for _, inner in found}, paths):
            return module(*inputs, **kwargs)


def _inside(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The callable pytrees inside of one, with their paths."""
    children, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda n: n is not node)
    for (key, *_), child in ((k, c) for k, c in children if k):
        if jax.tree_util.all_leaves([child]):
            continue
        here = (*path, str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", key)))))
        if callable(child):
            yield here, child
        yield from _inside(child, here)


@contextlib.contextmanager
def _tapped(classes: set[type], paths: dict[int, tuple[str, ...]]) -> Iterator[None]:
    """Tap the calls of these objects, by the classes that define `__call__`."""
    owners = {next(base for base in cls.__mro__ if "__call__" in vars(base)) for cls in classes}
    running: list[int] = []
    with contextlib.ExitStack() as undo:
        for owner in owners:
            original = vars(owner)["__call__"]
            type.__setattr__(owner, "__call__", _wrapped(original, paths, running))
            undo.callback(type.__setattr__, owner, "__call__", original)
        yield


def _wrapped(original: Any, paths: dict[int, tuple[str, ...]], running: list[int]) -> Any:
    @functools.wraps(original)
    def wrapped(self, *args, **kwargs):
        call = original.__get__(self, type(self))
        path = paths.get(id(self))
        if path is None or not is_reading() or id(self) in running:
            return call(*args, **kwargs)
        running.append(id(self))
        try:
            return tap_call(path, "__call__", is_opaque, call, args, kwargs)
        finally:
            running.pop()

    return wrapped
