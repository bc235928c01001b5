"""Gradients at layers, and outputs with activations replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import PyTree, Score
from . import _program
from ._address import Address
from ._model import as_score
from ._names import Target
from ._plans import Plan, read_values, several
from ._program import Value
from ._reading import Reading


def gradients_at(
    model: Any, *inputs: Any, score: Score, at: str | Sequence[str], **kwargs: Any
) -> PyTree:
    """Total derivatives of one score at several layers, in one backward pass.

    ``d score / d z_k``, by adding a zero to each activation, so that layers may lie upstream of one
    another. The whole model runs once forward and once backward. Integers among the arrays of an
    activation (the edges of a graph, the position of a cache) are held fixed.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        score: `outputs -> scalar`.
        at: a name, or several. `layers/ff` of a scan over layers means all its iterations, stacked.
        **kwargs: further arguments of the model.

    Returns:
        The gradient, or a dict of gradients for several names, each like the activation there; for
        arrays of integers zeros in float32.

    Raises:
        ValueError: no such layer, several of that name, or a score that is not a scalar.
        TypeError: the activation has no floating array, `at` is not a name, or `score` is not a
            function.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> def model(x):
        ...     return attrax.tap("b", attrax.tap("a", x) ** 2)
        >>> attrax.gradients_at(model, jnp.array([3.0]), score=jnp.sum, at=["a", "b"])
        {'a': Array([6.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    as_score(score)
    names = several(at)
    reading, args = read_values(model, inputs, kwargs, "gradients_at")
    plan, values_of = reading.derive(("gradients", names), lambda: _for_gradients(reading, names))
    args = plan.arguments(args)
    change = dict.fromkeys(plan.addresses, _add)

    def scored(zeros: _program.Kept) -> Value:
        edits = _program.Edits(change, zeros, frozenset())
        value = score(reading.outputs.join(_program.edit(plan.stripped, args, edits)[0]))
        if jnp.shape(value) != ():
            raise ValueError(
                f"`score` must return a scalar; got shape {jnp.shape(value)}. Choose one output, "
                "such as `attrax.scores.logit(i)`; wrap a model that has a batch axis of its own, "
                "`attrax.unbatched(model)`."
            )
        return value

    zeros = {t.name: [_zero(a) for a in t.avals] for t in plan.targets}
    if not jax.sharding.get_abstract_mesh().empty:
        # On a mesh a zero must lie, and vary over devices, as the activation does; else JAX sums
        # the gradient over the devices.
        zeros = jax.tree.map(_zero_like, zeros, values_of(*args))
    gradients = plan.by_name(jax.grad(scored)(zeros))
    return gradients[at] if isinstance(at, str) else gradients


def _for_gradients(reading: Reading, names: Sequence[str]) -> tuple[Plan, Callable[..., Any]]:
    plan = Plan(reading, names, _to_differentiate)
    for name, target in zip(names, plan.targets, strict=True):
        if not any(jnp.issubdtype(a.dtype, jnp.inexact) for a in target.avals):
            kinds = ", ".join(sorted({str(a.dtype) for a in target.avals}))
            raise TypeError(f"the layer {name!r} is {kinds}: it has no gradient.")
    jaxpr = plan.program.jaxpr
    inputs = len(_program.input_avals(jaxpr)) - len(plan.program.consts)
    plan.refuse_lost_values(jaxpr, inputs, "in the model")
    return plan, plan.values_of()


def _to_differentiate(target: Target) -> list[Target]:
    # A value in a branch is not always computed: outside of it there is one to be like.
    is_apart = not target.is_stacked and (target.iterations or target.is_in_branch)
    return [target] if is_apart else []


def _zero(aval: jax.ShapeDtypeStruct) -> jax.Array:
    """What is added to an activation: for an array of integers nothing, and so of slope zero."""
    is_smooth = jnp.issubdtype(aval.dtype, jnp.inexact)
    return jnp.zeros(aval.shape, aval.dtype if is_smooth else jnp.float32)


def _zero_like(zero: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.zeros_like(value) if zero.dtype == value.dtype else zero


def _add(values: list[Value], zeros: Sequence[Value]) -> list[Value]:
    return [
        v + z if jnp.issubdtype(v.dtype, jnp.inexact) else v
        for v, z in zip(values, zeros, strict=True)
    ]


def intervene(
    model: Any, *inputs: Any, at: Mapping[str, PyTree | Callable[[PyTree], PyTree]], **kwargs: Any
) -> PyTree:
    """The output of a model with activations replaced: patching, steering, ablation.

    Everything downstream is computed from the replacements, other replaced activations included.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        at: from names to replacements: a value like the activation, or a function of the
            activation. At `layers/ff` of a scan over layers a function applies to each iteration,
            and a value holds all, stacked. A value takes the dtype of the activation where that
            changes precision only: floats are refused where the activation holds integers.
        **kwargs: further arguments of the model.

    Returns:
        What the model returns.

    Raises:
        ValueError: no such layer, several of that name, or a replacement of another shape.
        TypeError: `at` is not a mapping from names, or a replacement does not fit into the dtype of
            the activation.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = lambda x: attrax.tap("square", x ** 2).sum()
        >>> attrax.intervene(model, jnp.array([1.0, 3.0]), at={"square": lambda z: z.at[1].set(0)})
        Array(1., dtype=float32)
    """
    if not isinstance(at, Mapping):
        raise TypeError(
            "`at` must map names of layers to values or functions, as in "
            f"intervene(model, x, at={{'block3': value}}); got {type(at).__name__}."
        )
    names = several(tuple(at)) if at else ()
    reading, args = read_values(model, inputs, kwargs, "intervene")
    plan = reading.derive(("intervene", names), lambda: Plan(reading, names, _to_replace))
    pairs = zip(names, plan.targets, strict=True)
    made = [Replacement(name, target, at[name]) for name, target in pairs]
    edits = _program.Edits(
        {r.address: r.edit for r in made}, {r.address: r.feed() for r in made}, frozenset()
    )
    return reading.outputs.join(_program.edit(plan.stripped, plan.arguments(args), edits)[0])


def _to_replace(target: Target) -> list[Target]:
    return [target] if target.is_iteration else []


class Replacement(NamedTuple):
    """What takes the place of an activation: a value, or a function of it."""

    at: str
    target: Target
    new: PyTree | Callable[[PyTree], PyTree]

    @property
    def address(self) -> Address:
        return self.target.name

    def feed(self) -> list[Value]:
        """The arrays of a value, all iterations in front; nothing for a function."""
        return [] if callable(self.new) else self._like(self.target.avals, self.new)

    def edit(self, old: list[Value], feed: Sequence[Value]) -> Sequence[Value]:
        if not callable(self.new):
            return feed
        return self._like(old, self.new(jax.tree.unflatten(self.target.site.label.tree, old)))

    def _like(self, old: Sequence[Any], new: PyTree) -> list[Value]:
        """The arrays of `new`, which must have the shapes of what they replace."""
        leaves, tree = jax.tree.flatten(new)
        shapes = [o.shape for o in old]
        if tree != self.target.site.label.tree or [jnp.shape(n) for n in leaves] != shapes:
            raise ValueError(
                f"the replacement at {self.at!r} must be like the activation, {shapes}; got "
                f"{[jnp.shape(n) for n in leaves]}."
            )
        return [self._cast(n, o.dtype) for n, o in zip(leaves, old, strict=True)]

    def _cast(self, new: Value, dtype: Any) -> Value:
        array = jnp.asarray(new)
        if not (_fits(array, dtype) and _holds(new, dtype)):
            raise TypeError(
                f"the replacement at {self.at!r} is {jnp.result_type(new)}, and the activation "
                f"{dtype}: the values would change. Give it as {dtype}."
            )
        return array if array.dtype == dtype else array.astype(dtype)


def _fits(array: jax.Array, dtype: Any) -> bool:
    """Whether an array becomes `dtype` with a loss of precision at most."""
    if array.dtype == dtype:
        return True
    if jnp.issubdtype(dtype, jnp.floating):
        return not jnp.issubdtype(array.dtype, jnp.complexfloating)
    if jnp.issubdtype(dtype, jnp.integer) and array.weak_type:  # a Python number
        return jnp.issubdtype(array.dtype, jnp.integer)
    return np.can_cast(array.dtype, dtype, "safe")


def _holds(new: Value, dtype: Any) -> bool:
    """Whether `dtype` holds the integers of a Python number or of a NumPy array."""
    if not isinstance(new, (int, np.integer, np.ndarray)) or not jnp.issubdtype(dtype, jnp.integer):
        return True
    values, limits = np.asarray(new), jnp.iinfo(dtype)
    return not values.size or bool(values.min() >= limits.min and values.max() <= limits.max)
