"""What a program holds: its taps and their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .._taps import Label, tap_p
from ._equations import OPENED, bodies_of, constants, is_var, like, open_jaxpr, with_bodies

RANGE = re.compile(r"\[(\d+):(\d+)\]")


class Site(NamedTuple):
    """A tap in a program: its label, what passes through it, and what it stands inside of."""

    label: Label
    avals: tuple[Any, ...]
    inside: tuple[str, ...]


def sites(jaxpr: Any, inside: tuple[str, ...] = ()) -> Iterator[Site]:
    """Every tap, in the order of execution."""
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive is tap_p:
            label = eqn.params["label"]
            if not label.names:  # inside a custom derivative or a `while_loop`: never named above
                text = "/".join(label.path) + label.method
                label = label._replace(names=(f"{text}#0{label.anchor}",))
            yield Site(label, tuple(v.aval for v in eqn.invars), inside)
        else:
            for body in bodies_of(eqn):
                yield from sites(body, (*inside, eqn.primitive.name))


def is_open(container: str) -> bool:
    """Whether a value inside of this kind of equation can be addressed."""
    return container in OPENED


def names_of(eqn: Any) -> tuple[str, ...]:
    return eqn.params["label"].names


def map_names(jaxpr: Any, change: Callable[[str], str]) -> Any:
    """The same program with other names at its taps."""

    def convert(eqn):
        if eqn.primitive is tap_p:
            label = eqn.params["label"]
            names = tuple(change(name) for name in label.names)
            return eqn.replace(params={"label": label._replace(names=names)})
        return with_bodies(eqn, lambda body: map_names(body, change))

    opened = open_jaxpr(jaxpr)
    return like(jaxpr, opened.replace(eqns=[convert(e) for e in opened.eqns]), constants(jaxpr))


def strip(jaxpr: Any, but: frozenset[str] = frozenset()) -> Any:
    """The same program without taps, but for those that bear one of these names."""
    opened, same = open_jaxpr(jaxpr), {}

    def get(atom):
        return same.get(atom, atom) if is_var(atom) else atom

    eqns = []
    for eqn in opened.eqns:
        invars = [get(a) for a in eqn.invars]
        if eqn.primitive is tap_p and but.isdisjoint(names_of(eqn)):
            same.update(zip(eqn.outvars, invars, strict=True))
            continue
        if any(True for body in bodies_of(eqn) for _ in sites(body)):
            eqn = with_bodies(eqn, lambda body: strip(body, but))
        eqns.append(eqn.replace(invars=invars))
    outvars = [get(a) for a in opened.outvars]
    return like(jaxpr, opened.replace(eqns=eqns, outvars=outvars), constants(jaxpr))


def holds(eqn: Any, name: str) -> bool:
    """Whether `name`, its iterations given as numbers, lies in this equation."""
    if eqn.primitive is tap_p:
        return any(concerns(template, name) for template in names_of(eqn))
    return any(holds(e, name) for body in bodies_of(eqn) for e in open_jaxpr(body).eqns)


def concerns(template: str, name: str) -> bool:
    """Whether `layers[0:4]/ff#0` covers `layers[2]/ff#0`."""
    pieces = RANGE.split(template)
    pattern = "".join(
        re.escape(p) if i % 3 == 0 else r"\[(\d+)\]" * (i % 3 == 1) for i, p in enumerate(pieces)
    )
    found = re.fullmatch(pattern, name)
    if found is None:
        return False
    bounds = zip(pieces[1::3], pieces[2::3], found.groups(), strict=True)
    return all(int(low) <= int(k) < int(high) for low, high, k in bounds)
