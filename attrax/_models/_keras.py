"""Keras models, with JAX as their backend, as models."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from ._advice import shapes_explained
from ._fixed import Same
from ._model import Model
from ._taps import is_opaque, is_reading, running_path, tap_call

_lock = threading.RLock()


def from_keras(model: Any) -> Model:
    """A Keras model that was built, as a `Model`: `model(x) = keras_model(x, training=False)`.

    Needs Keras, with JAX as its backend. A Keras model has a batch axis: see `unbatched`. Layers
    are addressed by their names: `dense_1`, `encoder/dense`.

    Args:
        model: a `keras.Model` or `keras.Layer`.

    Returns:
        A `Model` whose weights are the values of its variables now. What a call changes in them is
        dropped.

    Raises:
        ImportError: Keras is not installed.
        ValueError: Keras has another backend.
        TypeError: `model` is not of Keras.
    """
    keras = _keras()
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Keras must run on JAX; its backend is {keras.backend.backend()!r}. Set the "
            "environment variable KERAS_BACKEND=jax before Keras is imported."
        )
    if not isinstance(model, keras.Layer):
        raise TypeError(f"`model` must be a Keras model; got {type(model).__name__}.")
    variables = model.trainable_variables, model.non_trainable_variables
    return Model(tuple([v.value for v in vs] for vs in variables), _Keras(Same(model)))


def _keras() -> Any:
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise ImportError("`from_keras` needs Keras: pip install keras") from error


@dataclass(frozen=True)
class _Keras:
    model: Same

    is_written_by_users = True

    def __call__(self, weights: Any, *inputs: Any, **kwargs: Any) -> Any:
        model = self.model.value
        # Keras sees the backend's own arrays only.
        inputs = jax.tree.map(jax.numpy.asarray, inputs)
        tapped = _tapped(model) if is_reading() else contextlib.nullcontext()
        with shapes_explained(inputs, kwargs), tapped:
            options = {"training": False, **kwargs}
            return model.stateless_call(*weights, *inputs, **options)[0]


@contextlib.contextmanager
def _tapped(root: Any) -> Iterator[None]:
    """Tap the calls of all layers but the outermost, on this thread."""
    layer = _keras().Layer
    original, thread = layer.__call__, threading.get_ident()
    running = [root]

    @functools.wraps(original)
    def wrapped(self, *args, **kwargs):
        outside = threading.get_ident() != thread or not is_reading()
        if outside or self is root or running[-1] is self:
            return original(self, *args, **kwargs)
        running.append(self)
        try:
            path = (*running_path(), self.name.replace("/", "_"))
            call = functools.partial(original, self)
            return tap_call(path, "__call__", is_opaque, call, args, kwargs)
        finally:
            running.pop()

    with _lock:
        layer.__call__ = wrapped
        try:
            yield
        finally:
            layer.__call__ = original
