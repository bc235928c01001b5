"""Models with a batch axis of their own, seen as functions of one example."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._core._types import PyTree
from . import _program
from ._adapters import as_model
from ._address import Address, Blocked
from ._advice import batch_axis_added
from ._containers import with_leaves
from ._model import Model, copied, divide
from ._reading import Reading, cached, fixed_of, key_of, read
from ._taps import is_array, is_reading
from ._tracing import traced

_SIZES = (2, 3)


def unbatched(
    model: Any, *, in_axes: Any = 0, out_axes: int | types.EllipsisType | PyTree | None = ...
) -> Model:
    """A model with a batch axis of its own, seen as a function of one example.

    `unbatched(model)(x) = model(x[None])[0]`. Which axis of an activation or output is the batch
    axis is found from the shapes at two batch sizes, not assumed: the model is traced, not run,
    with batches of 2 and 3. Activations without a batch axis (position tables) are left alone.

    Args:
        model: anything that `as_model` takes.
        in_axes: where the batch axis of the input arrays stands, counted from the front: a number
            for all, or a tuple with one entry for each positional argument, as in `jax.vmap`. None
            is an argument without a batch axis, such as a key, a mask or a table. An entry may be
            a pytree, with numbers and None, for the parts of an argument. Keyword arguments follow
            the number, and lead with the batch where a tuple is given.
        out_axes: where the batch axis of the outputs stands: a number, None for an output without
            one, or a pytree of them. Then the model is traced with a batch of one only, as a model
            needs that takes exactly one example; its activations keep a batch axis of size one.
            By default the axes are found.

    Returns:
        A `Model` of one example; its layers are addressed as before, without the batch axis.

    Raises:
        ValueError: an axis is negative, or `in_axes` does not have one entry for each argument; on
            a call, when an output has no batch axis of its own, or the model can be traced with a
            batch of one but not with batches of 2 and 3; on cutting, when that activation mixes the
            batch with another axis. A model that fails with a batch of one raises its own error.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = attrax.unbatched(lambda xs: xs.sum(axis=1))
        >>> model(jnp.array([1.0, 2.0]))
        Array(3., dtype=float32)
        >>> masked = attrax.unbatched(lambda xs, mask: xs @ mask, in_axes=(0, None))
        >>> masked(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]))
        Array(1., dtype=float32)
    """
    for name, axes in (("in_axes", in_axes), ("out_axes", out_axes)):
        for axis in jax.tree.leaves(axes):
            if axis is not ... and (not isinstance(axis, int) or axis < 0):
                raise ValueError(f"`{name}` must count from the front; got {axes}.")
    model = as_model(model)
    return Model(model.weights, _Unbatched(model.program, _hashable(in_axes), _hashable(out_axes)))


def _hashable(axes: Any) -> Any:
    """Axes as a static value."""
    return axes if axes is None or axes is ... or isinstance(axes, int) else _Axes(copied(axes))


class _Axes:
    """A pytree of axes, equal to one that prints alike."""

    def __init__(self, tree: PyTree):
        self.tree = tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Axes) and repr(self.tree) == repr(other.tree)

    def __hash__(self) -> int:
        return hash(repr(self.tree))


@dataclass(frozen=True)
class _Unbatched:
    program: Callable[..., Any]
    in_axes: Any
    out_axes: Any

    def fixed(self) -> Hashable | None:
        """What the program is made of now."""
        inner = fixed_of(self.program)
        return None if inner is None else ("unbatched", inner, self.in_axes, self.out_axes)

    def __call__(self, weights: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        with batch_axis_added():
            return self._run(weights, inputs, kwargs)

    def _run(self, weights: PyTree, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        inner = Model(weights, self.program)
        args, options = self._batch(inputs, kwargs, None)
        if self.out_axes is not ...:
            return _without(self.program(weights, *args, **options), _tree(self.out_axes))
        if is_reading():
            return self._named(inner, inputs, kwargs)
        axes = self._out_axes(inner, inputs, kwargs)
        result = self.program(weights, *args, **options)
        leaves = zip(jax.tree.leaves(result), axes, strict=True)
        return with_leaves(result, [_squeeze(leaf, axis) for leaf, axis in leaves])

    def _named(self, inner: Model, inputs: Any, kwargs: Any) -> Any:
        """The outputs, with each tapped value without its batch axis."""
        args, options = self._batch(inputs, kwargs, None)
        two, three = self._at_sizes(
            inputs, kwargs, lambda a, k, size: read(inner, a, k, verified=size < _SIZES[1])[0]
        )
        arrays, static = divide((inner.weights, args, options))
        found = Reading(traced(inner, arrays, static), _batch_axes(two, three))
        leaves = _program.run(found.program.jaxpr, [*found.program.consts, *arrays])
        shapes = [[a.shape for a in _program.output_avals(r.program.jaxpr)] for r in (two, three)]
        axes = [_batch_axis(a, b) for a, b in zip(*shapes, strict=True)]
        return found.outputs.join(
            [_squeeze(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
        )

    def _at_sizes(self, inputs: Any, kwargs: Any, look: Callable[..., Any]) -> list[Any]:
        """What is seen of the model at two batch sizes."""
        found = []
        for size in _SIZES:
            args, options = self._batch(inputs, kwargs, size)
            try:
                found.append(look(args, options, size))
            except Exception as error:
                self._raise_for_one(inputs, kwargs, look)
                raise ValueError(
                    f"{error}\nThis happens with a batch of {size}, and not with a batch of one: "
                    "`unbatched` traces the model with batches of 2 and 3 to find its batch axes. "
                    "A model that takes exactly one example needs `out_axes`; an argument without "
                    "a batch axis (a key, a mask) has the entry None in `in_axes`."
                ) from error
        return found

    def _raise_for_one(self, inputs: Any, kwargs: Any, look: Callable[..., Any]) -> None:
        """Raise what the model raises with a batch of one, too: the batch size is not its cause."""
        args, options = self._batch(inputs, kwargs, 1)
        try:
            look(args, options, 1)
        except Exception as error:
            raise error from error.__cause__  # not while another one was handled

    def _batch(self, inputs: Any, kwargs: Mapping[str, Any], size: int | None) -> Any:
        """Give the arrays a batch axis: of size one, or as shapes of another size."""
        axes = _tree(self.in_axes)
        if not isinstance(axes, (tuple, list)):
            return _with(axes, (tuple(inputs), dict(kwargs)), size)
        if len(axes) != len(inputs):
            raise ValueError(
                f"`in_axes` must have one entry for each argument: got {len(axes)} entries and "
                f"{len(inputs)} arguments."
            )
        given = tuple(_with(a, x, size) for a, x in zip(axes, inputs, strict=True))
        return given, _with(0, dict(kwargs), size)

    def _out_axes(self, inner: Model, inputs: Any, kwargs: Any) -> Any:
        def shapes(args, options, size):
            found = jax.eval_shape(
                lambda w, i, k: self.program(w, *i, **k), inner.weights, args, options
            )
            return [leaf.shape for leaf in jax.tree.leaves(found)]

        def make(may_keep: bool):
            two, three = self._at_sizes(inputs, kwargs, shapes)
            return [_batch_axis(a, b) for a, b in zip(two, three, strict=True)], may_keep

        return cached(self, key_of("axes", inner.weights, (inputs, kwargs)), make)


def _tree(axes: Any) -> Any:
    return axes.tree if isinstance(axes, _Axes) else axes


def _prefixed(change: Callable[[Any, Any], Any], axes: PyTree, tree: PyTree) -> PyTree:
    """`change(leaf, axis)` for each leaf; an axis stands for all leaves under it."""
    structure = jax.tree.structure(axes, is_leaf=lambda axis: axis is None)
    each = jax.tree.leaves(axes, is_leaf=lambda axis: axis is None)
    parts = structure.flatten_up_to(tree)
    leaves = [
        change(leaf, axis)
        for axis, part in zip(each, parts, strict=True)
        for leaf in jax.tree.leaves(part)
    ]
    return with_leaves(tree, leaves)


def _with(axes: PyTree, tree: PyTree, size: int | None) -> Any:
    def convert(leaf, axis):
        if axis is None or not is_array(leaf):
            return leaf
        if size is None:
            return jnp.expand_dims(leaf, axis)
        shape = list(leaf.shape)
        shape.insert(axis, size)
        return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

    return _prefixed(convert, axes, tree)


def _without(result: PyTree, axes: PyTree) -> Any:
    def convert(leaf, axis):
        return leaf if axis is None else jnp.squeeze(leaf, axis)

    return _prefixed(convert, axes, result)


def _batch_axis(two: Sequence[int], three: Sequence[int]) -> int | Blocked | None:
    """The axis of size 2 at batch size 2 and of size 3 at batch size 3."""
    if len(two) == len(three):
        differ = [i for i, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
        if not differ:
            return None
        if len(differ) == 1 and (two[differ[0]], three[differ[0]]) == _SIZES:
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
            "`unbatched` takes a model whose outputs have one batch axis each; "
            f"{axis.reason}. Where that is as it should be, give `out_axes`."
        )
    return jnp.squeeze(leaf, axis)
