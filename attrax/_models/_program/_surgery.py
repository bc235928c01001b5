"""Cut programs in two: bring a tap to the top level, then divide by dependence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._address import Address
from .._taps import Label, tap_p
from ._equations import (
    Atom,
    Body,
    Builder,
    Eqn,
    Jaxpr,
    Program,
    Value,
    Var,
    bodies_of,
    closed,
    is_var,
    open_jaxpr,
    piece,
    renamed,
    run,
    scan_parts,
    trace,
)
from ._sites import holds, label_of, map_labels, names_of, put_back, sites, taken_off


class Split(NamedTuple):
    """A program cut at taps: `head(*args) -> (*z, *made)`, `tail(*residuals, *z) -> outputs`."""

    head: jex.ClosedJaxpr
    tail: jex.ClosedJaxpr
    num_values: int
    inputs_kept: tuple[int | None, ...]  # per residual: the input it is, or None if `head` makes it


class NoDependence(Exception):
    """The outputs do not depend on the tap."""


class Upstream(Exception):
    """One of several taps lies upstream of another."""


class _Flow:
    """Which equations of a program depend on some of its taps, and which do not."""

    def __init__(self, jaxpr: Jaxpr, cut_at: Sequence[Eqn]):
        self.dependent: set[Var] = {v for eqn in cut_at for v in eqn.outvars}
        self.before: list[Eqn] = []
        self.after: list[Eqn] = []
        # What only passes through a tap, beside a value that depends: before it, it is this.
        self.beside: dict[Var, Atom] = {}
        for eqn in jaxpr.eqns:
            depends = [is_var(v) and v in self.dependent for v in eqn.invars]
            if any(eqn is tap for tap in cut_at):
                if any(depends):
                    raise Upstream
            elif not any(depends):
                self.before.append(eqn.replace(invars=renamed(eqn.invars, self.beside)))
            else:
                self.after.append(eqn)
                self._pass_on(eqn, depends)

    def _pass_on(self, eqn: Eqn, depends: Sequence[bool]) -> None:
        if eqn.primitive is not tap_p:
            self.dependent.update(eqn.outvars)
            return
        given = renamed(eqn.invars, self.beside)
        for var, source, concerned in zip(eqn.outvars, given, depends, strict=True):
            if concerned:
                self.dependent.add(var)
            else:
                self.beside[var] = source


def split(jaxpr: Body, names: Sequence[Address]) -> Split:
    """Cut a program, its taps at the top level, where `names` are.

    The tail holds exactly the equations that depend on the taps; whatever else it needs (skip
    connections, weights in another type) is computed in the head and handed over. An effect, such
    as printing, goes where its equation goes.
    """
    jaxpr = open_jaxpr(jaxpr)
    taps = {name: eqn for eqn in jaxpr.eqns for name in names_of(eqn)}
    cut_at = [taps[name] for name in names]
    flow = _Flow(jaxpr, cut_at)
    if not any(is_var(v) and v in flow.dependent for v in jaxpr.outvars):
        raise NoDependence
    after = _needed(flow.after, jaxpr.outvars)
    used = [v for eqn in after for v in eqn.invars] + list(jaxpr.outvars)
    made_after = {v for eqn in (*after, *cut_at) for v in eqn.outvars}
    needed = (v for v in used if is_var(v))
    residuals = list(dict.fromkeys(v for v in needed if v not in made_after))
    values = renamed([v for eqn in cut_at for v in eqn.invars], flow.beside)
    place = {v: i for i, v in enumerate(jaxpr.invars)}
    made = [v for v in residuals if v not in place]
    head = piece(jaxpr, _needed(flow.before, [*values, *made]), jaxpr.invars, [*values, *made])
    heads = [v for eqn in cut_at for v in eqn.outvars]
    tail = piece(jaxpr, after, [*residuals, *heads], jaxpr.outvars)
    return Split(head, tail, len(values), tuple(place.get(v) for v in residuals))


def upto(jaxpr: Body, names: Collection[Address]) -> jex.ClosedJaxpr:
    """The part of a program that computes the values at these taps; it returns nothing."""
    jaxpr = open_jaxpr(jaxpr)
    return piece(jaxpr, _needed(jaxpr.eqns, [], names), jaxpr.invars, [])


def _needed(
    eqns: Sequence[Eqn], outputs: Sequence[Atom], names: Collection[Address] = ()
) -> list[Eqn]:
    """The equations that `outputs` and taps need, or that have an effect, in order."""
    wanted = {v for v in outputs if is_var(v)}
    kept = []
    for eqn in reversed(eqns):
        asked = eqn.effects or any(_bears(eqn, name) for name in names)
        if asked or any(v in wanted for v in eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if is_var(v))
    return kept[::-1]


def _bears(eqn: Eqn, name: Address) -> bool:
    bodies = bodies_of(eqn)
    return name in names_of(eqn) or any(_bears(e, name) for b in bodies for e in open_jaxpr(b).eqns)


def expose(program: Program, name: Address) -> Program:
    """The same program with the tap `name` at its top level, its value without batch axes."""
    while True:
        jaxpr = program.jaxpr
        where = next(i for i, eqn in enumerate(jaxpr.eqns) if holds(eqn, name))
        eqn = jaxpr.eqns[where]
        label = label_of(eqn)
        if label is not None and not label.axes:
            return program
        program = _opened(program, where, name)


def _opened(program: Program, where: int, name: Address) -> Program:
    """The same program with one of its equations opened, so that `name` stands further out."""
    jaxpr, eqn = program.jaxpr, program.jaxpr.eqns[where]
    inside = trace(
        lambda *values: _OPEN[eqn.primitive.name](eqn, values, name), [v.aval for v in eqn.invars]
    )
    made = Builder()
    consts = [jex.Var(v.aval) for v in inside.jaxpr.invars[: len(inside.consts)]]
    outputs = made.inline(inside.jaxpr, [*consts, *eqn.invars])
    same = dict(zip(eqn.outvars, outputs, strict=True))
    rest = [e.replace(invars=renamed(e.invars, same)) for e in jaxpr.eqns[where + 1 :]]
    eqns = [*jaxpr.eqns[:where], *made.eqns, *rest]
    inputs = [*consts, *made.consts, *jaxpr.invars]
    opened = piece(jaxpr, eqns, inputs, renamed(jaxpr.outvars, same))
    return Program(open_jaxpr(opened), (*inside.consts, *made.consts.values(), *program.consts))


def _open_cut(body: Body, values: Sequence[Value], name: Address):
    """Run a body up to the tap; return the tap's value and the rest of the body as a function."""
    avals = [jax.typeof(v) for v in values]
    inner = expose(trace(lambda *args: run(body, args), avals), name)
    parts = split(inner.jaxpr, [name])
    args = [*inner.consts, *values]
    made = run(parts.head, args)
    tap = next(e for e in inner.jaxpr.eqns if name in names_of(e))
    z = tap_p.bind(*made[: parts.num_values], label=tap.params["label"])
    return z, residuals(parts, args, made), lambda rest, z: run(parts.tail, [*rest, *z])


def residuals(parts: Split, args: Sequence[Value], made: Sequence[Value]) -> list[Value]:
    """What the tail needs: inputs as they are, the rest as the head made it."""
    computed = iter(made[parts.num_values :])
    return [next(computed) if i is None else args[i] for i in parts.inputs_kept]


def _open_tap(eqn: Eqn, values: Sequence[Value], name: Address) -> list[Value]:
    # What is done to the batch axis, and what it is done to, is not named when this is read again.
    label: Label = eqn.params["label"]
    inner = taken_off(tap_p.bind(*values, label=None), label.axes)
    inner = tap_p.bind(*inner, label=label._replace(axes=()))
    return tap_p.bind(*put_back(inner, label.axes), label=None)


def _open_remat(eqn: Eqn, values: Sequence[Value], name: Address) -> list[Value]:
    z, rest, tail = _open_cut(next(bodies_of(eqn)), values, name)
    options = {k: eqn.params[k] for k in ("policy", "prevent_cse")}
    return jax.checkpoint(tail, **options)(rest, z)


def _open_cond(eqn: Eqn, values: Sequence[Value], name: Address) -> list[Value]:
    # The value is the one that the branch computes, also when another branch is taken; the output
    # then does not depend on it, and its gradient is zero.
    index, *operands = values
    bodies = list(bodies_of(eqn))
    chosen = next(
        i for i, b in enumerate(bodies) if any(holds(e, name) for e in open_jaxpr(b).eqns)
    )
    z, rest, tail = _open_cut(bodies[chosen], operands, name)

    def branch(i: int):
        if i == chosen:
            return lambda ops, rest, z: tail(rest, z)
        return lambda ops, rest, z: run(closed(bodies[i]), ops)

    return jax.lax.switch(index, [branch(i) for i in range(len(bodies))], operands, rest, z)


def _open_scan(eqn: Eqn, values: Sequence[Value], name: Address) -> list[Value]:
    scan, length = scan_parts(eqn, values), eqn.params["length"]
    template = next(t for s in sites(scan.body) for t in s.label.names if t.covers(name))
    low = template.ranges[0].low
    index = _iteration(template, name) - low

    def loop(carry: Sequence[Value], begin: int, end: int):
        if begin == end:
            return carry, None
        body = _iterations(scan.body, low + begin, low + end)
        xs = [jax.lax.slice_in_dim(x, begin, end) for x in scan.xs]
        return scan.call(body, carry, xs, end - begin)

    spans = [(0, index), (index + 1, length)]
    first, last = spans[::-1] if scan.options.get("reverse") else spans
    carry, ys_first = loop(scan.init, *first)
    xs = [jax.lax.index_in_dim(x, index, keepdims=False) for x in scan.xs]
    outs = run(_iterations(scan.body, low + index, None), [*scan.consts, *carry, *xs])
    carry, y = outs[: len(scan.init)], outs[len(scan.init) :]
    carry, ys_last = loop(carry, *last)
    ys = [ys_first, [jnp.expand_dims(v, 0) for v in y], ys_last]
    ys = ys[::-1] if scan.options.get("reverse") else ys
    joined = zip(*(part for part in ys if part is not None), strict=True)
    return [*carry, *(jnp.concatenate(parts) for parts in joined)]


def _iteration(template: Address, name: Address) -> int:
    """The number that `name` gives for the outermost scan that `template` leaves open."""
    pairs = zip(template.loops, name.loops, strict=True)
    return next(its.low for mine, its in pairs if mine.is_range)


def _iterations(body: Body, low: int, high: int | None) -> Body:
    """The body of a scan, run for some of its iterations only."""

    def narrowed(label: Label, eqn: Eqn, scans: int) -> Label:
        return label._replace(names=tuple(n.narrowed(low, high) for n in label.names))

    return map_labels(body, narrowed)


_OPEN: dict[str, Callable[[Eqn, Sequence[Value], Address], list[Any]]] = {
    tap_p.name: _open_tap,
    "scan": _open_scan,
    "cond": _open_cond,
    "remat": _open_remat,
    "remat2": _open_remat,
    "checkpoint": _open_remat,
}
