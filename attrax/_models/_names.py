"""From the address that a user writes to one tap of a program, and the table of all of them."""

from __future__ import annotations

import difflib
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from .._core._checks import ADAPTERS
from . import _program
from ._address import Address, Blocked, parse
from ._containers import shown
from ._program import Site


class Target(NamedTuple):
    """A tap, and the iterations asked for: one number (or None for all) for each scan around it."""

    site: Site
    template: Address  # as in the program: "layers[0:4]/ff#0"
    iterations: tuple[int | None, ...]

    @property
    def is_stacked(self) -> bool:
        return None in self.iterations

    @property
    def is_iteration(self) -> bool:
        return bool(self.iterations) and not self.is_stacked

    @property
    def is_in_branch(self) -> bool:
        return "cond" in self.site.inside

    @property
    def name(self) -> Address:
        """The address with its iterations filled in: "layers[2]/ff#0"."""
        return self.template.at(self.iterations)

    def each(self) -> list[Target]:
        """Its iterations one by one, as they are stacked."""
        pairs = zip(self.template.ranges, self.iterations, strict=True)
        chosen = (range(r.low, r.low + r.length) if k is None else (k,) for r, k in pairs)
        return [self._replace(iterations=each) for each in itertools.product(*chosen)]

    @property
    def avals(self) -> list[jax.ShapeDtypeStruct]:
        """The types of the activation, all iterations of the scans around it in front."""
        pairs = zip(self.template.ranges, self.iterations, strict=True)
        lead = tuple(r.length for r, k in pairs if k is None)
        return [jax.ShapeDtypeStruct((*lead, *a.shape), a.dtype) for a in self.site.avals]


def as_name(at: object) -> str:
    """Refuse what is no name of a layer.

    Raises:
        TypeError: `at` is not a string.
    """
    if not isinstance(at, str):
        kind = "None" if at is None else f"a {type(at).__name__}"
        raise TypeError(
            f"`at` must be the name of a layer, such as 'block3/conv'; got {kind}. "
            "`attrax.layers(model, *inputs)` lists the names."
        )
    return at


def resolve(sites: Sequence[Site], at: str) -> Target:
    """The one tap that `at` means.

    Taps and modules come before named operations and primitives.

    Raises:
        ValueError: no such name, several of that name, or a value that cannot be reached.
    """
    wanted = parse(at)
    for kinds in (("module", "tap"), ("function", "primitive")):
        found = [
            Target(site, name, iterations)
            for site in sites
            if site.label.kind in kinds
            for name in site.label.names
            if (iterations := name.means(wanted)) is not None
        ]
        if found:
            return _only(found, at)
    raise ValueError(f"no layer {at!r}{_hint(sites, at)}")


def _only(found: list[Target], at: str) -> Target:
    if len(found) > 1:
        names = ", ".join(repr(str(t.template)) for t in found[:8])
        raise ValueError(
            f"the layer {at!r} is ambiguous: it is computed {len(found)} times; write one of "
            f"{names}."
        )
    (target,) = found
    blocked = reach(target.site)
    if blocked is not None:
        raise ValueError(f"the layer {at!r} {blocked.reason}.")
    if target.is_stacked and any(k is not None for k in target.iterations):
        raise ValueError(
            f"the layer {at!r} is inside nested scans: give an iteration for every one of "
            f"them, or of none; it is {str(target.template)!r}."
        )
    return target


_PLACES = {
    "while": "a `while_loop`",
    "shard_map": "a `shard_map`",
    "custom_jvp_call": "a function with a custom derivative rule (custom_jvp_call)",
    "custom_vjp_call": "a function with a custom derivative rule (custom_vjp_call)",
}


def reach(site: Site) -> Blocked | None:
    """Why a value cannot be reached, if it cannot."""
    closed = [c for c in site.inside if not _program.is_open(c)]
    if closed:
        where = _PLACES.get(closed[0], f"an equation that is not opened ({closed[0]})")
        return Blocked(
            f"lies inside {where} and cannot be reached: use the input or the output of that "
            "function"
        )
    if site.label.blocked is not None:
        return Blocked(f"has no per-example value: {site.label.blocked.reason}")
    return None


def _hint(sites: Sequence[Site], at: str) -> str:
    """What to write instead of a name that nothing bears."""
    display = Display(sites)
    wanted = parse(at)
    for site in sites:
        for name in site.label.names:
            if name.ranges and name.base == wanted.base and name.count == (wanted.count or 0):
                first = name.ranges[0]
                last = first.low + first.length - 1
                return f"; {display(site)!r} has the iterations {first.low} to {last}."
    names = {name for s in sites for name in [*map(str, s.label.names), display(s)]}
    plain = {str(parse(n).base.counted(parse(n).count)): n for n in names} | {n: n for n in names}
    near = difflib.get_close_matches(at, plain, n=5, cutoff=0.5)
    shown = list(dict.fromkeys(shorten(parse(plain[n])) for n in near))
    if shown:
        return f"; the nearest are {', '.join(map(repr, shown))}. `attrax.layers` lists all."
    known = [display(s) for s in sites if s.label.kind in ("module", "tap") and not s.label.anchor]
    if known:
        return f"; there are {', '.join(map(repr, known[:8]))}. `attrax.layers` lists all."
    return f": the model has no named layers. Name values with `attrax.tap`{_or_adapt()}."


def _or_adapt() -> str:
    """How to give a module of Flax, whose layers have names, where Flax is loaded."""
    known = [f"`{adapter}`" for package, adapter in ADAPTERS.items() if package in sys.modules]
    return f", or give a module of Flax by {' or '.join(known)}" if known else ""


def shorten(name: Address) -> str:
    """A name without the count of a first call."""
    return str(name.counted(None) if name.count == 0 else name)


class Display:
    """The shortest name that means a tap, and no other one of the program."""

    def __init__(self, sites: Sequence[Site]):
        self.counts: defaultdict[Address, set[int | None]] = defaultdict(set)
        for site in sites:
            if site.label.kind in ("module", "tap"):
                self.counts[site.label.names[0].base].add(site.label.names[0].count)

    def __call__(self, site: Site) -> str:
        name = site.label.names[0]
        counts = self.counts.get(name.base)
        if site.label.kind in ("module", "tap"):
            return shorten(name) if counts == {0} else str(name)
        return str(name if counts is None else site.label.names[1])  # `relu`, or `:relu`


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


_WIDTH = 60  # of a column of the table; several arrays that need more are summed up


class Layers(tuple[Layer, ...]):
    """A tuple of `Layer` that prints as a table."""

    def __str__(self) -> str:
        rows = [("layer", "shape", "dtype"), *((x.name, *_columns(x)) for x in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join(lines)

    __repr__ = __str__


def _columns(layer: Layer) -> tuple[str, str]:
    """The shape and the dtype as text: of many arrays, how many there are and the largest."""
    shape, dtype = str(layer.shape), str(layer.dtype)
    if max(len(shape), len(dtype)) <= _WIDTH:
        return shape, dtype
    shapes = jax.tree.leaves(layer.shape, is_leaf=_is_shape)
    largest = max(shapes, key=math.prod)
    kinds = sorted(set(jax.tree.leaves(layer.dtype)))
    return f"{len(shapes)} arrays, up to {largest}", ", ".join(kinds)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) for n in value)


def table(sites: Sequence[Site]) -> Layers:
    """Outputs of modules, taps and named functions, in the order of execution."""
    display, rows = Display(sites), []
    for site in sites:
        if site.label.anchor or site.label.kind == "primitive" or reach(site) is not None:
            continue
        shapes, dtypes = [a.shape for a in site.avals], [str(a.dtype) for a in site.avals]
        trees = [shown(site.label.tree, part) for part in (shapes, dtypes)]
        rows.append(Layer(display(site), *trees))
    return Layers(rows)
