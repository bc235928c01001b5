"""Change or read tapped values where they stand, all iterations of a scan included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from .._taps import tap_p
from ._equations import OPENED, Env, bodies_of, open_jaxpr, scan_parts
from ._sites import names_of, sites

Edit = Callable[[list[Any], Any], list[Any]]


class Edits(NamedTuple):
    """What to do at taps: `change[name](values, feed[name])` replaces, `keep` is returned.

    `feed[name]` has one leading axis for each scan that the tap stands in.
    """

    change: Mapping[str, Edit]
    feed: Mapping[str, Any]
    keep: frozenset[str]

    def within(self, eqn: Any) -> Edits:
        names = {n for body in bodies_of(eqn) for s in sites(body) for n in s.label.names}
        return Edits(
            {n: f for n, f in self.change.items() if n in names},
            {n: f for n, f in self.feed.items() if n in names},
            self.keep & names,
        )


def edit(jaxpr: Any, args: Sequence[Any], edits: Edits) -> tuple[list[Any], dict[str, Any]]:
    """Evaluate a program with edits at its taps: its outputs, and the values kept."""
    env, opened, kept = Env(jaxpr, args), open_jaxpr(jaxpr), {}
    for eqn in opened.eqns:
        if eqn.primitive is tap_p:
            values = env.read(eqn.invars)
            for name in names_of(eqn):
                if name in edits.change:
                    values = edits.change[name](values, edits.feed.get(name))
                if name in edits.keep:
                    kept[name] = values
            env.write(eqn, values)
            continue
        inner = edits.within(eqn) if eqn.primitive.name in OPENED else Edits({}, {}, frozenset())
        if not inner.change and not inner.keep:
            env.bind(jaxpr, [eqn])
            continue
        values, found = _edit_inside(eqn, env.read(eqn.invars), inner)
        env.write(eqn, values)
        kept.update(found)
    return env.read(opened.outvars), kept


def _edit_inside(eqn: Any, values: list[Any], edits: Edits) -> tuple[list[Any], dict[str, Any]]:
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
