"""Plans: what a capture, a cut, gradients at layers and an intervention have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core._types import PyTree
from . import _program
from ._adapters import as_model
from ._names import Target, as_name, resolve
from ._program import Value
from ._reading import Reading, read


def read_values(
    model: Any, inputs: Sequence[Any], kwargs: Mapping[str, Any], word: str
) -> tuple[Reading, list[Value]]:
    """A reading for a function, called `word`, that computes.

    Raises:
        TypeError: an input is a shape without values.
    """
    reading, args = read(as_model(model), inputs, kwargs)
    if any(isinstance(a, jax.ShapeDtypeStruct) for a in args):
        raise TypeError(f"`{word}` computes and needs values; `attrax.layers` needs shapes only.")
    return reading, args


def several(at: object) -> tuple[str, ...]:
    """The names that `at` gives: one, or a sequence of them.

    Raises:
        TypeError: `at` is no name and holds none.
        ValueError: there is no name, or one twice.
    """
    given = (at,) if isinstance(at, str) or not isinstance(at, Iterable) else tuple(at)
    names = tuple(map(as_name, given))
    if not names:
        raise ValueError("`at` must name at least one layer.")
    if len(set(names)) < len(names):
        raise ValueError(f"`at` names a layer twice: {list(names)}.")
    return names


class Plan:
    """Layers of a reading, and its program with some taps at the top level.

    It is made once for all inputs of the same shapes. `outside` gives for a layer what of it is to
    be at the top level: the layer, its iterations one by one, or nothing.
    """

    def __init__(
        self,
        reading: Reading,
        names: Sequence[str],
        outside: Callable[[Target], Sequence[Target]],
    ):
        self.reading, self.names = reading, tuple(names)
        self.targets = [resolve(reading.sites, name) for name in names]
        if len({target.name for target in self.targets}) < len(self.targets):
            raise ValueError(f"`at` names a layer twice: {list(names)}.")
        self.parts = [list(outside(target)) or [target] for target in self.targets]
        self.program = reading.program
        for part in (part for target in self.targets for part in outside(target)):
            self.program = _program.expose(self.program, part.name)
        self.addresses = frozenset(part.name for parts in self.parts for part in parts)
        self._refuse_overlaps()
        self.stripped = _program.strip(self.program.jaxpr, self.addresses)

    def _refuse_overlaps(self) -> None:
        present = {n for s in _program.sites(self.program.jaxpr) for n in s.label.names}
        for name, parts in zip(self.names, self.parts, strict=True):
            if any(part.name not in present for part in parts):
                raise ValueError(
                    f"{name!r} means all iterations of a scan, of which another name means one: "
                    "ask for them in two calls."
                )

    def arguments(self, args: Sequence[Value]) -> list[Value]:
        """The arguments of this program, from those of the reading."""
        return [*self.program.consts, *args[len(self.reading.program.consts) :]]

    def by_name(self, values: _program.Kept) -> dict[str, PyTree]:
        """Values by address, as a dict of pytrees by the names that were asked for."""
        found = {}
        for name, target, parts in zip(self.names, self.targets, self.parts, strict=True):
            leaves = values[parts[0].name]
            if parts != [target]:
                columns = zip(*(values[part.name] for part in parts), strict=True)
                avals = zip(columns, target.avals, strict=True)
                leaves = [jnp.stack(column).reshape(aval.shape) for column, aval in avals]
            found[name] = jax.tree.unflatten(target.site.label.tree, leaves)
        return found

    def values_of(self) -> Callable[..., _program.Kept]:
        """A function from the program's inputs to the activations, by address."""
        needed = _program.upto(self.stripped, self.addresses)
        edits = _program.Edits({}, {}, self.addresses)

        def found(*args: Value) -> _program.Kept:
            return _program.edit(needed, args, edits)[1]

        return self.reading.jitted(found)

    def refuse_lost_values(self, jaxpr: _program.Body, num_values: int, where: str) -> None:
        """Refuse a program that cannot be differentiated by its last `num_values` inputs."""
        if self.reading.has_closures and _program.holds_dead_tracer(
            jaxpr, num_values, self.program.consts
        ):
            raise ValueError(
                f"{where} stands a function with its own derivative rule (custom_jvp, custom_vjp) "
                "whose rule uses a traced value that is not among its arguments: pass that value "
                "to it as an argument."
            )
