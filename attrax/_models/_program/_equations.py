"""Equations: pieces of programs, evaluation, the programs inside of an equation, scans by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import jax
import jax.extend.core as jex
import numpy as np

Eqn: TypeAlias = jex.JaxprEqn
Var: TypeAlias = jex.Var
Atom: TypeAlias = jex.Var | jex.Literal
Jaxpr: TypeAlias = jex.Jaxpr
Body: TypeAlias = jex.Jaxpr | jex.ClosedJaxpr  # as an equation holds it
Value: TypeAlias = Any
"""What a variable stands for: an array, or a tracer of one."""
Aval: TypeAlias = Any
"""The type of a variable: `.shape` and `.dtype`, unless it is a token or a reference."""

INLINED = {"jit", "pjit", "closed_call", "core_call", "core_closed_call"}
OPENED = {"scan", "cond", "remat", "remat2", "checkpoint"}


class Program(NamedTuple):
    """A jaxpr without constants, and the values of its leading inputs that were its constants."""

    jaxpr: Jaxpr
    consts: tuple[Value, ...]


def open_jaxpr(jaxpr: Body) -> Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jaxpr


def constants(jaxpr: Body) -> list[Value]:
    return list(getattr(jaxpr, "consts", ()))


def input_avals(jaxpr: Body) -> list[Aval]:
    return [v.aval for v in open_jaxpr(jaxpr).invars]


def output_avals(jaxpr: Body) -> list[Aval]:
    return [aval_of(v) for v in open_jaxpr(jaxpr).outvars]


def aval_of(atom: Atom) -> Aval:
    return atom.aval


def is_var(atom: Atom) -> TypeGuard[Var]:
    return not isinstance(atom, jex.Literal)


def is_dropped(atom: Atom) -> bool:
    return isinstance(atom, jex.DropVar)


def outputs_of(eqn: Eqn) -> list[Var]:
    return [v for v in eqn.outvars if not is_dropped(v)]


def piece(
    jaxpr: Jaxpr, eqns: Sequence[Eqn], inputs: Sequence[Var], outputs: Sequence[Atom]
) -> jex.ClosedJaxpr:
    """A closed program of some equations of another one."""
    effects = set().union(*(eqn.effects for eqn in eqns))
    debug_info = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    return jex.ClosedJaxpr(
        jaxpr.replace(
            constvars=[],
            invars=list(inputs),
            outvars=list(outputs),
            eqns=list(eqns),
            effects=effects,
            debug_info=debug_info,
        ),
        (),
    )


def run(jaxpr: Body, args: Sequence[Value]) -> list[Value]:
    """Evaluate a closed jaxpr, or an open one without constants."""
    return jex.jaxpr_as_fun(closed(jaxpr))(*args)


def trace(fn: Callable[..., Any], avals: Sequence[Aval], consts: Sequence[Value] = ()) -> Program:
    """The program of `fn`; `consts` are the values of its leading arguments that are constants."""
    traced = jax.make_jaxpr(fn)(*avals)
    # A NumPy array that was closed over may be written to later.
    found = [c.copy() if isinstance(c, np.ndarray) else c for c in constants(traced)]
    jaxpr = open_jaxpr(traced)
    hoisted = piece(jaxpr, jaxpr.eqns, [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars)
    return Program(open_jaxpr(hoisted), (*found, *consts))


class Env(dict[Var, Value]):
    """The values of a jaxpr's variables while it is evaluated."""

    def __init__(self, jaxpr: Body, args: Sequence[Value]):
        opened = open_jaxpr(jaxpr)
        super().__init__(zip(opened.constvars, constants(jaxpr), strict=True))
        self.update(zip(opened.invars, args, strict=True))

    def read(self, atoms: Sequence[Atom]) -> list[Value]:
        return [a.val if isinstance(a, jex.Literal) else self[a] for a in atoms]

    def write(self, eqn: Eqn, values: Sequence[Value]) -> None:
        self.update(zip(eqn.outvars, values, strict=True))

    def bind(self, jaxpr: Body, eqns: Sequence[Eqn]) -> None:
        """Evaluate equations as they stand."""
        inputs = list(dict.fromkeys(v for e in eqns for v in e.invars if is_var(v) and v in self))
        outputs = [v for e in eqns for v in outputs_of(e)]
        values = run(piece(open_jaxpr(jaxpr), eqns, inputs, outputs), self.read(inputs))
        self.update(zip(outputs, values, strict=True))


class Builder:
    """A program in the making: equations are added, with variables of their own where need be."""

    def __init__(self) -> None:
        self.eqns: list[Eqn] = []
        self.consts: dict[Var, Value] = {}

    def names(self, body: Body, inputs: Sequence[Atom]) -> dict[Var, Atom]:
        """What a body's inputs and constants are called here."""
        opened = open_jaxpr(body)
        same: dict[Var, Atom] = dict(zip(opened.invars, inputs, strict=True))
        for var, value in zip(opened.constvars, constants(body), strict=True):
            here = same[var] = jex.Var(var.aval)
            self.consts[here] = value
        return same

    def add(self, eqn: Eqn, same: dict[Var, Atom], fresh: bool) -> Eqn:
        """Add an equation of a body, with fresh variables for its results or with its own."""
        outvars = eqn.outvars
        if fresh:
            outvars = [v if is_dropped(v) else jex.Var(v.aval) for v in outvars]
        same.update(zip(eqn.outvars, outvars, strict=True))
        self.eqns.append(eqn.replace(invars=renamed(eqn.invars, same), outvars=outvars))
        return self.eqns[-1]

    def inline(self, body: Body, inputs: Sequence[Atom]) -> list[Atom]:
        """Add all equations of a body; return its outputs."""
        same, opened = self.names(body, inputs), open_jaxpr(body)
        for eqn in opened.eqns:
            self.add(eqn, same, fresh=True)
        return renamed(opened.outvars, same)


def renamed(atoms: Sequence[Atom], same: dict[Var, Atom]) -> list[Atom]:
    return [a if isinstance(a, jex.Literal) else same.get(a, a) for a in atoms]


def bodies_of(eqn: Eqn) -> Iterator[Body]:
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)):
                yield item


def held_arrays(program: Program) -> Iterator[Value]:
    """The constants of a program, and those of the programs inside of its equations."""
    yield from program.consts
    yield from _inner_constants(program.jaxpr)


def _inner_constants(jaxpr: Body) -> Iterator[Value]:
    for eqn in open_jaxpr(jaxpr).eqns:
        for body in bodies_of(eqn):
            yield from constants(body)
            yield from _inner_constants(body)


def with_bodies(eqn: Eqn, change: Callable[[Body], Body]) -> Eqn:
    """The equation with every program inside it changed (arities must stay)."""

    def convert(value: Any) -> Any:
        if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
            return change(value)
        if isinstance(value, (tuple, list)) and any(True for _ in _programs_in(value)):
            items = [convert(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    return eqn.replace(params={key: convert(value) for key, value in eqn.params.items()})


def _programs_in(items: Sequence[Any]) -> Iterator[Body]:
    return (item for item in items if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)))


def like(old: Body, opened: Jaxpr, consts: Sequence[Value]) -> Body:
    """`opened` in the form (open or closed) in which an equation holds `old`."""
    if isinstance(old, jex.ClosedJaxpr):
        return jex.ClosedJaxpr(opened, list(consts))
    return opened


def closed(body: Body) -> jex.ClosedJaxpr:
    return body if isinstance(body, jex.ClosedJaxpr) else jex.ClosedJaxpr(body, ())


class Scan(NamedTuple):
    """A scan equation and its operands, told apart by their shapes."""

    body: jex.ClosedJaxpr
    consts: list[Value]
    init: list[Value]
    xs: list[Value]
    options: dict[str, Any]

    def call(self, body: Body, init: Sequence[Value], xs: Sequence[Value], length: int):
        def step(carry, x):
            outs = run(body, [*self.consts, *carry, *x])
            return outs[: len(self.init)], outs[len(self.init) :]

        return jax.lax.scan(step, init, xs, length=length, **self.options)


def scan_parts(eqn: Eqn, values: Sequence[Value]) -> Scan:
    body = closed(next(bodies_of(eqn)))
    opened = open_jaxpr(body)
    # `xs` and `ys` have one axis more than what the body takes and gives; the carry has not.
    num_ys = count_stacked([v.aval for v in eqn.outvars], opened.outvars)
    num_xs = count_stacked([jax.typeof(v) for v in values], opened.invars)
    num_carry = len(eqn.outvars) - num_ys
    num_consts = len(values) - num_xs - num_carry
    options = {k: eqn.params[k] for k in ("reverse", "unroll") if k in eqn.params}
    values = list(values)
    cut = num_consts + num_carry
    return Scan(body, values[:num_consts], values[num_consts:cut], values[cut:], options)


def count_stacked(outside: Sequence[Aval], inside: Sequence[Atom]) -> int:
    """How many values of a scan have one axis more outside its body than inside."""
    within = [aval_of(atom) for atom in inside]
    return sum(o.ndim > i.ndim for o, i in zip(outside, within, strict=True))
