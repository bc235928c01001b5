"""What a program holds: its taps and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from .._address import Address, words_of
from .._taps import Label, tap_p
from ._equations import (
    OPENED,
    Aval,
    Body,
    Eqn,
    Value,
    bodies_of,
    constants,
    like,
    open_jaxpr,
    renamed,
    with_bodies,
)


class Site(NamedTuple):
    """A tap in a program: its label, what passes through it, and what it stands inside of."""

    label: Label
    avals: tuple[Aval, ...]
    inside: tuple[str, ...]


def label_of(eqn: Eqn) -> Label | None:
    """The label of a tap; None for another equation, and for a tap that names nothing."""
    return eqn.params["label"] if eqn.primitive is tap_p else None


def names_of(eqn: Eqn) -> tuple[Address, ...]:
    label = label_of(eqn)
    return () if label is None else label.names


def sites(jaxpr: Body, inside: tuple[str, ...] = ()) -> Iterator[Site]:
    """Every tap that names something, in the order of execution."""
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive is not tap_p:
            for body in bodies_of(eqn):
                yield from sites(body, (*inside, eqn.primitive.name))
        elif (label := label_of(eqn)) is not None:
            if not label.names:  # inside a custom derivative or a `while_loop`: never named above
                words = words_of(label.path, label.method)
                label = label._replace(names=(Address(words, count=0, anchor=label.anchor),))
            yield Site(label, tuple(viewed([v.aval for v in eqn.invars], label)), inside)


def viewed(avals: Sequence[Aval], label: Label) -> list[Aval]:
    """The types of a tapped value without the axes that are not its own."""
    if not label.axes:
        return list(avals)
    return [_viewed(aval, axes) for aval, axes in zip(avals, label.axes, strict=True)]


def _viewed(aval: Aval, axes: tuple[int, ...]) -> Aval:
    shape = list(aval.shape)
    for axis in axes:
        del shape[axis]
    return jax.ShapeDtypeStruct(tuple(shape), aval.dtype) if axes else aval


def taken_off(values: Sequence[Value], axes: Sequence[tuple[int, ...]]) -> list[Value]:
    """Values without axes of size one: for each of them some, one after another."""
    return [_squeezed(v, some) for v, some in zip(values, axes or [()] * len(values), strict=True)]


def put_back(values: Sequence[Value], axes: Sequence[tuple[int, ...]]) -> list[Value]:
    """The inverse of `taken_off`."""
    return [_expanded(v, some) for v, some in zip(values, axes or [()] * len(values), strict=True)]


def _squeezed(value: Value, axes: tuple[int, ...]) -> Value:
    for axis in axes:
        value = jax.lax.squeeze(value, (axis,))
    return value


def _expanded(value: Value, axes: tuple[int, ...]) -> Value:
    for axis in reversed(axes):
        value = jax.lax.expand_dims(value, (axis,))
    return value


def is_open(container: str) -> bool:
    """Whether a value inside of this kind of equation can be addressed."""
    return container in OPENED


Relabel = Callable[[Label, Eqn, int], Label]
"""`(label, its tap, number of scans around it) -> label`"""


def map_labels(jaxpr: Body, change: Relabel, scans: int = 0) -> Body:
    """The same program with other labels at its taps, those that cannot be reached left alone."""

    def convert(eqn: Eqn) -> Eqn:
        label = label_of(eqn)
        if label is not None:
            return eqn.replace(params={"label": change(label, eqn, scans)})
        if not is_open(eqn.primitive.name):
            return eqn
        inner = scans + (eqn.primitive.name == "scan")
        return with_bodies(eqn, lambda body: map_labels(body, change, inner))

    opened = open_jaxpr(jaxpr)
    return like(jaxpr, opened.replace(eqns=[convert(e) for e in opened.eqns]), constants(jaxpr))


def strip(jaxpr: Body, but: frozenset[Address] = frozenset()) -> Body:
    """The same program without taps, but for those that bear one of these names."""
    opened, same = open_jaxpr(jaxpr), {}
    eqns = []
    for eqn in opened.eqns:
        invars = renamed(eqn.invars, same)
        if eqn.primitive is tap_p and but.isdisjoint(names_of(eqn)):
            same.update(zip(eqn.outvars, invars, strict=True))
            continue
        if any(_has_taps(body) for body in bodies_of(eqn)):
            eqn = with_bodies(eqn, lambda body: strip(body, but))
        eqns.append(eqn.replace(invars=invars))
    outvars = renamed(opened.outvars, same)
    return like(jaxpr, opened.replace(eqns=eqns, outvars=outvars), constants(jaxpr))


def _has_taps(jaxpr: Body) -> bool:
    return any(
        eqn.primitive is tap_p or any(map(_has_taps, bodies_of(eqn)))
        for eqn in open_jaxpr(jaxpr).eqns
    )


def holds(eqn: Eqn, name: Address) -> bool:
    """Whether `name`, its iterations given as numbers, lies in this equation."""
    if eqn.primitive is tap_p:
        return any(template.covers(name) for template in names_of(eqn))
    return any(holds(e, name) for body in bodies_of(eqn) for e in open_jaxpr(body).eqns)
