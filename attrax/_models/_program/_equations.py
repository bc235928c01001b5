"""Equations: pieces of programs, evaluation, the programs inside of an equation, scans by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex

INLINED = {"jit", "pjit", "closed_call", "core_call", "core_closed_call"}
OPENED = {"scan", "cond", "remat", "remat2", "checkpoint"}


class Program(NamedTuple):
    """A jaxpr without constants, and the values of its leading inputs that were its constants."""

    jaxpr: Any
    consts: tuple[Any, ...]


def open_jaxpr(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def constants(jaxpr: Any) -> list[Any]:
    return list(getattr(jaxpr, "consts", ()))


def input_avals(jaxpr: Any) -> list[Any]:
    return [v.aval for v in open_jaxpr(jaxpr).invars]


def is_var(atom: Any) -> bool:
    return not isinstance(atom, jex.Literal)


def piece(jaxpr: Any, eqns: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
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


def run(jaxpr: Any, args: Sequence[Any]) -> list[Any]:
    """Evaluate a closed jaxpr, or an open one without constants."""
    closed = jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jex.ClosedJaxpr(jaxpr, ())
    return jex.jaxpr_as_fun(closed)(*args)


def trace(fn: Callable[..., Any], avals: Sequence[Any], consts: Sequence[Any] = ()) -> Program:
    """The program of `fn`; `consts` are the values of its leading arguments that are constants."""
    closed = jax.make_jaxpr(fn)(*avals)
    jaxpr, found = open_jaxpr(closed), constants(closed)
    hoisted = piece(jaxpr, jaxpr.eqns, [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars)
    return Program(open_jaxpr(hoisted), (*found, *consts))


class Env(dict[Any, Any]):
    """The values of a jaxpr's variables while it is evaluated."""

    def __init__(self, jaxpr: Any, args: Sequence[Any]):
        opened = open_jaxpr(jaxpr)
        super().__init__(zip(opened.constvars, constants(jaxpr), strict=True))
        self.update(zip(opened.invars, args, strict=True))

    def read(self, atoms: Sequence[Any]) -> list[Any]:
        return [self[a] if is_var(a) else a.val for a in atoms]

    def write(self, eqn: Any, values: Sequence[Any]) -> None:
        self.update(zip(eqn.outvars, values, strict=True))

    def bind(self, jaxpr: Any, eqns: Sequence[Any]) -> None:
        """Evaluate equations as they stand."""
        inputs = list(dict.fromkeys(v for e in eqns for v in e.invars if is_var(v) and v in self))
        outputs = [v for e in eqns for v in e.outvars if not isinstance(v, jex.DropVar)]
        values = run(piece(open_jaxpr(jaxpr), eqns, inputs, outputs), self.read(inputs))
        self.update(zip(outputs, values, strict=True))


def bodies_of(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)):
                yield item


def held_arrays(program: Program) -> Iterator[Any]:
    """The constants of a program, and those of the programs inside of its equations."""
    yield from program.consts
    yield from _inner_constants(program.jaxpr)


def _inner_constants(jaxpr: Any) -> Iterator[Any]:
    for eqn in open_jaxpr(jaxpr).eqns:
        for body in bodies_of(eqn):
            yield from constants(body)
            yield from _inner_constants(body)


def with_bodies(eqn: Any, change: Callable[[Any], Any]) -> Any:
    """The equation with every program inside it changed (arities must stay)."""

    def convert(value: Any) -> Any:
        if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
            return change(value)
        if isinstance(value, (tuple, list)) and any(True for _ in _programs_in(value)):
            items = [convert(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    return eqn.replace(params={key: convert(value) for key, value in eqn.params.items()})


def _programs_in(items: Sequence[Any]) -> Iterator[Any]:
    return (item for item in items if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)))


def like(old: Any, opened: Any, consts: Sequence[Any]) -> Any:
    """`opened` in the form (open or closed) in which an equation holds `old`."""
    if isinstance(old, jex.ClosedJaxpr):
        return jex.ClosedJaxpr(opened, list(consts))
    return opened


def closed(body: Any) -> Any:
    return body if isinstance(body, jex.ClosedJaxpr) else jex.ClosedJaxpr(body, ())


class Scan(NamedTuple):
    """A scan equation and its operands, told apart by their shapes."""

    body: Any
    consts: list[Any]
    init: list[Any]
    xs: list[Any]
    options: dict[str, Any]

    def call(self, body, init, xs, length):
        def step(carry, x):
            outs = run(body, [*self.consts, *carry, *x])
            return outs[: len(self.init)], outs[len(self.init) :]

        return jax.lax.scan(step, init, xs, length=length, **self.options)


def scan_parts(eqn: Any, values: Sequence[Any]) -> Scan:
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


def count_stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many values of a scan have one axis more outside its body than inside."""
    return sum(o.ndim > i.aval.ndim for o, i in zip(outside, inside, strict=True))
