"""Look inside a model: list its layers, capture activations, cut it in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core._types import PyTree
from . import _program
from ._adapters import as_model
from ._containers import placeholder
from ._model import Model
from ._names import Layers, Target, resolve, shorten, table
from ._reading import Kept, Reading, read
from ._taps import is_reading


def layers(model: Any, *inputs: Any, **kwargs: Any) -> Layers:
    """Every value of a model that has a name, in the order of execution: a trace, no computation.

    Listed are the outputs of modules, taps and named functions (`relu#0`). Addressed in the same
    way, but not listed, are the inputs of modules (`conv:in`) and all other operations, by
    primitive and count within their module (`attention:div#1`).

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with; `jax.ShapeDtypeStruct` will do.
        **kwargs: likewise.

    Returns:
        A tuple of `Layer(name, shape, dtype)` that prints as a table.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> attrax.layers(lambda x: jax.nn.relu(attrax.tap("scaled", 2 * x)), jnp.ones(3))
        layer   shape  dtype
        ------  -----  -------
        scaled  (3,)   float32
        relu#0  (3,)   float32
    """
    reading, _ = read(as_model(model), inputs, kwargs)
    return table(reading.sites)


def capture(model: Any, *inputs: Any, at: str | Sequence[str], **kwargs: Any) -> PyTree:
    """The activation at a name.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        at: a name, or several. Inside a scan over layers, `layers[3]/ff` is one iteration and
            `layers/ff` all of them, stacked on a leading axis.
        **kwargs: further arguments of the model.

    Returns:
        The activation, or a dict of activations for several names.

    Raises:
        ValueError: no such layer, several of that name, or a value that cannot be reached.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = lambda x: attrax.tap("square", x ** 2).sum()
        >>> attrax.capture(model, jnp.array([1.0, 3.0]), at="square")
        Array([1., 9.], dtype=float32)
    """
    reading, args = read(as_model(model), inputs, kwargs)
    names = several(at)

    if any(isinstance(a, jax.ShapeDtypeStruct) for a in args):
        raise TypeError("`capture` computes and needs values; `attrax.layers` needs shapes only.")

    def make():
        targets = targets_of(reading, names)
        for target in targets:
            if target.is_stacked and "cond" in target.site.inside:
                raise ValueError(
                    f"{target.template!r} stands in a branch: capture its iterations one by one."
                )
        program = exposed(reading, targets, [t for t in targets if not t.is_stacked])
        return targets, program.consts, keeping(reading, program.jaxpr, targets)

    targets, consts, found = reading.derive(("capture", names), make)
    kept = found(*with_consts(reading, consts, args))
    values = {
        name: jax.tree.unflatten(target.site.label.tree, kept[target.name])
        for name, target in zip(names, targets, strict=True)
    }
    return values[at] if isinstance(at, str) else values


def cut(model: Any, *inputs: Any, at: str | Sequence[str], **kwargs: Any) -> tuple[PyTree, Model]:
    """Cut a model in two at a layer: `model(*inputs) = tail(z)`.

    `z` is the activation; `tail` is the function from it to the model's output, and itself a model:
    pass it to a jitted function, map over it, cut it again (layer to layer). What does not depend
    on `z` (the layers before it, skip connections around it) is computed once, here, and never
    again when `tail` runs: at depth d a gradient of `tail` costs 2(1 - d) forward passes of the
    model. A gradient of `tail` is exact; completeness of a path attribution with respect to `z`
    holds where every path from input to output crosses the cut.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        at: the name of a layer. Several names are a joint cut: `z` is then a dict, and no layer may
            lie upstream of another.
        **kwargs: further arguments of the model.

    Returns:
        `(z, tail)`.

    Raises:
        ValueError: no such layer, several of that name, or a value that cannot be reached; a layer
            of a scan without its iteration (planting all iterations at once would sever the
            gradient between them); the output does not depend on the layer; one of several layers
            lies upstream of another; a custom derivative rule behind the layer uses a traced value
            that is not among its arguments.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> def model(x):
        ...     return attrax.tap("square", x ** 2).sum()
        >>> z, tail = attrax.cut(model, jnp.array([1.0, 3.0]), at="square")
        >>> z
        Array([1., 9.], dtype=float32)
        >>> tail(z), jax.grad(tail)(z)
        (Array(10., dtype=float32), Array([1., 1.], dtype=float32))
    """
    reading, args = read(as_model(model), inputs, kwargs)
    names = tuple(sorted(several(at)))  # as a dict of activations is flattened
    parts = reading.derive(("cut", names), lambda: _Cut(reading, names, isinstance(at, str)))
    return parts.run(with_consts(reading, parts.consts, args))


class _Cut:
    """A program cut at layers, made once for all inputs of the same shapes."""

    def __init__(self, reading: Reading, names: tuple[str, ...], single: bool):
        targets = targets_of(reading, names)
        for name, target in zip(names, targets, strict=True):
            _refuse_stacked(name, target)
        program = exposed(reading, targets, targets)
        try:
            self.split = _program.split(program.jaxpr, [t.name for t in targets])
        except _program.NoDependence:
            raise ValueError(
                f"the output does not depend on {' or '.join(map(repr, names))}: nothing flows "
                "from there to the output of the model."
            ) from None
        except _program.Upstream:
            raise ValueError(
                f"one of the layers {', '.join(map(repr, names))} lies upstream of another: a "
                "joint cut would sever the gradient between them. Use `attrax.gradients_at`."
            ) from None
        self.consts = program.consts
        if reading.has_closures and _program.holds_dead_tracer(
            self.split.tail, self.split.num_values, self.consts
        ):
            raise ValueError(
                f"behind the layer {' and '.join(map(repr, names))} stands a function with its own "
                "derivative rule (custom_jvp, custom_vjp) whose rule uses a traced value that is "
                "not among its arguments: pass that value to it as an argument."
            )
        examples = [placeholder(t.site.label.tree, t.site.avals) for t in targets]
        whole = examples[0] if single else dict(zip(names, examples, strict=True))
        self.tree = jax.tree.structure(whole)
        self.head = reading.compiled(self.split.head)
        self.tail = _Tail(self.split, self.tree, reading, names)

    def run(self, args: Sequence[Any]) -> tuple[PyTree, Model]:
        made = self.head(*args)
        z = jax.tree.unflatten(self.tree, made[: self.split.num_values])
        return z, Model(_program.residuals(self.split, args, made), self.tail)


class _Tail:
    """The program of a tail: `(residuals, z) -> outputs`."""

    def __init__(self, split: _program.Split, tree: Any, reading: Reading, names: Sequence[str]):
        self.jaxpr, self.tree, self.names = split.tail, tree, names
        self.outputs = reading.outputs
        self.avals = _program.input_avals(split.tail)[-split.num_values :]
        self.plain = reading.compiled(split.tail)
        self.kept = Kept()  # its readings: a tail cannot change

    def __repr__(self) -> str:
        return f"<tail from {', '.join(self.names)}>"

    def __call__(self, residuals: Sequence[Any], z: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(z)
        if tree != self.tree:
            raise ValueError(
                f"the tail takes an activation of structure {self.tree}; got one of structure "
                f"{tree}."
            )
        values = [jnp.asarray(leaf) for leaf in leaves]
        for value, aval in zip(values, self.avals, strict=True):
            if (value.shape, value.dtype) != (aval.shape, aval.dtype):
                raise ValueError(
                    f"the tail takes an activation of shape {aval.shape} and dtype {aval.dtype}; "
                    f"got {value.shape} and {value.dtype}. Evaluate several at once by "
                    "`jax.vmap(tail)`."
                )
        if is_reading():
            return self.outputs.join(_program.run(self.jaxpr, [*residuals, *values]))
        return self.outputs.join(self.plain(*residuals, *values))


def several(at: str | Sequence[str]) -> tuple[str, ...]:
    names = (at,) if isinstance(at, str) else tuple(at)
    if not names:
        raise ValueError("`at` must name at least one layer.")
    if len(set(names)) < len(names):
        raise ValueError(f"`at` names a layer twice: {list(names)}.")
    return names


def _refuse_stacked(at: str, target: Target) -> None:
    if target.is_stacked:
        first = target._replace(iterations=tuple(k or 0 for k in target.iterations)).name
        raise ValueError(
            f"the layer {at!r} is computed by every iteration of a scan: cut at one of them, as in "
            f"{shorten(first)!r}. For gradients at all of them use `attrax.gradients_at`."
        )


def targets_of(reading: Reading, names: Sequence[str]) -> list[Target]:
    """The taps that names mean, all different."""
    targets = [resolve(reading.sites, name) for name in names]
    if len({(id(t.site), t.iterations) for t in targets}) < len(targets):
        raise ValueError(f"`at` names a layer twice: {list(names)}.")
    return targets


def exposed(
    reading: Reading, targets: Sequence[Target], exposed: Sequence[Target]
) -> _program.Program:
    """The program with some of its taps at the top level."""
    program = reading.program
    for target in exposed:
        program = _program.expose(program, target.name)
    names = {name for site in _program.sites(program.jaxpr) for name in site.label.names}
    for target in targets:
        if target.name not in names:
            raise ValueError(
                f"{shorten(target.template)!r} means all iterations of a scan, of which another "
                "name means one: ask for them in two calls."
            )
    return program


def keeping(reading: Reading, jaxpr: Any, targets: Sequence[Target]) -> Callable[..., Any]:
    """A function from a program's inputs to its values at `targets`."""
    keep = frozenset(t.name for t in targets)
    stripped, edits = _program.strip(jaxpr, keep), _program.Edits({}, {}, keep)

    def found(*args: Any) -> dict[str, Any]:
        return _program.edit(stripped, args, edits)[1]

    return reading.jitted(found)


def with_consts(reading: Reading, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The arguments of a program that was derived from a reading, its own constants in front."""
    return [*consts, *args[len(reading.program.consts) :]]
