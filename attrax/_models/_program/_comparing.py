"""Two traces of one model, with taps and without: where do they first differ?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex
import numpy as np

from .._taps import tap_p
from ._equations import Program, bodies_of, is_var, open_jaxpr


class Difference(NamedTuple):
    """Where two programs differ: the module, and the operation inside of it."""

    path: tuple[str, ...]
    operation: str


class _Differs(Exception):
    """Raised where the walk finds a difference."""


def difference(tapped: Program, plain: Program) -> Difference | None:
    """The first operation of a tapped program that the plain one does not have."""
    walk = _Walk()
    try:
        known = _same_inputs(tapped, plain)
        walk.equations(tapped.jaxpr, plain.jaxpr, known)
        return None
    except _Differs:
        return Difference(walk.scopes[-1][0], walk.operation)


def _same_inputs(tapped: Program, plain: Program) -> dict[Any, Any]:
    """The variables of both that hold the same value; constants may come in another order."""
    ours, theirs = tapped.jaxpr.invars, plain.jaxpr.invars
    num, other = len(tapped.consts), len(plain.consts)
    if num != other:
        raise _Differs
    known = dict(zip(ours[num:], theirs[other:], strict=True))
    free = list(zip(theirs, plain.consts, strict=False))
    for variable, value in zip(ours, tapped.consts, strict=False):
        place = next((i for i, (_, v) in enumerate(free) if _equal(v, value)), None)
        if place is None:
            raise _Differs
        known[variable] = free.pop(place)[0]
    return known


class _Walk:
    """Goes through both programs at once; the taps say which module it stands in."""

    def __init__(self) -> None:
        self.scopes: list[tuple[tuple[str, ...], Any]] = [((), None)]
        self.operation = "output"

    def equations(self, tapped: Any, plain: Any, known: dict[Any, Any]) -> None:
        ours, theirs = open_jaxpr(tapped), open_jaxpr(plain)
        known.update(zip(ours.constvars, theirs.constvars, strict=False))
        remaining = iter(theirs.eqns)
        for eqn in ours.eqns:
            if eqn.primitive is tap_p:
                values = [known.get(a, a) if is_var(a) else a for a in eqn.invars]
                known.update(zip(eqn.outvars, values, strict=True))
                self._enter(eqn.params["label"])
                continue
            self.operation = eqn.primitive.name
            other = next(remaining, None)
            if other is None or other.primitive is not eqn.primitive:
                raise _Differs
            self._values(eqn.invars, other.invars, known)
            self._parameters(eqn, other)
            self.operation = eqn.primitive.name
            known.update(self._results(eqn.outvars, other.outvars))
        self.operation = "output"
        if next(remaining, None) is not None:
            raise _Differs
        self._values(ours.outvars, theirs.outvars, known)

    def _enter(self, label: Any) -> None:
        if label is None or label.call is None or not label.call.returns_arrays:
            return
        if label.anchor:
            self.scopes.append((label.path, label.call))
        elif any(call is label.call for _, call in self.scopes):
            while self.scopes.pop()[1] is not label.call:
                pass

    def _values(self, ours: Sequence[Any], theirs: Sequence[Any], known: dict[Any, Any]) -> None:
        if len(ours) != len(theirs):
            raise _Differs
        for one, two in zip(ours, theirs, strict=True):
            one = known.get(one, one) if is_var(one) else one
            if is_var(one) != is_var(two) or (is_var(one) and one is not two):
                raise _Differs
            if not is_var(one) and not (one.aval == two.aval and _equal(one.val, two.val)):
                raise _Differs

    def _results(self, ours: Sequence[Any], theirs: Sequence[Any]) -> list[tuple[Any, Any]]:
        if [v.aval for v in ours] != [v.aval for v in theirs]:
            raise _Differs
        return list(zip(ours, theirs, strict=True))

    def _parameters(self, eqn: Any, other: Any) -> None:
        ours, theirs = list(bodies_of(eqn)), list(bodies_of(other))
        if len(ours) != len(theirs) or eqn.params.keys() != other.params.keys():
            raise _Differs
        for key, value in eqn.params.items():
            if not _equal(value, other.params[key]):
                raise _Differs
        for one, two in zip(ours, theirs, strict=True):
            known = self._results(open_jaxpr(one).invars, open_jaxpr(two).invars)
            self.equations(one, two, dict(known))


def _equal(one: Any, two: Any) -> bool:
    """Whether two constants or parameters are the same, but for programs and functions in them."""
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(two) and all(map(_equal, one, two))
    if isinstance(one, (jex.Jaxpr, jex.ClosedJaxpr)) or _is_function(one):
        return True  # programs are compared equation by equation; a rule cannot be looked into
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
    found = one == two
    return found if isinstance(found, bool) else False


def _is_function(value: Any) -> bool:
    return isinstance(value, Callable) or hasattr(value, "call_wrapped")
