"""Gradients at layers, and outputs with activations replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core._types import PyTree, Score
from . import _program
from ._adapters import as_model
from ._cuts import exposed, keeping, several, targets_of, with_consts
from ._names import Target
from ._reading import read


def gradients_at(
    model: Any, *inputs: Any, score: Score, at: str | Sequence[str], **kwargs: Any
) -> PyTree:
    """Total derivatives of one score at several layers, in one backward pass.

    ``d score / d z_k``, by adding a zero to each activation, so that layers may lie upstream of one
    another. The whole model runs once forward and once backward.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        score: `outputs -> scalar`.
        at: a name, or several. `layers/ff` of a scan over layers means all its iterations, stacked.
        **kwargs: further arguments of the model.

    Returns:
        The gradient, or a dict of gradients for several names, each like the activation there.

    Raises:
        ValueError: no such layer, several of that name, or a score that is not a scalar.
        TypeError: the activation is not floating.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> def model(x):
        ...     return attrax.tap("b", attrax.tap("a", x) ** 2)
        >>> attrax.gradients_at(model, jnp.array([3.0]), score=jnp.sum, at=["a", "b"])
        {'a': Array([6.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    reading, args = read(as_model(model), inputs, kwargs)
    names = several(at)

    def make():
        targets = targets_of(reading, names)
        for name, target in zip(names, targets, strict=True):
            for aval in target.site.avals:
                if not jnp.issubdtype(aval.dtype, jnp.inexact):
                    raise TypeError(f"the layer {name!r} is {aval.dtype}: it has no gradient.")
        # A value in a branch is not always computed: outside of it there is one to be like.
        single = [t for t in targets if not t.is_stacked]
        apart = [t for t in single if t.iterations or "cond" in t.site.inside]
        program = exposed(reading, targets, apart)
        inputs = len(_program.input_avals(program.jaxpr)) - len(program.consts)
        if reading.has_closures and _program.holds_dead_tracer(
            program.jaxpr, inputs, program.consts
        ):
            raise ValueError(
                "the model holds a function with its own derivative rule (custom_jvp, custom_vjp) "
                "whose rule uses a traced value that is not among its arguments: pass that value "
                "to it as an argument."
            )
        keep = frozenset(t.name for t in targets)
        jaxpr = _program.strip(program.jaxpr, keep)
        return targets, program.consts, jaxpr, keeping(reading, program.jaxpr, targets)

    targets, consts, jaxpr, values_of = reading.derive(("gradients", names), make)
    args = with_consts(reading, consts, args)
    change = {t.name: _add for t in targets}

    def scored(zeros):
        edits = _program.Edits(change, zeros, frozenset())
        value = score(reading.outputs.join(_program.edit(jaxpr, args, edits)[0]))
        if jnp.shape(value) != ():
            raise ValueError(f"`score` must return a scalar; got shape {jnp.shape(value)}.")
        return value

    zeros = {t.name: [jnp.zeros(a.shape, a.dtype) for a in _stacked(t)] for t in targets}
    if not jax.sharding.get_abstract_mesh().empty:
        # On a mesh a zero must lie, and vary over devices, as the activation does; else JAX sums
        # the gradient over the devices.
        zeros |= jax.tree.map(jnp.zeros_like, values_of(*args))
    found = jax.grad(scored)(zeros)
    gradients = {
        name: jax.tree.unflatten(t.site.label.tree, found[t.name])
        for name, t in zip(names, targets, strict=True)
    }
    return gradients[at] if isinstance(at, str) else gradients


def _add(values: list[Any], zeros: Any) -> list[Any]:
    return [v + z for v, z in zip(values, zeros, strict=True)]


def _stacked(target: Target) -> list[Any]:
    """The shapes of an activation, all iterations of the scans around it in front."""
    lead = tuple(n for n, k in zip(target.lengths, target.iterations, strict=True) if k is None)
    return [jax.ShapeDtypeStruct((*lead, *a.shape), a.dtype) for a in target.site.avals]


def intervene(model: Any, *inputs: Any, **kwargs: Any) -> PyTree:
    """The output of a model with activations replaced: patching, steering, ablation.

    ``intervene(model, *inputs, {name: value or function})``: the last positional argument says what
    to put where. Everything downstream is computed from it, other replaced activations included.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with, and last the mapping from names to replacements: an
            array like the activation, or a function of the activation. At `layers/ff` of a scan
            over layers a function applies to each iteration, and a value holds all, stacked.
        **kwargs: further arguments of the model.

    Returns:
        What the model returns.

    Raises:
        ValueError: no such layer, several of that name, or a replacement of another shape.
        TypeError: the last argument is not a mapping.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = lambda x: attrax.tap("square", x ** 2).sum()
        >>> attrax.intervene(model, jnp.array([1.0, 3.0]), {"square": lambda z: z.at[1].set(0.0)})
        Array(1., dtype=float32)
    """
    if not inputs or not isinstance(inputs[-1], Mapping):
        raise TypeError(
            "the last argument of `intervene` must map names of layers to values or functions: "
            "intervene(model, x, {'block3': value})."
        )
    *rest, changes = inputs
    reading, args = read(as_model(model), rest, kwargs)
    targets = dict(zip(changes, targets_of(reading, tuple(changes)), strict=True))
    indexed = [t for t in targets.values() if t.is_iteration]
    names = tuple(t.name for t in targets.values())

    def make():
        program = exposed(reading, list(targets.values()), indexed)
        return program.consts, _program.strip(program.jaxpr, frozenset(names))

    consts, jaxpr = reading.derive(("intervene", names), make)
    change, feed = {}, {}
    for at, target in targets.items():
        if callable(changes[at]):
            change[target.name] = _replace_by(at, target, changes[at])
        else:
            feed[target.name] = _like(at, target, _stacked(target), changes[at])
            change[target.name] = lambda values, new: new
    edits = _program.Edits(change, feed, frozenset())
    args = with_consts(reading, consts, args)
    return reading.outputs.join(_program.edit(jaxpr, args, edits)[0])


def _replace_by(at: str, target: Target, function: Callable[[PyTree], PyTree]):
    def change(values, _):
        new = function(jax.tree.unflatten(target.site.label.tree, values))
        return _like(at, target, values, new)

    return change


def _like(at: str, target: Target, old: Sequence[Any], new: PyTree) -> list[Any]:
    """The arrays of a replacement, which must have the shapes of what it replaces."""
    leaves, tree = jax.tree.flatten(new)
    if tree != target.site.label.tree or any(
        jnp.shape(n) != o.shape for n, o in zip(leaves, old, strict=True)
    ):
        raise ValueError(
            f"the replacement at {at!r} must be like the activation, {[o.shape for o in old]}; got "
            f"{[jnp.shape(n) for n in leaves]}."
        )
    return [jnp.asarray(n, o.dtype) for n, o in zip(leaves, old, strict=True)]
