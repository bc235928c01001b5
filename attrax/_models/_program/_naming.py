"""The naming pass: every value of a program gets its addresses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex

from .._taps import Label, tap_p
from ._equations import (
    INLINED,
    OPENED,
    Env,
    Program,
    bodies_of,
    constants,
    input_avals,
    is_var,
    like,
    open_jaxpr,
    trace,
    with_bodies,
)
from ._sites import RANGE


def _tap_paths(jaxpr: Any) -> Iterator[tuple[str, ...]]:
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive is tap_p and not eqn.params["label"].names:
            yield eqn.params["label"].path
        for body in bodies_of(eqn):
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

    def __init__(self, axes: Mapping[str, Any] | None = None):
        self.counts: Counter[str] = Counter()
        self.used: set[str] = set()
        self.axes = axes

    def run(self, jaxpr, args, scopes: list[Any], marks: tuple[_Mark, ...]):
        env, opened = Env(jaxpr, args), open_jaxpr(jaxpr)
        named = {v for e in opened.eqns if _is_final(e) for v in e.invars if is_var(v)}
        made_by = {v: e for e in opened.eqns for v in e.outvars}
        for eqn in opened.eqns:
            if eqn.primitive is tap_p:
                values = self._tap(eqn.params["label"], env.read(eqn.invars), scopes, marks)
                env.write(eqn, values)
            elif eqn.primitive.name in INLINED:
                body = next(bodies_of(eqn))
                env.write(eqn, self.run(body, env.read(eqn.invars), scopes, marks))
                self._name(env, eqn, [eqn.params.get("name", "")], [], scopes, marks)
            else:
                if eqn.primitive.name in OPENED:
                    env.bind(jaxpr, [self._enter(eqn, scopes, marks)])
                else:
                    env.bind(jaxpr, [eqn])
                if not any(v in named for v in eqn.outvars):
                    functions = [
                        _function_name(eqn),
                        "softmax" if _is_softmax(eqn, made_by) else "",
                    ]
                    self._name(env, eqn, functions, [eqn.primitive.name], scopes, marks)
        return env.read(opened.outvars)

    def _enter(self, eqn, scopes, marks):
        if eqn.primitive.name == "scan":
            (body,) = bodies_of(eqn)
            marks = (*marks, _scan_mark(body, scopes[-1][0], eqn.params["length"]))

        def rename(body):
            inner = list(scopes)
            named = jax.make_jaxpr(lambda *args: self.run(body, args, inner, marks))(
                *input_avals(body)
            )
            return like(body, open_jaxpr(named), constants(named))

        return with_bodies(eqn, rename)

    def _tap(self, label: Label, values, scopes, marks):
        if label.kind == "hidden":
            return self._bind(label, values)
        if label.names:  # named by an earlier reading: a tail that is read again
            names = tuple(self._again(name, marks) for name in label.names)
            return self._bind(label._replace(names=names), values)
        if label.call is not None and label.call.returns_arrays:
            if label.anchor:
                scopes.append((label.path, label.call))
            elif any(call is label.call for _, call in scopes):
                while scopes.pop()[1] is not label.call:
                    pass
        path = label.path if label.kind == "module" else (*scopes[-1][0], *label.path)
        text = _join(path, marks) + label.method
        names = (self._count(text, label.anchor),)
        return self._bind(label._replace(call=None, names=names), values)

    def _name(self, env, eqn, functions, primitives, scopes, marks):
        """Tap the results of a named function or of a primitive."""
        outputs = [v for v in eqn.outvars if not isinstance(v, jex.DropVar)]
        functions = [f for f in functions if f.isidentifier() and not f.startswith("_")]
        if not outputs or not (functions or primitives):
            return
        scope = scopes[-1][0]
        texts = [_join((*scope, f":{name}"), marks) for name in [*functions, *primitives]]
        names = [self._count(text.replace("/:", ":"), "") for text in texts]
        plain = [_as_function(name) for name in names[: len(functions)]]
        kind = "function" if functions else "primitive"
        tree = jax.tree.structure(0 if len(outputs) == 1 else (0,) * len(outputs))
        label = Label(kind, scope, tree=tree, names=(*plain, *names))
        env.update(zip(outputs, self._bind(label, env.read(outputs)), strict=True))

    def _count(self, text: str, anchor: str) -> str:
        """A name with the next free count; iterations of a scan are one call."""
        base = _INDEX.sub("", text) + anchor
        self.counts[base] += 1
        self.used.add(f"{text}#{self.counts[base] - 1}{anchor}")
        return f"{text}#{self.counts[base] - 1}{anchor}"

    def _again(self, name: str, marks: Sequence[_Mark]) -> str:
        """A name given before: as it was, unless it is taken or now stands in a scan."""
        text, count, anchor = _PARTS.fullmatch(name).groups()  # pyright: ignore
        base = _INDEX.sub("", text) + anchor
        # Of the scans around it, the outermost are those that it did not stand in then.
        new = marks[: len(marks) - len(RANGE.findall(text))]
        text = _join(text.split("/"), new)
        if f"{text}#{count}{anchor}" in self.used:
            return self._count(text, anchor)
        self.counts[base] = max(self.counts[base], int(count) + 1)
        self.used.add(f"{text}#{count}{anchor}")
        return f"{text}#{count}{anchor}"

    def _bind(self, label: Label, values):
        if self.axes is None or label.kind == "hidden":
            return tap_p.bind(*values, label=label)
        found = self.axes.get(label.names[0], _OTHER)
        if not isinstance(found, str) and [v.shape for v in values] != [b.shape for b in found]:
            found = _OTHER
        if isinstance(found, str):
            return tap_p.bind(*values, label=label._replace(blocked=found))
        # What is done here to the batch axis, and what it is done to, is not named once more when
        # the program is read as part of a larger one.
        values = tap_p.bind(*values, label=_HIDDEN)
        values = [b.remove(v) for v, b in zip(values, found, strict=True)]
        values = tap_p.bind(*values, label=label)
        values = [b.restore(v) for v, b in zip(values, found, strict=True)]
        return tap_p.bind(*values, label=_HIDDEN)


class BatchAxis(NamedTuple):
    """The shape of a value at batch size one, and which of its axes is the batch (or None)."""

    shape: tuple[int, ...]
    axis: int | None

    def remove(self, value: Any) -> Any:
        return value if self.axis is None else jax.lax.squeeze(value, (self.axis,))

    def restore(self, value: Any) -> Any:
        return value if self.axis is None else jax.lax.expand_dims(value, (self.axis,))


_OTHER = "the model runs other operations at another batch size"
_INDEX = re.compile(r"\[\d+(:\d+)?\]")
_PARTS = re.compile(r"(.*)#(\d+)((?::in)?)")
_HIDDEN = Label("hidden", (), names=("",))


def _is_final(eqn: Any) -> bool:
    return eqn.primitive is tap_p and bool(eqn.params["label"].names)


def _join(path: Sequence[str], marks: Sequence[_Mark]) -> str:
    """The path with the iterations of the scans around it, the outermost first."""
    parts = list(path)
    for mark in reversed(marks):
        if parts:
            k = min(mark.depth, len(parts)) - 1
            name, bracket, rest = parts[k].partition("[")
            parts[k] = name + mark.text + bracket + rest
    return "/".join(parts)


def _scan_mark(body: Any, scope: tuple[str, ...], length: int) -> _Mark:
    """Where the iteration is written: behind the module that is scanned over."""
    prefix = _common_prefix(list(_tap_paths(body)))
    outer = len(scope) if prefix[: len(scope)] == scope or not prefix else 0
    return _Mark(max(len(prefix), outer + 1), f"[0:{length}]")


def _as_function(name: str) -> str:
    """`block:relu#0`, which no module can shadow, as `block/relu#0`."""
    scope, _, function = name.rpartition(":")
    return f"{scope}/{function}" if scope else function


def _function_name(eqn: Any) -> str:
    if eqn.primitive.name == "name":  # jax.ad_checkpoint.checkpoint_name
        return str(eqn.params["name"]).replace("/", "_")
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        return str(getattr(open_jaxpr(next(bodies_of(eqn))).debug_info, "func_name", ""))
    return ""


def _is_softmax(eqn: Any, made_by: Mapping[Any, Any]) -> bool:
    """exp(u) / broadcast(sum(exp(u))): `jax.nn.softmax` leaves no name of its own."""
    if eqn.primitive.name != "div" or not all(map(is_var, eqn.invars)):
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


def normalise(program: Program, axes: Mapping[str, Any] | None = None) -> Program:
    """The program with every value named; `axes` takes batch axes of size one off the taps."""
    namer = _Namer(axes)

    def fn(*args):
        return namer.run(program.jaxpr, args, [((), None)], ())

    return trace(fn, input_avals(program.jaxpr), program.consts)
