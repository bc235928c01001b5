"""The naming of a program: every value of it gets its addresses, in two passes.

The first puts a tap behind every operation, with the scope it stands in and the scans around it;
the second counts what is called the same, in the order of execution. Equations are moved, not
evaluated.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.extend.core as jex

from .._address import Address, Blocked, Loop, words_of
from .._taps import Call, Label, tap_p
from ._equations import (
    INLINED,
    OPENED,
    Atom,
    Body,
    Builder,
    Eqn,
    Jaxpr,
    Program,
    Var,
    bodies_of,
    is_var,
    like,
    open_jaxpr,
    outputs_of,
    piece,
    renamed,
    with_bodies,
)
from ._sites import label_of, map_labels, viewed

Words: TypeAlias = tuple[str, ...]


class _Scope(NamedTuple):
    """A module whose call is running."""

    words: Words = ()
    call: Call | None = None


class _Placer(Builder):
    """The first pass over one program: jitted functions put in place, every operation tapped.

    The module that an operation belongs to follows from the taps themselves: the tap of a module's
    input opens its scope, the tap of its output closes it.
    """

    def __init__(self, scopes: list[_Scope]):
        super().__init__()
        self.scopes = scopes

    def place(self, body: Body, inputs: Sequence[Atom], fresh: bool) -> list[Atom]:
        """Add all equations of a body, each with its tap; return the body's outputs."""
        same, opened = self.names(body, inputs), open_jaxpr(body)
        named = {v for e in opened.eqns if _is_final(e) for v in e.invars if is_var(v)}
        made_by = {v: e for e in opened.eqns for v in e.outvars}
        for eqn in opened.eqns:
            if eqn.primitive is tap_p:
                self._label(self.add(eqn, same, fresh))
            elif eqn.primitive.name in INLINED:
                found = self.place(next(bodies_of(eqn)), renamed(eqn.invars, same), fresh=True)
                same.update(zip(eqn.outvars, found, strict=True))
                self._tap(eqn, same, [eqn.params.get("name", "")], [])
            else:
                added = self.add(eqn, same, fresh)
                if eqn.primitive.name in OPENED:
                    self.eqns[-1] = self._entered(added)
                if named.isdisjoint(eqn.outvars):
                    self._tap(eqn, same, _functions(eqn, made_by), [eqn.primitive.name])
        return renamed(opened.outvars, same)

    def _label(self, eqn: Eqn) -> None:
        """Give a tap of a module, or of `attrax.tap`, the address that its place tells."""
        label = label_of(eqn)
        if label is None or label.names:  # the latter: a tail that is read again
            return
        if label.call is not None and label.call.returns_arrays:
            if label.anchor:
                self.scopes.append(_Scope(words_of(label.path), label.call))
            elif any(scope.call is label.call for scope in self.scopes):
                while self.scopes.pop().call is not label.call:
                    pass
        words = words_of(label.path, label.method)
        if label.kind == "tap":
            words = (*self.scopes[-1].words, *words)
        label = label._replace(call=None, names=(Address(words, anchor=label.anchor),))
        self.eqns[-1] = eqn.replace(params={"label": label})

    def _tap(
        self, eqn: Eqn, same: dict[Var, Atom], functions: Sequence[str], primitives: Sequence[str]
    ) -> None:
        """Tap the results of a named function or of a primitive."""
        outputs = outputs_of(eqn)
        functions = [f for f in functions if f.isidentifier() and not f.startswith("_")]
        if not outputs or not (functions or primitives):
            return
        scope = self.scopes[-1].words
        names = tuple(Address((*scope, f":{name}")) for name in [*functions, *primitives])
        tree = jax.tree.structure(0 if len(outputs) == 1 else (0,) * len(outputs))
        label = Label("function" if functions else "primitive", (), tree=tree, names=names)
        invars, fresh = renamed(outputs, same), [jex.Var(v.aval) for v in outputs]
        self.eqns.append(
            eqn.replace(
                primitive=tap_p,
                params={"label": label},
                effects=set(),
                invars=invars,
                outvars=fresh,
            )
        )
        same.update(zip(outputs, fresh, strict=True))

    def _entered(self, eqn: Eqn) -> Eqn:
        """The equation with the programs inside it named; constants of theirs may go around it."""
        more: list[Var] = []

        def inside(body: Body) -> Body:
            placer, opened = _Placer(list(self.scopes)), open_jaxpr(body)
            outputs = placer.place(body, opened.invars, fresh=False)
            found = opened.replace(eqns=placer.eqns, outvars=outputs, constvars=[])
            if eqn.primitive.name in ("scan", "cond"):
                found = found.replace(constvars=list(placer.consts))
                return like(body, found, list(placer.consts.values()))
            # A remat holds its program without constants: they become operands.
            self.consts.update(placer.consts)
            more.extend(placer.consts)
            debug_info = found.debug_info._replace(arg_names=None, result_paths=None)
            return found.replace(invars=[*found.invars, *placer.consts], debug_info=debug_info)

        eqn = with_bodies(eqn, inside)
        if eqn.primitive.name == "scan":
            mark = _scan_mark(next(bodies_of(eqn)), self.scopes[-1].words, eqn.params["length"])
            eqn = with_bodies(eqn, lambda body: map_labels(body, _marked(mark)))
        return eqn.replace(invars=[*eqn.invars, *more])


def _is_final(eqn: Eqn) -> bool:
    """Whether a tap was there before this reading, so that what goes into it has its name."""
    label = label_of(eqn)
    return eqn.primitive is tap_p and (label is None or bool(label.names))


def _functions(eqn: Eqn, made_by: Mapping[Var, Eqn]) -> list[str]:
    """What an equation is called apart from its primitive."""
    if eqn.primitive.name == "name":  # jax.ad_checkpoint.checkpoint_name
        return [str(eqn.params["name"]).replace("/", "_")]
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        return [str(getattr(open_jaxpr(next(bodies_of(eqn))).debug_info, "func_name", ""))]
    return ["softmax"] if _is_softmax(eqn, made_by) else []


def _is_softmax(eqn: Eqn, made_by: Mapping[Var, Eqn]) -> bool:
    """exp(u) / broadcast(sum(exp(u))): `jax.nn.softmax` leaves no name of its own."""
    if eqn.primitive.name != "div":
        return False
    above, below = (None if isinstance(v, jex.Literal) else made_by.get(v) for v in eqn.invars)
    while below is not None and below.primitive.name in ("broadcast_in_dim", "reshape"):
        source = below.invars[0]
        below = None if isinstance(source, jex.Literal) else made_by.get(source)
    return (
        above is not None
        and below is not None
        and above.primitive.name == "exp"
        and below.primitive.name == "reduce_sum"
        and below.invars[0] is eqn.invars[0]
    )


def _scan_mark(body: Body, scope: Words, length: int) -> Loop:
    """Where the iteration is written: behind the module that is scanned over."""
    paths: list[Words] = []

    def seen(label: Label, eqn: Eqn, scans: int) -> Label:
        if label.kind in ("module", "tap"):
            words = label.names[0].words
            paths.append(words[: len(words) - bool(label.method)])
        return label

    map_labels(body, seen)
    prefix = _common_prefix(paths)
    outer = len(scope) if prefix[: len(scope)] == scope or not prefix else 0
    return Loop(max(len(prefix), outer + 1), 0, length)


def _common_prefix(paths: Sequence[Words]) -> Words:
    prefix = paths[0] if paths else ()
    for path in paths[1:]:
        while path[: len(prefix)] != prefix:
            prefix = prefix[:-1]
    return prefix


def _marked(mark: Loop):
    def change(label: Label, eqn: Eqn, scans: int) -> Label:
        # What a tail brings along may have stood in this scan when it was read first.
        names = tuple(n if len(n.ranges) > scans else n.inside(mark) for n in label.names)
        return label._replace(names=names)

    return change


class BatchAxis(NamedTuple):
    """The shape of a value at batch size one, and which of its axes is the batch (or None)."""

    shape: tuple[int, ...]
    axis: int | None


Axes: TypeAlias = Mapping[Address, list[BatchAxis] | Blocked]


class _Counter:
    """The second pass: counts what is called the same, and takes batch axes of size one away."""

    def __init__(self, axes: Axes | None):
        self.counts: Counter[Address] = Counter()
        self.used: defaultdict[Address, list[Address]] = defaultdict(list)
        self.axes = axes

    def label(self, label: Label, eqn: Eqn, scans: int) -> Label:
        if label.kind == "function":
            names = [self._count(n) for n in label.names if n.is_operation]
            label = label._replace(names=(names[0].as_function(), *names))
        else:
            label = label._replace(names=tuple(map(self._count, label.names)))
        return label if self.axes is None else _one_example(label, eqn, self.axes)

    def _count(self, name: Address) -> Address:
        """The name with its count: as it was in an earlier reading, unless that is taken."""
        base, count = name.base, name.count
        taken = self.used[base.counted(count)]
        if count is None or not all(name.is_apart_from(other) for other in taken):
            count = self.counts[base]
        self.counts[base] = max(self.counts[base], count + 1)
        name = name.counted(count)
        self.used[base.counted(count)].append(name)
        return name


_OTHER = Blocked("the model runs other operations at another batch size")


def _one_example(label: Label, eqn: Eqn, axes: Axes) -> Label:
    found = axes.get(label.names[0], _OTHER)
    if isinstance(found, Blocked):
        return label._replace(blocked=found)
    before = label.axes or ((),) * len(eqn.invars)
    avals = viewed([v.aval for v in eqn.invars], label)
    if [a.shape for a in avals] != [b.shape for b in found]:
        return label._replace(blocked=_OTHER)
    off = [() if b.axis is None else (b.axis,) for b in found]
    return label._replace(axes=tuple((*a, *b) for a, b in zip(before, off, strict=True)))


def normalise(program: Program, axes: Axes | None = None) -> Program:
    """The program with every value named; `axes` says which axis of a value is a batch of one."""
    placer, opened = _Placer([_Scope()]), open_jaxpr(program.jaxpr)
    outputs = placer.place(program.jaxpr, opened.invars, fresh=False)
    inputs: list[Any] = [*placer.consts, *opened.invars]
    placed = open_jaxpr(piece(opened, placer.eqns, inputs, outputs))
    counted: Jaxpr = open_jaxpr(map_labels(placed, _Counter(axes).label))
    return Program(counted, (*placer.consts.values(), *program.consts))
