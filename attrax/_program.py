"""Reads and rewrites traced programs: the only module that looks inside equations.

A program is a jaxpr. `normalise` brings it into a form in which every value has an address: jitted
functions are inlined, and every module call, named function and primitive is followed by a tap that
carries its names. On that form everything else is a small graph operation:

    expose   move one tap to the top level (out of a remat, a branch, one iteration of a scan)
    split    the equations that depend on a tap (tail) and all the others (head)
    edit     add to, replace or read tapped values where they stand, all iterations of a scan included
    strip    remove the taps again: what is run holds none

The keys of `eqn.params` are not an API of JAX. Only the keys `jaxpr`, `branches`, `length`,
`reverse`, `unroll`, `policy`, `prevent_cse` and `name` are read here; arities are derived from shapes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from ._taps import Label, tap_p

_INLINED = {"jit", "pjit", "closed_call", "core_call", "core_closed_call"}
_OPENED = {"scan", "cond", "remat", "remat2", "checkpoint"}
_RANGE = re.compile(r"\[(\d+):(\d+)\]")


class Program(NamedTuple):
    """A jaxpr without constants, and the values of its leading inputs that were its constants."""

    jaxpr: Any
    consts: tuple[Any, ...]


# ------------------------------------------------------------------------------------------ pieces


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _consts(jaxpr: Any) -> list[Any]:
    return list(getattr(jaxpr, "consts", ()))


def _avals(jaxpr: Any) -> list[Any]:
    return [v.aval for v in _open(jaxpr).invars]


def input_avals(jaxpr: Any) -> list[Any]:
    """The shapes and dtypes of a program's inputs."""
    return _avals(jaxpr)


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, jex.Literal)


def _piece(jaxpr: Any, eqns: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """A closed program of some equations of another one."""
    effects = set().union(*(eqn.effects for eqn in eqns))
    debug_info = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    return jex.ClosedJaxpr(
        jaxpr.replace(
            constvars=[],
            invars=list(inputs),
            outvars=list(outputs),
            eqns=list(eqns),
            effects=effects,
            debug_info=debug_info,
        ),
        (),
    )


def run(jaxpr: Any, args: Sequence[Any]) -> list[Any]:
    """Evaluate a closed jaxpr, or an open one without constants."""
    closed = jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jex.ClosedJaxpr(jaxpr, ())
    return jex.jaxpr_as_fun(closed)(*args)


def trace(fn: Callable[..., Any], avals: Sequence[Any], consts: Sequence[Any] = ()) -> Program:
    """The program of `fn`; `consts` are the values of its leading arguments that are constants."""
    closed = jax.make_jaxpr(fn)(*avals)
    jaxpr, found = _open(closed), _consts(closed)
    hoisted = _piece(jaxpr, jaxpr.eqns, [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars)
    return Program(_open(hoisted), (*found, *consts))


class _Env(dict[Any, Any]):
    """The values of a jaxpr's variables while it is evaluated."""

    def __init__(self, jaxpr: Any, args: Sequence[Any]):
        opened = _open(jaxpr)
        super().__init__(zip(opened.constvars, _consts(jaxpr), strict=True))
        self.update(zip(opened.invars, args, strict=True))

    def read(self, atoms: Sequence[Any]) -> list[Any]:
        return [self[a] if _is_var(a) else a.val for a in atoms]

    def write(self, eqn: Any, values: Sequence[Any]) -> None:
        self.update(zip(eqn.outvars, values, strict=True))

    def bind(self, jaxpr: Any, eqns: Sequence[Any]) -> None:
        """Evaluate equations as they stand."""
        inputs = list(dict.fromkeys(v for e in eqns for v in e.invars if _is_var(v) and v in self))
        outputs = [v for e in eqns for v in e.outvars if not isinstance(v, jex.DropVar)]
        values = run(_piece(_open(jaxpr), eqns, inputs, outputs), self.read(inputs))
        self.update(zip(outputs, values, strict=True))


def _bodies(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)):
                yield item


def _with_bodies(eqn: Any, change: Callable[[Any], Any]) -> Any:
    """The equation with every program inside it changed (arities must stay)."""

    def convert(value: Any) -> Any:
        if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
            return change(value)
        if isinstance(value, (tuple, list)) and any(True for _ in _bodies_of(value)):
            return type(value)(convert(item) for item in value)
        return value

    return eqn.replace(params={key: convert(value) for key, value in eqn.params.items()})


def _bodies_of(items: Sequence[Any]) -> Iterator[Any]:
    return (item for item in items if isinstance(item, (jex.Jaxpr, jex.ClosedJaxpr)))


def _like(old: Any, opened: Any, consts: Sequence[Any]) -> Any:
    """`opened` in the form (open or closed) in which an equation holds `old`."""
    if isinstance(old, jex.ClosedJaxpr):
        return jex.ClosedJaxpr(opened, list(consts))
    return opened


# ------------------------------------------------------------------------------------------ naming


def _tap_paths(jaxpr: Any) -> Iterator[tuple[str, ...]]:
    for eqn in _open(jaxpr).eqns:
        if eqn.primitive is tap_p and not eqn.params["label"].names:
            yield eqn.params["label"].path
        for body in _bodies(eqn):
            yield from _tap_paths(body)


def _common_prefix(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    prefix = paths[0] if paths else ()
    for path in paths[1:]:
        while path[: len(prefix)] != prefix:
            prefix = prefix[:-1]
    return prefix


class _Mark(NamedTuple):
    """Iterations of an enclosing scan: written behind the path's component number `depth`."""

    depth: int
    text: str


class _Namer:
    """Gives every value of a program its addresses, in the order of execution.

    The module that an operation belongs to follows from the taps themselves: the tap of a module's
    input opens its scope, the tap of its output closes it.
    """

    def __init__(self, axes: Mapping[str, Sequence[Any]] | None = None):
        self.counts: Counter[str] = Counter()
        self.axes = axes

    def run(self, jaxpr, args, scopes: list[tuple[str, ...]], marks: tuple[_Mark, ...]):
        env, opened = _Env(jaxpr, args), _open(jaxpr)
        named = {v for e in opened.eqns if _is_final(e) for v in e.invars if _is_var(v)}
        made_by = {v: e for e in opened.eqns for v in e.outvars}
        for eqn in opened.eqns:
            if eqn.primitive is tap_p:
                values = self._tap(eqn.params["label"], env.read(eqn.invars), scopes, marks)
                env.write(eqn, values)
            elif eqn.primitive.name in _INLINED:
                body = next(_bodies(eqn))
                env.write(eqn, self.run(body, env.read(eqn.invars), scopes, marks))
                self._name(env, eqn, [eqn.params.get("name", "")], [], scopes, marks)
            else:
                if eqn.primitive.name in _OPENED:
                    env.bind(jaxpr, [self._enter(eqn, scopes, marks)])
                else:
                    env.bind(jaxpr, [eqn])
                if not any(v in named for v in eqn.outvars):
                    functions = [_function_name(eqn), "softmax" if _is_softmax(eqn, made_by) else ""]
                    self._name(env, eqn, functions, [eqn.primitive.name], scopes, marks)
        return env.read(opened.outvars)

    def _enter(self, eqn, scopes, marks):
        if eqn.primitive.name == "scan":
            (body,) = _bodies(eqn)
            marks = (*marks, _scan_mark(body, scopes[-1], eqn.params["length"]))

        def rename(body):
            inner = list(scopes)
            named = jax.make_jaxpr(lambda *args: self.run(body, args, inner, marks))(*_avals(body))
            return _like(body, _open(named), _consts(named))

        return _with_bodies(eqn, rename)

    def _tap(self, label: Label, values, scopes, marks):
        if label.names:  # named by an earlier reading: a tail that is read again
            for name in label.names:
                base, count = _uncount(name)
                self.counts[base] = max(self.counts[base], count + 1)
            return self._bind(label, values)
        if label.kind == "module" and label.anchor:
            scopes.append(label.path)
        elif label.kind == "module" and label.path in scopes:
            del scopes[len(scopes) - 1 - scopes[::-1].index(label.path) :]
            scopes[:] = scopes or [()]
        path = label.path if label.kind == "module" else (*scopes[-1], *label.path)
        text = _join(path, marks) + label.method
        return self._bind(label._replace(names=(self._count(text, label.anchor),)), values)

    def _name(self, env, eqn, functions, primitives, scopes, marks):
        """Tap the results of a named function or of a primitive."""
        outputs = [v for v in eqn.outvars if not isinstance(v, jex.DropVar)]
        functions = [f for f in functions if f.isidentifier() and not f.startswith("_")]
        if not outputs or not (functions or primitives):
            return
        paths = [(*scopes[-1], f) for f in functions] + [(*scopes[-1], f":{p}") for p in primitives]
        names = tuple(self._count(_join(path, marks).replace("/:", ":"), "") for path in paths)
        names += tuple(_as_operation(name) for name in names[: len(functions)])
        kind = "function" if functions else "primitive"
        tree = jax.tree.structure(0 if len(outputs) == 1 else (0,) * len(outputs))
        label = Label(kind, scopes[-1], tree=tree, names=names)
        env.update(zip(outputs, self._bind(label, env.read(outputs)), strict=True))

    def _count(self, text: str, anchor: str) -> str:
        base = text + anchor
        self.counts[base] += 1
        return f"{text}#{self.counts[base] - 1}{anchor}"

    def _bind(self, label: Label, values):
        if self.axes is None:
            return tap_p.bind(*values, label=label)
        axes = self.axes.get(label.names[0], [None] * len(values))
        if isinstance(axes, str):
            return tap_p.bind(*values, label=label._replace(blocked=axes))
        values = [v if a is None else jnp.squeeze(v, a) for v, a in zip(values, axes, strict=True)]
        values = tap_p.bind(*values, label=label)
        return [v if a is None else jnp.expand_dims(v, a) for v, a in zip(values, axes, strict=True)]


def _is_final(eqn: Any) -> bool:
    return eqn.primitive is tap_p and bool(eqn.params["label"].names)


def _join(path: Sequence[str], marks: Sequence[_Mark]) -> str:
    parts = list(path)
    for mark in marks:
        if parts:
            parts[min(mark.depth, len(parts)) - 1] += mark.text
    return "/".join(parts)


def _scan_mark(body: Any, scope: tuple[str, ...], length: int) -> _Mark:
    """Where the iteration is written: behind the module that is scanned over."""
    prefix = _common_prefix(list(_tap_paths(body)))
    outer = len(scope) if prefix[: len(scope)] == scope or not prefix else 0
    return _Mark(max(len(prefix), outer + 1), f"[0:{length}]")


def _as_operation(name: str) -> str:
    """`block/relu#0` as `block:relu#0`, the form that no module can shadow."""
    scope, _, function = name.rpartition("/")
    return f"{scope}:{function}"


def _function_name(eqn: Any) -> str:
    if eqn.primitive.name == "name":  # jax.ad_checkpoint.checkpoint_name
        return str(eqn.params["name"]).replace("/", "_")
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        return str(getattr(_open(next(_bodies(eqn))).debug_info, "func_name", ""))
    return ""


def _is_softmax(eqn: Any, made_by: Mapping[Any, Any]) -> bool:
    """exp(u) / broadcast(sum(exp(u))): `jax.nn.softmax` leaves no name of its own."""
    if eqn.primitive.name != "div" or not all(map(_is_var, eqn.invars)):
        return False
    above, below = (made_by.get(v) for v in eqn.invars)
    while below is not None and below.primitive.name in ("broadcast_in_dim", "reshape"):
        below = made_by.get(below.invars[0])
    return (
        above is not None
        and below is not None
        and above.primitive.name == "exp"
        and below.primitive.name == "reduce_sum"
        and below.invars[0] is eqn.invars[0]
    )


def _uncount(name: str) -> tuple[str, int]:
    text, _, rest = name.rpartition("#")
    count, colon, anchor = rest.partition(":")
    return text + colon + anchor, int(count)


def normalise(program: Program, axes: Mapping[str, Sequence[Any]] | None = None) -> Program:
    """The program with every value named; `axes` takes batch axes of size one off the taps."""
    namer = _Namer(axes)
    fn = lambda *args: namer.run(program.jaxpr, args, [()], ())  # noqa: E731
    return trace(fn, _avals(program.jaxpr), program.consts)


# ------------------------------------------------------------------------------------- inspection


class Site(NamedTuple):
    """A tap in a program: its label, what passes through it, and what it stands inside of."""

    label: Label
    avals: tuple[Any, ...]
    inside: tuple[str, ...]


def sites(jaxpr: Any, inside: tuple[str, ...] = ()) -> Iterator[Site]:
    """Every tap, in the order of execution."""
    for eqn in _open(jaxpr).eqns:
        if eqn.primitive is tap_p:
            label = eqn.params["label"]
            if not label.names:  # inside a custom derivative or a `while_loop`: never named above
                text = "/".join(label.path) + label.method
                label = label._replace(names=(f"{text}#0{label.anchor}",))
            yield Site(label, tuple(v.aval for v in eqn.invars), inside)
        else:
            for body in _bodies(eqn):
                yield from sites(body, (*inside, eqn.primitive.name))


def is_open(container: str) -> bool:
    """Whether a value inside of this kind of equation can be addressed."""
    return container in _OPENED


def _holds(eqn: Any, name: str) -> bool:
    if eqn.primitive is tap_p:
        return name in _named(eqn)
    return any(_holds(e, name) for body in _bodies(eqn) for e in _open(body).eqns)


def _named(eqn: Any) -> tuple[str, ...]:
    return eqn.params["label"].names


def _map_names(jaxpr: Any, change: Callable[[str], str]) -> Any:
    """The same program with other names at its taps."""

    def convert(eqn):
        if eqn.primitive is tap_p:
            label = eqn.params["label"]
            names = tuple(change(name) for name in label.names)
            return eqn.replace(params={"label": label._replace(names=names)})
        return _with_bodies(eqn, lambda body: _map_names(body, change))

    opened = _open(jaxpr)
    return _like(jaxpr, opened.replace(eqns=[convert(e) for e in opened.eqns]), _consts(jaxpr))


def copies(jaxpr: Any) -> list[int | None]:
    """For each output the input that it is an unchanged copy of, or None."""
    opened = _open(jaxpr)
    source: dict[Any, Any] = {v: (i, None) for i, v in enumerate(opened.invars)}

    def get(atom):
        return source.get(atom) if _is_var(atom) else None

    for eqn in opened.eqns:
        given, kind = [get(a) for a in eqn.invars], eqn.primitive.name
        if eqn.primitive is tap_p or kind in ("copy", "copy_p", "optimization_barrier"):
            found = given
        elif kind == "transpose":
            found = [_transposed(given[0], tuple(eqn.params["permutation"]))]
        elif kind == "scan":
            found = _scan_copies(eqn, given)
        elif kind in _INLINED | (_OPENED - {"cond"}):
            found = [None if i is None else given[i] for i in copies(next(_bodies(eqn)))]
        else:
            continue
        source.update((v, f) for v, f in zip(eqn.outvars, found, strict=True) if f is not None)
    found = [get(a) for a in opened.outvars]
    return [None if f is None or f[1] is not None else f[0] for f in found]


def _transposed(source: Any, permutation: tuple[int, ...]) -> Any:
    if source is None:
        return None
    index, before = source
    axes = permutation if before is None else tuple(before[p] for p in permutation)
    return index, None if axes == tuple(range(len(axes))) else axes


def _scan_copies(eqn: Any, given: list[Any]) -> list[Any]:
    """A carry that each iteration hands on; a `y` that is the iteration's own `x`."""
    body, stacked = next(_bodies(eqn)), [v.aval for v in eqn.invars]
    num_ys = _count_stacked([v.aval for v in eqn.outvars], _open(body).outvars)
    num_xs = _count_stacked(stacked, _open(body).invars)
    num_carry = len(eqn.outvars) - num_ys
    first_carry, first_x = len(stacked) - num_xs - num_carry, len(stacked) - num_xs
    return [
        given[i] if i is not None and (i == first_carry + o if o < num_carry else i >= first_x) else None
        for o, i in enumerate(copies(body))
    ]


def _count_stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many values of a scan have one axis more outside its body than inside."""
    return sum(o.ndim > i.aval.ndim for o, i in zip(outside, inside, strict=True))


def strip(jaxpr: Any, but: frozenset[str] = frozenset()) -> Any:
    """The same program without taps, but for those that bear one of these names."""
    opened, same = _open(jaxpr), {}

    def get(atom):
        return same.get(atom, atom) if _is_var(atom) else atom

    eqns = []
    for eqn in opened.eqns:
        invars = [get(a) for a in eqn.invars]
        if eqn.primitive is tap_p and but.isdisjoint(_named(eqn)):
            same.update(zip(eqn.outvars, invars, strict=True))
            continue
        if any(True for body in _bodies(eqn) for _ in sites(body)):
            eqn = _with_bodies(eqn, lambda body: strip(body, but))
        eqns.append(eqn.replace(invars=invars))
    outvars = [get(a) for a in opened.outvars]
    return _like(jaxpr, opened.replace(eqns=eqns, outvars=outvars), _consts(jaxpr))


# ------------------------------------------------------------------------------- expose and split


class Split(NamedTuple):
    """A program cut at taps: `head(*args) -> (*z, *residuals)`, `tail(*residuals, *z) -> outputs`."""

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
    jaxpr = _open(jaxpr)
    taps = {name: eqn for eqn in jaxpr.eqns if eqn.primitive is tap_p for name in _named(eqn)}
    cut_at = [taps[name] for name in names]
    dependent = {v for eqn in cut_at for v in eqn.outvars}
    after = []
    for eqn in jaxpr.eqns:
        depends = any(_is_var(v) and v in dependent for v in eqn.invars)
        if any(eqn is tap for tap in cut_at):
            if depends:
                raise Upstream
        elif depends:
            after.append(eqn)
            dependent.update(eqn.outvars)
    if not any(_is_var(v) and v in dependent for v in jaxpr.outvars):
        raise NoDependence
    after = _needed(after, jaxpr.outvars)
    used = [v for eqn in after for v in eqn.invars] + list(jaxpr.outvars)
    residuals = list(dict.fromkeys(v for v in used if _is_var(v) and v not in dependent))
    before = [e for e in jaxpr.eqns if not any(v in dependent for v in e.outvars)]
    values = [v for eqn in cut_at for v in eqn.invars]
    place = {v: i for i, v in enumerate(jaxpr.invars)}
    made = [v for v in residuals if v not in place]
    head = _piece(jaxpr, _needed(before, [*values, *made]), jaxpr.invars, [*values, *made])
    heads = [v for eqn in cut_at for v in eqn.outvars]
    tail = _piece(jaxpr, after, [*residuals, *heads], jaxpr.outvars)
    return Split(head, tail, len(values), tuple(place.get(v) for v in residuals))


def _needed(eqns: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The equations that `outputs` depend on, in order."""
    wanted = {v for v in outputs if _is_var(v)}
    kept = []
    for eqn in reversed(eqns):
        if any(v in wanted for v in eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if _is_var(v))
    return kept[::-1]


def expose(program: Program, name: str) -> Program:
    """The same program with the tap `name` at its top level."""
    while True:
        jaxpr = program.jaxpr
        where = next(i for i, eqn in enumerate(jaxpr.eqns) if _holds_concrete(eqn, name))
        eqn = jaxpr.eqns[where]
        if eqn.primitive is tap_p:
            return program

        def opened(*args, jaxpr=jaxpr, where=where, eqn=eqn):
            env = _Env(jaxpr, args)
            env.bind(jaxpr, jaxpr.eqns[:where])
            env.write(eqn, _OPEN[eqn.primitive.name](eqn, env.read(eqn.invars), name))
            env.bind(jaxpr, jaxpr.eqns[where + 1 :])
            return env.read(jaxpr.outvars)

        program = trace(opened, _avals(jaxpr), program.consts)


def _holds_concrete(eqn: Any, name: str) -> bool:
    """Whether `name`, its iterations given as numbers, lies in this equation."""
    if eqn.primitive is tap_p:
        return any(concerns(template, name) for template in _named(eqn))
    return any(_holds_concrete(e, name) for body in _bodies(eqn) for e in _open(body).eqns)


def concerns(template: str, name: str) -> bool:
    """Whether `layers[0:4]/ff#0` covers `layers[2]/ff#0`."""
    pieces = _RANGE.split(template)
    pattern = "".join(re.escape(p) if i % 3 == 0 else r"\[(\d+)\]" * (i % 3 == 1) for i, p in enumerate(pieces))
    found = re.fullmatch(pattern, name)
    if found is None:
        return False
    bounds = zip(pieces[1::3], pieces[2::3], found.groups(), strict=True)
    return all(int(low) <= int(k) < int(high) for low, high, k in bounds)


def _open_cut(body: Any, values: Sequence[Any], name: str):
    """Run a body up to the tap; return the tap's value and the rest of the body as a function."""
    avals = [jax.typeof(v) for v in values]
    inner = expose(trace(lambda *args: run(body, args), avals), name)
    parts = split(inner.jaxpr, [name])
    args = [*inner.consts, *values]
    made = run(parts.head, args)
    tap = next(e for e in inner.jaxpr.eqns if e.primitive is tap_p and name in _named(e))
    z = tap_p.bind(*made[: parts.num_values], label=tap.params["label"])
    return z, residuals(parts, args, made), lambda rest, z: run(parts.tail, [*rest, *z])


def residuals(parts: Split, args: Sequence[Any], made: Sequence[Any]) -> list[Any]:
    """What the tail needs: inputs as they are, the rest as the head made it."""
    computed = iter(made[parts.num_values :])
    return [next(computed) if i is None else args[i] for i in parts.inputs_kept]


def _open_remat(eqn, values, name):
    z, rest, tail = _open_cut(next(_bodies(eqn)), values, name)
    options = {k: eqn.params[k] for k in ("policy", "prevent_cse")}
    return jax.checkpoint(tail, **options)(rest, z)


def _open_cond(eqn, values, name):
    # The value is the one that the branch computes, also when another branch is taken; the output
    # then does not depend on it, and its gradient is zero.
    index, *operands = values
    bodies = list(_bodies(eqn))
    chosen = next(
        i for i, b in enumerate(bodies) if any(_holds_concrete(e, name) for e in _open(b).eqns)
    )
    z, rest, tail = _open_cut(bodies[chosen], operands, name)

    def branch(i):
        if i == chosen:
            return lambda ops, rest, z: tail(rest, z)
        return lambda ops, rest, z: run(_closed(bodies[i]), ops)

    return jax.lax.switch(index, [branch(i) for i in range(len(bodies))], operands, rest, z)


def _closed(body: Any) -> Any:
    return body if isinstance(body, jex.ClosedJaxpr) else jex.ClosedJaxpr(body, ())


class _Scan(NamedTuple):
    """A scan equation and its operands, told apart by their shapes."""

    body: Any
    consts: list[Any]
    init: list[Any]
    xs: list[Any]
    options: dict[str, Any]

    def call(self, body, init, xs, length):
        def step(carry, x):
            outs = run(body, [*self.consts, *carry, *x])
            return outs[: len(self.init)], outs[len(self.init) :]

        return jax.lax.scan(step, init, xs, length=length, **self.options)


def _scan_parts(eqn: Any, values: Sequence[Any]) -> _Scan:
    body = _closed(next(_bodies(eqn)))
    opened = _open(body)
    # `xs` and `ys` have one axis more than what the body takes and gives; the carry has not.
    num_ys = _count_stacked([v.aval for v in eqn.outvars], opened.outvars)
    num_xs = _count_stacked([jax.typeof(v) for v in values], opened.invars)
    num_carry = len(eqn.outvars) - num_ys
    num_consts = len(values) - num_xs - num_carry
    options = {k: eqn.params[k] for k in ("reverse", "unroll") if k in eqn.params}
    values = list(values)
    cut = num_consts + num_carry
    return _Scan(body, values[:num_consts], values[num_consts:cut], values[cut:], options)


def _open_scan(eqn, values, name):
    scan, length = _scan_parts(eqn, values), eqn.params["length"]
    template = next(
        t for s in sites(scan.body) for t in s.label.names if concerns(t, name)
    )
    low, high = map(int, _RANGE.search(template).groups())  # pyright: ignore
    start = _RANGE.search(template).start()  # pyright: ignore
    index = int(re.match(r"\[(\d+)\]", name[start:]).group(1)) - low  # pyright: ignore

    def part(text):
        return _map_names(scan.body, lambda n: _RANGE.sub(text, n, count=1))

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


# -------------------------------------------------------------------------------------------- edit

Edit = Callable[[list[Any], Any], list[Any]]


class Edits(NamedTuple):
    """What to do at taps: `change[name](values, feed[name])` replaces, `keep` is returned.

    `feed[name]` has one leading axis for each scan that the tap stands in.
    """

    change: Mapping[str, Edit]
    feed: Mapping[str, Any]
    keep: frozenset[str]

    def within(self, eqn: Any) -> Edits:
        names = {n for body in _bodies(eqn) for s in sites(body) for n in s.label.names}
        return Edits(
            {n: f for n, f in self.change.items() if n in names},
            {n: f for n, f in self.feed.items() if n in names},
            self.keep & names,
        )


def edit(jaxpr: Any, args: Sequence[Any], edits: Edits) -> tuple[list[Any], dict[str, Any]]:
    """Evaluate a program with edits at its taps: its outputs, and the values kept."""
    env, opened, kept = _Env(jaxpr, args), _open(jaxpr), {}
    for eqn in opened.eqns:
        if eqn.primitive is tap_p:
            values = env.read(eqn.invars)
            for name in _named(eqn):
                if name in edits.change:
                    values = edits.change[name](values, edits.feed.get(name))
                if name in edits.keep:
                    kept[name] = values
            env.write(eqn, values)
            continue
        inner = edits.within(eqn) if eqn.primitive.name in _OPENED else Edits({}, {}, frozenset())
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
            for body in _bodies(eqn)
        ]
        return jax.lax.switch(index, branches, operands, dict(edits.feed)), {}
    if eqn.primitive.name != "scan":
        options = {k: eqn.params[k] for k in ("policy", "prevent_cse")}
        body = next(_bodies(eqn))
        remat = jax.checkpoint(
            lambda ops, feed: edit(body, ops, edits._replace(feed=feed)), **options
        )
        return remat(values, dict(edits.feed))
    scan = _scan_parts(eqn, values)

    def step(carry, x):
        x, feed = x
        outs, kept = edit(scan.body, [*scan.consts, *carry, *x], edits._replace(feed=feed))
        return outs[: len(carry)], (outs[len(carry) :], kept)

    xs = (scan.xs, dict(edits.feed))
    carry, (ys, kept) = jax.lax.scan(step, scan.init, xs, length=eqn.params["length"], **scan.options)
    return [*carry, *ys], kept
