"""Cut programs in two: bring a tap to the top level, then divide by dependence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._taps import tap_p
from ._equations import (
    Env,
    Program,
    bodies_of,
    closed,
    input_avals,
    is_var,
    open_jaxpr,
    piece,
    run,
    scan_parts,
    trace,
)
from ._sites import RANGE, concerns, holds, map_names, names_of, sites


class Split(NamedTuple):
    """A program cut at taps: `head(*args) -> (*z, *made)`, `tail(*residuals, *z) -> outputs`."""

    head: Any
    tail: Any
    num_values: int
    inputs_kept: tuple[int | None, ...]  # per residual: the input it is, or None if `head` makes it


class NoDependence(Exception):
    """The outputs do not depend on the tap."""


class Upstream(Exception):
    """One of several taps lies upstream of another."""


def split(jaxpr: Any, names: Sequence[str]) -> Split:
    """Cut a program, its taps at the top level, where `names` are.

    The tail holds exactly the equations that depend on the taps; whatever else it needs (skip
    connections, weights in another type) is computed in the head and handed over.
    """
    jaxpr = open_jaxpr(jaxpr)
    taps = {name: eqn for eqn in jaxpr.eqns if eqn.primitive is tap_p for name in names_of(eqn)}
    cut_at = [taps[name] for name in names]
    dependent = {v for eqn in cut_at for v in eqn.outvars}
    after = []
    for eqn in jaxpr.eqns:
        depends = any(is_var(v) and v in dependent for v in eqn.invars)
        if any(eqn is tap for tap in cut_at):
            if depends:
                raise Upstream
        elif depends:
            after.append(eqn)
            dependent.update(eqn.outvars)
    if not any(is_var(v) and v in dependent for v in jaxpr.outvars):
        raise NoDependence
    after = _needed(after, jaxpr.outvars)
    used = [v for eqn in after for v in eqn.invars] + list(jaxpr.outvars)
    residuals = list(dict.fromkeys(v for v in used if is_var(v) and v not in dependent))
    before = [e for e in jaxpr.eqns if not any(v in dependent for v in e.outvars)]
    values = [v for eqn in cut_at for v in eqn.invars]
    place = {v: i for i, v in enumerate(jaxpr.invars)}
    made = [v for v in residuals if v not in place]
    head = piece(jaxpr, _needed(before, [*values, *made]), jaxpr.invars, [*values, *made])
    heads = [v for eqn in cut_at for v in eqn.outvars]
    tail = piece(jaxpr, after, [*residuals, *heads], jaxpr.outvars)
    return Split(head, tail, len(values), tuple(place.get(v) for v in residuals))


def _needed(eqns: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The equations that `outputs` depend on, in order."""
    wanted = {v for v in outputs if is_var(v)}
    kept = []
    for eqn in reversed(eqns):
        if any(v in wanted for v in eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if is_var(v))
    return kept[::-1]


def expose(program: Program, name: str) -> Program:
    """The same program with the tap `name` at its top level."""
    while True:
        jaxpr = program.jaxpr
        where = next(i for i, eqn in enumerate(jaxpr.eqns) if holds(eqn, name))
        eqn = jaxpr.eqns[where]
        if eqn.primitive is tap_p:
            return program

        def opened(*args, jaxpr=jaxpr, where=where, eqn=eqn):
            env = Env(jaxpr, args)
            env.bind(jaxpr, jaxpr.eqns[:where])
            env.write(eqn, _OPEN[eqn.primitive.name](eqn, env.read(eqn.invars), name))
            env.bind(jaxpr, jaxpr.eqns[where + 1 :])
            return env.read(jaxpr.outvars)

        program = trace(opened, input_avals(jaxpr), program.consts)


def _open_cut(body: Any, values: Sequence[Any], name: str):
    """Run a body up to the tap; return the tap's value and the rest of the body as a function."""
    avals = [jax.typeof(v) for v in values]
    inner = expose(trace(lambda *args: run(body, args), avals), name)
    parts = split(inner.jaxpr, [name])
    args = [*inner.consts, *values]
    made = run(parts.head, args)
    tap = next(e for e in inner.jaxpr.eqns if e.primitive is tap_p and name in names_of(e))
    z = tap_p.bind(*made[: parts.num_values], label=tap.params["label"])
    return z, residuals(parts, args, made), lambda rest, z: run(parts.tail, [*rest, *z])


def residuals(parts: Split, args: Sequence[Any], made: Sequence[Any]) -> list[Any]:
    """What the tail needs: inputs as they are, the rest as the head made it."""
    computed = iter(made[parts.num_values :])
    return [next(computed) if i is None else args[i] for i in parts.inputs_kept]


def _open_remat(eqn, values, name):
    z, rest, tail = _open_cut(next(bodies_of(eqn)), values, name)
    options = {k: eqn.params[k] for k in ("policy", "prevent_cse")}
    return jax.checkpoint(tail, **options)(rest, z)


def _open_cond(eqn, values, name):
    # The value is the one that the branch computes, also when another branch is taken; the output
    # then does not depend on it, and its gradient is zero.
    index, *operands = values
    bodies = list(bodies_of(eqn))
    chosen = next(
        i for i, b in enumerate(bodies) if any(holds(e, name) for e in open_jaxpr(b).eqns)
    )
    z, rest, tail = _open_cut(bodies[chosen], operands, name)

    def branch(i):
        if i == chosen:
            return lambda ops, rest, z: tail(rest, z)
        return lambda ops, rest, z: run(closed(bodies[i]), ops)

    return jax.lax.switch(index, [branch(i) for i in range(len(bodies))], operands, rest, z)


def _open_scan(eqn, values, name):
    scan, length = scan_parts(eqn, values), eqn.params["length"]
    template = next(t for s in sites(scan.body) for t in s.label.names if concerns(t, name))
    low, high = map(int, RANGE.search(template).groups())  # pyright: ignore
    start = RANGE.search(template).start()  # pyright: ignore
    index = int(re.match(r"\[(\d+)\]", name[start:]).group(1)) - low  # pyright: ignore

    def part(text):
        return map_names(scan.body, lambda n: RANGE.sub(text, n, count=1))

    def loop(carry, begin, end):
        if begin == end:
            return carry, None
        body = part(f"[{low + begin}:{low + end}]")
        xs = [jax.lax.slice_in_dim(x, begin, end) for x in scan.xs]
        return scan.call(body, carry, xs, end - begin)

    assert high - low == length
    spans = [(0, index), (index + 1, length)]
    first, last = spans[::-1] if scan.options.get("reverse") else spans
    carry, ys_first = loop(scan.init, *first)
    xs = [jax.lax.index_in_dim(x, index, keepdims=False) for x in scan.xs]
    outs = run(part(f"[{low + index}]"), [*scan.consts, *carry, *xs])
    carry, y = outs[: len(scan.init)], outs[len(scan.init) :]
    carry, ys_last = loop(carry, *last)
    ys = [ys_first, [jnp.expand_dims(v, 0) for v in y], ys_last]
    ys = ys[::-1] if scan.options.get("reverse") else ys
    joined = zip(*(part for part in ys if part is not None), strict=True)
    return [*carry, *(jnp.concatenate(parts) for parts in joined)]


_OPEN: dict[str, Callable[..., Any]] = {
    "scan": _open_scan,
    "cond": _open_cond,
    "remat": _open_remat,
    "remat2": _open_remat,
    "checkpoint": _open_remat,
}
