"""Advice on errors that a model raises: the error stays what it is, and gets a note."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax

_WORDS = (
    r"shapes?|(n|sub)?dim(ension)?s?|rank|axis|axes|broadcast\w*|unpack|subscript|size of label"
)
_ABOUT_SHAPES = re.compile(rf"\b({_WORDS}|index out of range|indices for operand)\b", re.IGNORECASE)
_ABOUT_VALUES = (NameError, jax.errors.JAXTypeError, jax.errors.JAXIndexError)  # name shapes, too

_adds_batch_axis = ContextVar("_adds_batch_axis", default=False)


@contextlib.contextmanager
def batch_axis_added() -> Iterator[None]:
    """What is called in this block gets one example with a batch axis, from `unbatched`."""
    token = _adds_batch_axis.set(True)
    try:
        yield
    finally:
        _adds_batch_axis.reset(token)


def advise(error: Exception, note: str) -> None:
    """Give an error a note, unless one of attrax stands there: the innermost knows the most."""
    if not any("attrax" in there for there in getattr(error, "__notes__", ())):
        error.add_note(note)


@contextlib.contextmanager
def shapes_explained(*inputs: Any) -> Iterator[None]:
    """Where the model in this block fails because of shapes, say what a batch axis needs."""
    try:
        yield
    except Exception as error:
        if _is_about_shapes(error):
            advise(error, _on_batch_axes(inputs))
        raise


@contextlib.contextmanager
def scoring(*inputs: Any) -> Iterator[None]:
    """Where the score in this block refuses shapes, say which input seems to be a batch of one."""
    try:
        yield
    except Exception as error:
        ones = [leaf.shape for leaf in _arrays(inputs) if leaf.shape[:1] == (1,)]
        if ones and _is_about_shapes(error):
            advise(
                error,
                f"The first axis of an input of shape {ones[0]} seems to be a batch axis. Wrap a "
                "model that takes a batch, `attrax.unbatched(model)`, and pass one example, "
                "`x[0]`.",
            )
        raise


def _is_about_shapes(error: Exception) -> bool:
    return not isinstance(error, _ABOUT_VALUES) and bool(_ABOUT_SHAPES.search(str(error)))


def _arrays(inputs: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(inputs) if hasattr(leaf, "shape")]


def _on_batch_axes(inputs: Any) -> str:
    shapes = ", ".join(str(leaf.shape) for leaf in _arrays(inputs))
    if _adds_batch_axis.get():
        return (
            f"`attrax.unbatched` added the batch axis, and gave the model the shapes {shapes}. If "
            "`x` has a batch axis of its own, pass `x[0]`. An argument without a batch axis (a "
            "key, a mask) has the entry None in `in_axes`."
        )
    return (
        f"The model was given the shapes {shapes}. If it takes a batch, wrap it: "
        "`attrax.unbatched(model)` adds the batch axis to one example."
    )
