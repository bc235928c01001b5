"""Which outputs of a program depend on which inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._equations import INLINED, bodies_of, count_stacked, is_var, open_jaxpr

_CALLS = INLINED | {"remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def depends(jaxpr: Any, given: Sequence[bool]) -> list[bool]:
    """For each output whether it depends on an input for which `given` is true."""
    opened = open_jaxpr(jaxpr)
    dependent = {v for v, g in zip(opened.invars, given, strict=True) if g}
    for eqn in opened.eqns:
        inputs = [is_var(a) and a in dependent for a in eqn.invars]
        if any(inputs):
            found = _through(eqn, inputs)
            dependent.update(v for v, f in zip(eqn.outvars, found, strict=True) if f)
    return [is_var(a) and a in dependent for a in opened.outvars]


def _through(eqn: Any, inputs: list[bool]) -> list[bool]:
    everything = [True] * len(eqn.outvars)
    bodies = list(bodies_of(eqn))
    if eqn.primitive.name in _CALLS:
        return depends(bodies[0], inputs)
    if eqn.primitive.name == "cond" and not inputs[0]:
        found = [depends(body, inputs[1:]) for body in bodies]
        return [any(column) for column in zip(*found, strict=True)]
    if eqn.primitive.name == "scan":
        return _through_scan(eqn, bodies[0], inputs)
    return everything


def _through_scan(eqn: Any, body: Any, inputs: list[bool]) -> list[bool]:
    """A carry depends on what it depends on after any number of iterations."""
    opened = open_jaxpr(body)
    num_carry = len(eqn.outvars) - count_stacked([v.aval for v in eqn.outvars], opened.outvars)
    num_xs = count_stacked([v.aval for v in eqn.invars], opened.invars)
    first = len(inputs) - num_xs - num_carry
    while True:
        found = depends(body, inputs)
        carry = [a or b for a, b in zip(inputs[first:], found[:num_carry], strict=False)]
        if carry == inputs[first : first + num_carry]:
            return found
        inputs = [*inputs[:first], *carry, *inputs[first + num_carry :]]
