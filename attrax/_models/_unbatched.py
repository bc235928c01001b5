"""Models with a batch axis of their own, seen as functions of one example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._core._types import PyTree
from . import _program
from ._adapters import as_model
from ._address import Address, Blocked
from ._model import Model, Static, divide
from ._reading import Reading, aval_of, cached, context, read, traced
from ._taps import is_array, is_reading


def unbatched(model: Any, *, in_axes: int = 0) -> Model:
    """A model with a batch axis of its own, seen as a function of one example.

    `unbatched(model)(x) = model(x[None])[0]`. Which axis of an activation or output is the batch
    axis is found from the shapes at two batch sizes, not assumed; activations without one (position
    tables) are left alone.

    Args:
        model: anything that `as_model` takes.
        in_axes: where the batch axis of every input array stands, counted from the front.

    Returns:
        A `Model` of one example; its layers are addressed as before, without the batch axis.

    Raises:
        ValueError: `in_axes` is negative; on a call, when an output has no batch axis of its own;
            on cutting, when that activation mixes the batch with another axis.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = attrax.unbatched(lambda xs: xs.sum(axis=1))
        >>> model(jnp.array([1.0, 2.0]))
        Array(3., dtype=float32)
    """
    if in_axes < 0:
        raise ValueError(f"`in_axes` must count from the front; got {in_axes}.")
    model = as_model(model)
    return Model(model.weights, _Unbatched(model.program, in_axes))


@dataclass(frozen=True)
class _Unbatched:
    program: Callable[..., Any]
    axis: int

    def __call__(self, weights: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        inner = Model(weights, self.program)
        single = self._batch((inputs, kwargs), None)
        arrays, static = divide((weights, *single))
        if not is_reading():
            axes = self._out_axes(inner, (inputs, kwargs), arrays, static)
            result = self.program(weights, *single[0], **single[1])
            return jax.tree.unflatten(
                jax.tree.structure(result),
                [_squeeze(leaf, a) for leaf, a in zip(jax.tree.leaves(result), axes, strict=True)],
            )
        two, three = (read(inner, *self._batch((inputs, kwargs), n))[0] for n in (2, 3))
        found = Reading(traced(inner, arrays, static), _batch_axes(two, three))
        leaves = _program.run(found.program.jaxpr, [*found.program.consts, *arrays])
        shapes = [[a.shape for a in _program.output_avals(r.program.jaxpr)] for r in (two, three)]
        axes = [_batch_axis(a, b) for a, b in zip(*shapes, strict=True)]
        return found.outputs.join(
            [_squeeze(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
        )

    def _batch(self, tree: PyTree, size: int | None) -> Any:
        """Give every array a batch axis: of size one, or as shapes of another size."""

        def convert(leaf):
            if not is_array(leaf):
                return leaf
            if size is None:
                return jnp.expand_dims(leaf, self.axis)
            shape = list(leaf.shape)
            shape.insert(self.axis, size)
            return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

        return jax.tree.map(convert, tree)

    def _out_axes(self, inner: Model, args: Any, arrays: Sequence[Any], static: Static) -> Any:
        def make():
            shapes = [
                jax.eval_shape(lambda w, i, k: self.program(w, *i, **k), inner.weights, *batch)
                for batch in (self._batch(args, 2), self._batch(args, 3))
            ]
            leaves = [jax.tree.leaves(s) for s in shapes]
            return [_batch_axis(a.shape, b.shape) for a, b in zip(*leaves, strict=True)], True

        key = ("axes", self, static, tuple(map(aval_of, arrays)), context())
        return cached(key, make)


def _batch_axis(two: Sequence[int], three: Sequence[int]) -> int | Blocked | None:
    """The axis of size 2 at batch size 2 and of size 3 at batch size 3."""
    if len(two) == len(three):
        differ = [i for i, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
        if not differ:
            return None
        if len(differ) == 1 and (two[differ[0]], three[differ[0]]) == (2, 3):
            return differ[0]
    return Blocked(
        f"the batch is not an axis of its own: {tuple(two)} at batch size 2, {tuple(three)} at 3"
    )


def _batch_axes(two: Reading, three: Reading) -> _program.Axes:
    shapes = {s.label.names[0]: [a.shape for a in s.avals] for s in three.sites}
    axes: dict[Address, list[_program.BatchAxis] | Blocked] = {}
    for site in two.sites:
        name, here = site.label.names[0], [a.shape for a in site.avals]
        if name not in shapes or len(shapes[name]) != len(here):
            axes[name] = Blocked("the model runs other operations at another batch size")
            continue
        found = [_one_example(a, b) for a, b in zip(here, shapes[name], strict=True)]
        mixed = next((a for a in found if isinstance(a, Blocked)), None)
        axes[name] = mixed or [a for a in found if not isinstance(a, Blocked)]
    return axes


def _one_example(two: Sequence[int], three: Sequence[int]) -> _program.BatchAxis | Blocked:
    """The shape of an activation at a batch of one, and which of its axes is the batch."""
    axis = _batch_axis(two, three)
    if not isinstance(axis, Blocked):
        return _program.BatchAxis(tuple(1 if i == axis else n for i, n in enumerate(two)), axis)
    differ = [i for i, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) == len(three) and len(differ) == 1 and 3 * two[differ[0]] == 2 * three[differ[0]]:
        # Heads folded into the batch: of one example these are its heads, and no axis goes.
        shape = tuple(n // 2 if i == differ[0] else n for i, n in enumerate(two))
        return _program.BatchAxis(shape, None)
    return axis


def _squeeze(leaf: Any, axis: int | Blocked | None) -> Any:
    if axis is None:
        axis = Blocked(f"an output of shape {jnp.shape(leaf)} does not vary with the batch size")
    if isinstance(axis, Blocked):
        raise ValueError(
            f"`unbatched` takes a model whose outputs have one batch axis each; {axis.reason}."
        )
    return jnp.squeeze(leaf, axis)
