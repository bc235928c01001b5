"""Containers as JAX sees them, walked without building them anew.

`jax.tree.map` returns new containers: dicts with their keys sorted, and no longer the ones that
others write to. Here leaves are replaced where they stand, and dicts keep the order of their keys.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from .._core._types import PyTree

Change = Callable[[Any], Any]
Opaque = Callable[[Any], bool]

_DICTS = (dict, OrderedDict, defaultdict)


class Journal:
    """The leaves that were replaced inside of containers, to be put back."""

    def __init__(self) -> None:
        self._entries: list[tuple[Any, Any, Any, Any]] = []

    def replace(self, container: Any, key: Any, new: Any) -> None:
        old = _get(container, key)
        self._entries.append((container, key, old, new))
        _set(container, key, new)

    def undo(self) -> None:
        """Put back what still stands where it was put; what was written since stays."""
        for container, key, old, new in reversed(self._entries):
            for place in _places(container, key, new):
                _set(container, place, old)
        self._entries.clear()


def _get(container: Any, key: Any) -> Any:
    return container[key] if isinstance(container, (*_DICTS, list)) else getattr(container, key)


def _set(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, (*_DICTS, list)):
        container[key] = value
    else:
        setattr(container, key, value)


def _places(container: Any, key: Any, value: Any) -> list[Any]:
    if isinstance(container, list):  # others may have inserted in front
        return [i for i, item in enumerate(container) if item is value]
    held = container if isinstance(container, _DICTS) else vars(container)
    return [key] if key in held and held[key] is value else []


def replaced(tree: PyTree, change: Change, opaque: Opaque, journal: Journal | None) -> PyTree:
    """The containers of `tree` with `change(leaf)` for each leaf, in the order of `jax.tree`.

    With a journal, dicts, lists and objects whose fields may be assigned are changed where they
    stand; without one, they are copied.
    """
    if tree is None or opaque(tree):
        return tree
    if jax.tree_util.all_leaves([tree]):
        return change(tree)
    keys = _keys(tree)
    if keys is not None and journal is None:
        tree, journal = copy.copy(tree), Journal()
        inner: Journal | None = None
    else:
        inner = journal
    if keys is not None:
        assert journal is not None
        for key in keys:
            old = _get(tree, key)
            new = replaced(old, change, opaque, inner)
            if new is not old:
                journal.replace(tree, key, new)
        return tree
    return _rebuilt(tree, lambda child: replaced(child, change, opaque, journal))


def _keys(node: Any) -> Sequence[Any] | None:
    """Where the children of a mutable container stand, in the order of `jax.tree`."""
    if type(node) is list:
        return range(len(node))
    if type(node) in _DICTS:
        return list(node) if type(node) is OrderedDict else sorted(node)
    parameters = getattr(type(node), "__dataclass_params__", None)
    if isinstance(node, tuple) or (parameters is not None and parameters.frozen):
        return None
    if not dataclasses.is_dataclass(node):
        return None
    fields = list(vars(node).items())
    names = []
    for child in _children(node)[0]:
        place = next((i for i, (_, value) in enumerate(fields) if value is child), None)
        if place is None:
            return None
        names.append(fields.pop(place)[0])
    return names


def _children(node: Any) -> tuple[list[Any], Any]:
    return jax.tree_util.tree_flatten(node, is_leaf=lambda inner: inner is not node)


def _rebuilt(node: Any, change: Change) -> Any:
    """An immutable container with other children; itself if they are the same."""
    if _is_frozen_dict(node):
        new = {key: change(node[key]) for key in sorted(node)}
        same = all(new[key] is node[key] for key in node)
        return node if same else type(node)({key: new[key] for key in node})
    children, structure = _children(node)
    changed = [change(child) for child in children]
    if all(a is b for a, b in zip(children, changed, strict=True)):
        return node
    return jax.tree.unflatten(structure, changed)


def _is_frozen_dict(node: Any) -> bool:
    core = sys.modules.get("flax.core")
    return core is not None and type(node) is core.FrozenDict


def _is_dict(node: Any) -> bool:
    return type(node) in _DICTS or _is_frozen_dict(node)


def key_orders(tree: PyTree) -> tuple[tuple[Any, ...] | None, ...]:
    """The order of the keys of each dict; empty if `jax.tree` keeps all of them."""
    found = list(_orders(tree))
    return tuple(found) if any(order is not None for order in found) else ()


def _orders(node: Any) -> Iterator[tuple[Any, ...] | None]:
    if node is None or jax.tree_util.all_leaves([node]):
        return
    children = _children(node)[0]
    if _is_dict(node):
        keys = tuple(node)
        in_order = type(node) is OrderedDict or keys == tuple(sorted(keys))
        yield None if in_order else keys
    for child in children:
        yield from _orders(child)


def in_order(tree: PyTree, orders: Sequence[tuple[Any, ...] | None]) -> PyTree:
    """A tree that `jax.tree` has just built, its dicts in the order of `key_orders`."""
    return _arranged(tree, iter(orders)) if orders else tree


def with_leaves(tree: PyTree, leaves: Sequence[Any]) -> PyTree:
    """Other leaves in the structure of `tree`, dicts in its order."""
    return in_order(jax.tree.unflatten(jax.tree.structure(tree), leaves), key_orders(tree))


def _arranged(node: Any, orders: Iterator[tuple[Any, ...] | None]) -> Any:
    if node is None or jax.tree_util.all_leaves([node]):
        return node
    order = next(orders) if _is_dict(node) else None
    if (keys := _keys(node)) is not None:
        for key in keys:
            _set(node, key, _arranged(_get(node, key), orders))
        for key in order or ():
            node[key] = node.pop(key)
        return node
    node = _rebuilt(node, lambda child: _arranged(child, orders))
    return node if order is None else type(node)({key: node[key] for key in order})


def shown(tree: Any, leaves: Sequence[Any]) -> Any:
    """A description in the structure of a value, but without the classes that users define.

    Such a class may refuse to hold what is no array; its leaves become a tuple.
    """
    return jax.tree.unflatten(tree, leaves) if _is_builtin(tree) else tuple(leaves)


def _is_builtin(tree: Any) -> bool:
    if jax.tree_util.treedef_is_leaf(tree):
        return True
    kind = (tree.node_data() or (type(None),))[0]
    return kind in (*_DICTS, list, tuple, type(None)) and all(map(_is_builtin, tree.children()))


def blank(aval: Any) -> Any:
    """A value of this shape and dtype, without memory."""
    if isinstance(aval.dtype, np.dtype):
        return np.broadcast_to(np.zeros((), aval.dtype), aval.shape)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)
