"""Evaluation with some equations replaced."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from ._equations import (
    Body,
    Env,
    Eqn,
    Value,
    bodies_of,
    input_avals,
    like,
    open_jaxpr,
    trace,
    with_bodies,
)

Rewrite: TypeAlias = Callable[..., Value]
"""From the values of an equation's operands to that of its one result."""

Rule: TypeAlias = Callable[[Eqn, int], Rewrite | None]
"""`(equation, rounds) -> Rewrite`, or None for an equation that stays as it is."""


def rewritten(jaxpr: Body, args: Sequence[Value], rule: Rule, rounds: int = 1) -> list[Value]:
    """Evaluate a program with those equations replaced for which `rule` gives another function.

    `rounds` is how often it runs, as the body of a loop: what concerns weights alone is computed
    once for all of them.
    """
    env, opened = Env(jaxpr, args), open_jaxpr(jaxpr)
    waiting: list[Eqn] = []
    for eqn in opened.eqns:
        change, inside = rule(eqn, rounds), rounds * _rounds(eqn)
        if change is None and not any(_concerned(body, rule, inside) for body in _bodies(eqn)):
            waiting.append(eqn)
            continue
        env.bind(jaxpr, waiting)
        waiting = []
        if change is None:
            body = functools.partial(_rewritten_body, rule=rule, rounds=inside)
            env.bind(jaxpr, [with_bodies(eqn, body)])
        else:
            env.write(eqn, [change(*env.read(eqn.invars))])
    env.bind(jaxpr, waiting)
    return env.read(opened.outvars)


def _rewritten_body(body: Body, rule: Rule, rounds: int) -> Body:
    """A program inside of an equation, rewritten, in the form in which the equation holds it."""
    if not _concerned(body, rule, rounds):
        return body
    found = trace(lambda *args: rewritten(body, args, rule, rounds), input_avals(body))
    inputs, count = found.jaxpr.invars, len(found.consts)
    opened = found.jaxpr.replace(constvars=inputs[:count], invars=inputs[count:])
    return like(body, opened, found.consts)


def _concerned(jaxpr: Body, rule: Rule, rounds: int) -> bool:
    return any(
        rule(eqn, rounds) is not None
        or any(_concerned(body, rule, rounds * _rounds(eqn)) for body in _bodies(eqn))
        for eqn in open_jaxpr(jaxpr).eqns
    )


def _rounds(eqn: Eqn) -> int:
    return eqn.params["length"] if eqn.primitive.name == "scan" else 1


def _bodies(eqn: Eqn) -> Iterator[Body]:
    """The programs inside that can be traced alone: one of `shard_map` needs its mesh's axes."""
    return iter(()) if eqn.primitive.name == "shard_map" else bodies_of(eqn)
