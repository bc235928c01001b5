"""Addresses: from what a user writes to one tap of a program, and the table of all of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _program
from ._containers import shown
from ._program import RANGE, Site


class Target(NamedTuple):
    """A tap, and the iterations asked for: one number (or None for all) for each enclosing scan."""

    site: Site
    template: str  # as in the program: "layers[0:4]/ff#0"
    iterations: tuple[int | None, ...]

    @property
    def is_stacked(self) -> bool:
        return None in self.iterations

    @property
    def is_iteration(self) -> bool:
        return bool(self.iterations) and not self.is_stacked

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(int(b) - int(a) for a, b in RANGE.findall(self.template))

    @property
    def name(self) -> str:
        """The name with its iterations filled in: "layers[2]/ff#0"."""
        chosen = iter(self.iterations)

        def fill(found: re.Match[str]) -> str:
            k = next(chosen)
            return found.group(0) if k is None else f"[{k}]"

        return RANGE.sub(fill, self.template)


def resolve(sites: Sequence[Site], at: str) -> Target:
    """The one tap that `at` means.

    Taps and modules come before named operations, those before primitives.

    Raises:
        ValueError: no such name, several of that name, or a value that cannot be reached.
    """
    if not isinstance(at, str):
        raise TypeError(f"`at` must be the name of a layer; got {type(at).__name__}.")
    for kinds in (("module", "tap"), ("function", "primitive")):
        found = [
            target
            for site in sites
            if site.label.kind in kinds
            for name in site.label.names
            if (target := _match(site, name, at)) is not None
        ]
        if found:
            return _only(found, at)
    raise ValueError(f"no layer {at!r}{_hint(sites, at)}")


def _match(site: Site, template: str, at: str) -> Target | None:
    text, _, rest = template.rpartition("#")
    count, colon, anchor = rest.partition(":")
    pieces = RANGE.split(text)
    pattern = re.escape(pieces[0])
    for low, high, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        pattern += rf"(?:\[(\d+)\]|\[{low}:{high}\]|)" + re.escape(literal)
    found = re.fullmatch(pattern + rf"(?:#{count})?" + re.escape(colon + anchor), at)
    if found is None:
        return None
    iterations = tuple(None if k is None else int(k) for k in found.groups())
    for k, low, high in zip(iterations, pieces[1::3], pieces[2::3], strict=True):
        if k is not None and not int(low) <= k < int(high):
            return None
    return Target(site, template, iterations)


def _only(found: list[Target], at: str) -> Target:
    if len(found) > 1:
        names = ", ".join(repr(t.template) for t in found[:8])
        raise ValueError(
            f"the layer {at!r} is ambiguous: it is computed {len(found)} times; write one of "
            f"{names}."
        )
    (target,) = found
    closed = [c for c in target.site.inside if not _program.is_open(c)]
    if closed:
        where = _PLACES.get(closed[0], f"an equation that is not opened ({closed[0]})")
        raise ValueError(
            f"the layer {at!r} lies inside {where} and cannot be reached: use the input or the "
            "output of that function."
        )
    if target.is_stacked and any(k is not None for k in target.iterations):
        raise ValueError(
            f"the layer {at!r} is computed by scans in one another: give the iterations of all of "
            f"them, or of none; it is {target.template!r}."
        )
    if len(target.iterations) != target.site.inside.count("scan"):
        raise ValueError(
            f"the layer {at!r} stands in a scan that its name does not tell: cut the function that "
            "is scanned instead."
        )
    if target.site.label.blocked:
        raise ValueError(
            f"the layer {at!r} has no value of one example: {target.site.label.blocked}."
        )
    return target


_PLACES = {
    "while": "a `while_loop`",
    "shard_map": "a `shard_map`",
    "custom_jvp_call": "a function with its own rule (custom_jvp_call)",
    "custom_vjp_call": "a function with its own rule (custom_vjp_call)",
}


def _hint(sites: Sequence[Site], at: str) -> str:
    names = sorted({n for s in sites for n in [*s.label.names, display(s, sites)]})
    plain = {RANGE.sub("", n): n for n in names} | {n: n for n in names}
    near = difflib.get_close_matches(at, plain, n=5, cutoff=0.5)
    for found in (s for n in near for s in sites if plain[n] in s.label.names):
        ranges = RANGE.findall(found.label.names[0])
        if ranges and re.sub(r"\[\d+\]", "", at) == RANGE.sub("", display(found, sites)):
            low, high = ranges[0]
            return f"; {display(found, sites)!r} has the iterations {low} to {int(high) - 1}."
    shown = list(dict.fromkeys(shorten(plain[n]) for n in near))
    known = [
        display(s, sites) for s in sites if s.label.kind in ("module", "tap") and not s.label.anchor
    ]
    if shown:
        return f"; the nearest are {', '.join(map(repr, shown))}. `attrax.layers` lists all."
    if known:
        return f"; there are {', '.join(map(repr, known[:8]))}. `attrax.layers` lists all."
    return ": the model has no named layers. Name values with `attrax.tap`."


def shorten(name: str) -> str:
    """A name without the count of a first call."""
    return re.sub(r"#0(?=:in$|$)", "", name)


def display(site: Site, sites: Sequence[Site]) -> str:
    """The shortest name that means this tap."""
    name = site.label.names[0]
    if site.label.kind not in ("module", "tap"):
        return name
    counts = {s.label.names[0] for s in sites if s.label.kind in ("module", "tap")}
    second = re.sub(r"#0(?=:in$|$)", "#1", name)
    return name if second == name or second in counts else shorten(name)


class Layer(NamedTuple):
    """A value inside a model that has a name.

    Attributes:
        name: its address; `layers[0:12]/ff` is computed by 12 iterations of a scan.
        shape: the shape of the activation (of one iteration); several, for several arrays.
        dtype: likewise.
    """

    name: str
    shape: Any
    dtype: Any


class Layers(tuple[Layer, ...]):
    """A tuple of `Layer` that prints as a table."""

    def __str__(self) -> str:
        rows = [("layer", "shape", "dtype"), *((x.name, str(x.shape), str(x.dtype)) for x in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join(lines)

    __repr__ = __str__


def table(sites: Sequence[Site]) -> Layers:
    """Outputs of modules, taps and named functions, in the order of execution."""
    rows = []
    for site in sites:
        if site.label.anchor or site.label.kind in ("primitive", "hidden"):
            continue
        if not all(_program.is_open(c) for c in site.inside):
            continue
        trees = [shown(site.label.tree, part) for part in _describe(site)]
        rows.append(Layer(display(site, sites), *trees))
    return Layers(rows)


def _describe(site: Site) -> tuple[list[Any], list[Any]]:
    return [a.shape for a in site.avals], [str(a.dtype) for a in site.avals]
