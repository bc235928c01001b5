"""Look inside a model: list its layers, capture activations, cut it in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from .._core._types import PyTree, Score
from . import _program
from ._adapters import as_model
from ._containers import blank
from ._model import Model, as_score
from ._names import Layers, Target, shorten, table
from ._plans import Plan, read_values, several
from ._program import Value
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

    Only what the activation needs is computed, and what has an effect, such as `jax.debug.print`.

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
        TypeError: `at` is not a name, or an input has no values.

    Example:
        >>> import attrax, jax.numpy as jnp
        >>> model = lambda x: attrax.tap("square", x ** 2).sum()
        >>> attrax.capture(model, jnp.array([1.0, 3.0]), at="square")
        Array([1., 9.], dtype=float32)
    """
    names = several(at)
    reading, args = read_values(model, inputs, kwargs, "capture")

    def make() -> tuple[Plan, Callable[..., _program.Kept]]:
        plan = Plan(reading, names, _to_capture)
        return plan, plan.values_of()

    plan, values_of = reading.derive(("capture", names), make)
    values = plan.by_name(values_of(*plan.arguments(args)))
    return values[at] if isinstance(at, str) else values


def _to_capture(target: Target) -> list[Target]:
    # What stands in a branch has a value whichever is taken: its iterations one by one.
    if target.is_stacked:
        return target.each() if target.is_in_branch else []
    return [target]


@overload
def cut(
    model: Any, *inputs: Any, at: str | Sequence[str], score: None = None, **kwargs: Any
) -> tuple[PyTree, Model]: ...
@overload
def cut(
    model: Any, *inputs: Any, at: str | Sequence[str], score: Score, **kwargs: Any
) -> tuple[PyTree, Callable[[PyTree], Any]]: ...
def cut(
    model: Any,
    *inputs: Any,
    at: str | Sequence[str],
    score: Score | None = None,
    **kwargs: Any,
) -> tuple[PyTree, Any]:
    """Cut a model in two at a layer: `model(*inputs) = tail(z)`.

    `z` is the activation; `tail` is the function from it to the model's output, and itself a model:
    pass it to a jitted function, map over it, cut it again (layer to layer). What does not depend
    on `z` (the layers before it, skip connections around it) is computed once, here, and never
    again when `tail` runs: at depth d a gradient of `tail` costs 2(1 - d) forward passes of the
    model. A gradient of `tail` is exact; completeness of a path attribution with respect to `z`
    holds where every path from input to output crosses the cut.

    What has an effect, such as `jax.debug.print`, goes with the values it is given: if they depend
    on `z` it happens whenever `tail` runs, and otherwise once, here.

    Args:
        model: anything that `as_model` takes.
        *inputs: what the model is called with.
        at: the name of a layer. Several names are a joint cut: `z` is then a dict, and no layer may
            lie upstream of another.
        score: `outputs -> scalar`; None leaves the tail as it is.
        **kwargs: further arguments of the model.

    Returns:
        `(z, tail)`; with a score `(z, fn)`, where `fn(z) = score(tail(z))` is what a method takes.
        Integers beside the floats of an activation are then held fixed: they are None in `z`, and
        `fn` puts them back.

    Raises:
        ValueError: no such layer, several of that name, or a value that cannot be reached; a layer
            of a scan without its iteration (planting all iterations at once would sever the
            gradient between them); the output does not depend on the layer; one of several layers
            lies upstream of another; a custom derivative rule behind the layer uses a traced value
            that is not among its arguments.
        TypeError: `at` is not a name, `score` is not a function, or an input has no values.

    Example:
        >>> import attrax, jax, jax.numpy as jnp
        >>> def model(x):
        ...     return attrax.tap("square", x ** 2).sum()
        >>> z, tail = attrax.cut(model, jnp.array([1.0, 3.0]), at="square")
        >>> z
        Array([1., 9.], dtype=float32)
        >>> tail(z), jax.grad(tail)(z)
        (Array(10., dtype=float32), Array([1., 1.], dtype=float32))
        >>> z, fn = attrax.cut(model, jnp.array([1.0, 3.0]), at="square", score=jnp.log)
        >>> fn(z)
        Array(2.3025851, dtype=float32)
    """
    if score is not None:
        as_score(score)
    names = tuple(sorted(several(at)))  # as a dict of activations is flattened
    reading, args = read_values(model, inputs, kwargs, "cut")
    is_single = isinstance(at, str)
    parts = reading.derive(("cut", names, is_single), lambda: _Cut(reading, names, is_single))
    z, tail = parts.run(args)
    return (z, tail) if score is None else _scored(z, tail, score)


def _scored(z: PyTree, tail: Model, score: Score) -> tuple[PyTree, Callable[[PyTree], Any]]:
    """What a method takes: an activation of floats, and a score as a function of it."""
    leaves, tree = jax.tree.flatten(z)
    smooth = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    if all(smooth) or not any(smooth):
        return z, tail.then(score)
    pairs = list(zip(leaves, smooth, strict=True))

    def fn(z: PyTree) -> Any:
        given = zip(tree.flatten_up_to(z), pairs, strict=True)
        whole = [new if is_smooth else leaf for new, (leaf, is_smooth) in given]
        return score(tail(jax.tree.unflatten(tree, whole)))

    return jax.tree.unflatten(tree, [leaf if kept else None for leaf, kept in pairs]), fn


class _Cut:
    """A program cut at layers, made once for all inputs of the same shapes."""

    def __init__(self, reading: Reading, names: tuple[str, ...], is_single: bool):
        self.plan = Plan(reading, names, _to_cut)
        self.split = _split(self.plan)
        self.plan.refuse_lost_values(
            self.split.tail,
            self.split.num_values,
            f"behind the layer {' and '.join(map(repr, names))}",
        )
        targets = self.plan.targets
        examples = self.plan.by_name({t.name: [blank(a) for a in t.site.avals] for t in targets})
        self.tree = jax.tree.structure(examples[names[0]] if is_single else examples)
        self.head = reading.compiled(self.split.head)
        self.tail = _Tail(self.split, self.tree, reading, names)

    def run(self, args: Sequence[Value]) -> tuple[PyTree, Model]:
        # A tail cannot change: NumPy arrays, which may be written to later, are copied.
        given = [jnp.array(a) if isinstance(a, np.ndarray) else a for a in args]
        args = self.plan.arguments(given)
        made = self.head(*args)
        z = jax.tree.unflatten(self.tree, made[: self.split.num_values])
        return z, Model(_program.residuals(self.split, args, made), self.tail)


def _to_cut(target: Target) -> list[Target]:
    if target.is_stacked:
        first = shorten(target.each()[0].name)
        raise ValueError(
            f"the layer {shorten(target.name)!r} is computed by every iteration of a scan: cut at "
            f"one of them, as in {first!r}. For gradients at all of them use "
            "`attrax.gradients_at`."
        )
    return [target]


def _split(plan: Plan) -> _program.Split:
    names = ", ".join(map(repr, plan.names))
    try:
        return _program.split(plan.program.jaxpr, [target.name for target in plan.targets])
    except _program.NoDependence:
        raise ValueError(
            f"the output does not depend on {' or '.join(map(repr, plan.names))}: nothing flows "
            "from there to the output of the model."
        ) from None
    except _program.Upstream:
        raise ValueError(
            f"one of the layers {names} lies upstream of another: a joint cut would sever the "
            "gradient between them. Use `attrax.gradients_at`."
        ) from None


class _Tail:
    """The program of a tail: `(residuals, z) -> outputs`."""

    def __init__(
        self,
        split: _program.Split,
        tree: Any,
        reading: Reading,
        names: Sequence[str],
    ):
        self.jaxpr, self.tree, self.names = split.tail, tree, names
        self.outputs = reading.outputs
        self.avals = _program.input_avals(split.tail)[-split.num_values :]
        self.plain = reading.compiled(split.tail)
        self.kept = Kept()  # its readings: a tail cannot change

    def __repr__(self) -> str:
        return f"<tail from {', '.join(self.names)}>"

    def __call__(self, residuals: Sequence[Value], z: PyTree) -> PyTree:
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
