"""Change or read tapped values where they stand, all iterations of a scan included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

from .._address import Address
from .._taps import tap_p
from ._equations import OPENED, Body, Env, Eqn, Value, bodies_of, open_jaxpr, scan_parts
from ._sites import label_of, names_of, put_back, sites, taken_off

Edit: TypeAlias = Callable[[list[Value], Any], Sequence[Value]]
Kept: TypeAlias = dict[Address, list[Value]]


class Edits(NamedTuple):
    """What to do at taps: `change[name](values, feed[name])` replaces, `keep` is returned.

    `feed[name]` has one leading axis for each scan that the tap stands in.
    """

    change: Mapping[Address, Edit]
    feed: Mapping[Address, Any]
    keep: frozenset[Address]

    def within(self, eqn: Eqn) -> Edits:
        """The edits that lie inside of an equation."""
        if eqn.primitive.name not in OPENED:
            return Edits({}, {}, frozenset())
        names = {n for body in bodies_of(eqn) for s in sites(body) for n in s.label.names}
        return Edits(
            {n: f for n, f in self.change.items() if n in names},
            {n: f for n, f in self.feed.items() if n in names},
            self.keep & names,
        )


def edit(jaxpr: Body, args: Sequence[Value], edits: Edits) -> tuple[list[Value], Kept]:
    """Evaluate a program with edits at its taps: its outputs, and the values kept."""
    env, opened = Env(jaxpr, args), open_jaxpr(jaxpr)
    kept: Kept = {}
    waiting: list[Eqn] = []
    for eqn in opened.eqns:
        inner = edits.within(eqn)
        if eqn.primitive is not tap_p and not inner.change and not inner.keep:
            waiting.append(eqn)
            continue
        env.bind(jaxpr, waiting)
        waiting, values = [], env.read(eqn.invars)
        edited = _edit_tap if eqn.primitive is tap_p else _edit_inside
        values, found = edited(eqn, values, edits if eqn.primitive is tap_p else inner)
        env.write(eqn, values)
        kept.update(found)
    env.bind(jaxpr, waiting)
    return env.read(opened.outvars), kept


def _edit_tap(eqn: Eqn, values: list[Value], edits: Edits) -> tuple[list[Value], Kept]:
    label = label_of(eqn)
    names = [n for n in names_of(eqn) if n in edits.change or n in edits.keep]
    if label is None or not names:
        return values, {}
    inner, kept = taken_off(values, label.axes), {}
    for name in names:
        if name in edits.change:
            inner = list(edits.change[name](inner, edits.feed.get(name)))
        if name in edits.keep:
            kept[name] = inner
    return put_back(inner, label.axes), kept


def _edit_inside(eqn: Eqn, values: list[Value], edits: Edits) -> tuple[list[Value], Kept]:
    if eqn.primitive.name == "cond":
        index, *operands = values
        branches = [
            lambda ops, feed, body=body: edit(body, ops, edits._replace(feed=feed))[0]
            for body in bodies_of(eqn)
        ]
        return jax.lax.switch(index, branches, operands, dict(edits.feed)), {}
    if eqn.primitive.name != "scan":
        options = {k: eqn.params[k] for k in ("policy", "prevent_cse")}
        body = next(bodies_of(eqn))
        remat = jax.checkpoint(
            lambda ops, feed: edit(body, ops, edits._replace(feed=feed)), **options
        )
        return remat(values, dict(edits.feed))
    scan = scan_parts(eqn, values)

    def step(carry, x):
        x, feed = x
        outs, kept = edit(scan.body, [*scan.consts, *carry, *x], edits._replace(feed=feed))
        return outs[: len(carry)], (outs[len(carry) :], kept)

    xs = (scan.xs, dict(edits.feed))
    carry, (ys, kept) = jax.lax.scan(
        step, scan.init, xs, length=eqn.params["length"], **scan.options
    )
    return [*carry, *ys], kept
