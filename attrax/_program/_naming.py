"""The naming pass: every value of a program gets its addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

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

    def __init__(self, axes: Mapping[str, Sequence[Any]] | None = None):
        self.counts: Counter[str] = Counter()
        self.axes = axes

    def run(self, jaxpr, args, scopes: list[tuple[str, ...]], marks: tuple[_Mark, ...]):
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
            marks = (*marks, _scan_mark(body, scopes[-1], eqn.params["length"]))

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
        # What is done here to the batch axis, and what it is done to, is not named once more when
        # the program is read as part of a larger one.
        values = tap_p.bind(*values, label=_HIDDEN)
        values = [v if a is None else jnp.squeeze(v, a) for v, a in zip(values, axes, strict=True)]
        values = tap_p.bind(*values, label=label)
        values = [
            v if a is None else jax.lax.expand_dims(v, (a,))
            for v, a in zip(values, axes, strict=True)
        ]
        return tap_p.bind(*values, label=_HIDDEN)


_HIDDEN = Label("hidden", (), names=("",))


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


def _uncount(name: str) -> tuple[str, int]:
    text, _, rest = name.rpartition("#")
    count, colon, anchor = rest.partition(":")
    return text + colon + anchor, int(count)


def normalise(program: Program, axes: Mapping[str, Sequence[Any]] | None = None) -> Program:
    """The program with every value named; `axes` takes batch axes of size one off the taps."""
    namer = _Namer(axes)
    fn = lambda *args: namer.run(program.jaxpr, args, [()], ())  # noqa: E731
    return trace(fn, input_avals(program.jaxpr), program.consts)
