"""Equations that XLA's CPU backend runs slowly, and the same values computed otherwise.

Read are the parameters that `lax.conv_general_dilated` has as arguments, and the window of
`_select_and_scatter_add`. All rewrites are exact but for rounding, and keep which of several equal
values of a window is its maximum: the first.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._equations import Env, bodies_of, input_avals, like, open_jaxpr, trace, with_bodies

Rewrite = Callable[..., Any]


def rewritten(jaxpr: Any, args: Sequence[Any]) -> list[Any]:
    """Evaluate a program with its slow equations replaced."""
    env, opened = Env(jaxpr, args), open_jaxpr(jaxpr)
    waiting: list[Any] = []
    for eqn in opened.eqns:
        change = _rule(eqn)
        if change is None and not any(map(_is_slow, _bodies(eqn))):
            waiting.append(eqn)
            continue
        env.bind(jaxpr, waiting)
        waiting = []
        if change is None:
            env.bind(jaxpr, [with_bodies(eqn, _rewritten_body)])
        else:
            env.write(eqn, [change(*env.read(eqn.invars))])
    env.bind(jaxpr, waiting)
    return env.read(opened.outvars)


def _rewritten_body(body: Any) -> Any:
    """A program inside of an equation, rewritten, in the form in which the equation holds it."""
    if not _is_slow(body):
        return body
    found = trace(lambda *args: rewritten(body, args), input_avals(body))
    inputs, count = found.jaxpr.invars, len(found.consts)
    opened = found.jaxpr.replace(constvars=inputs[:count], invars=inputs[count:])
    return like(body, opened, found.consts)


def _is_slow(jaxpr: Any) -> bool:
    return any(
        _rule(eqn) is not None or any(map(_is_slow, _bodies(eqn))) for eqn in open_jaxpr(jaxpr).eqns
    )


def _bodies(eqn: Any) -> Iterator[Any]:
    """The programs inside that can be traced alone: one of `shard_map` needs its mesh's axes."""
    return iter(()) if eqn.primitive.name == "shard_map" else bodies_of(eqn)


def _rule(eqn: Any) -> Rewrite | None:
    """What computes the value of a slow equation otherwise; None for one that is not slow."""
    if eqn.primitive.name == "conv_general_dilated":
        return _convolution(eqn)
    if eqn.primitive.name == "select_and_scatter_add":
        return _max_pool_gradient(eqn)
    return None


# ------------------------------------------------------------------------------- convolutions


class _Window(NamedTuple):
    """How a kernel lies on the input, one entry an axis of space.

    `out[o] = sum_k in[(o stride + k dilation - low) / spacing] kernel[k]`, where the division comes
    out even and lands inside.
    """

    kernel: tuple[int, ...]
    size: tuple[int, ...]
    out: tuple[int, ...]
    stride: tuple[int, ...]
    low: tuple[int, ...]
    spacing: tuple[int, ...]
    dilation: tuple[int, ...]


def _convolution(eqn: Any) -> Rewrite | None:
    p, (lhs, rhs), out = eqn.params, [v.aval for v in eqn.invars], eqn.outvars[0].aval
    dims, groups = p["dimension_numbers"], p["feature_group_count"]
    if p["batch_group_count"] != 1 or not jnp.issubdtype(lhs.dtype, jnp.floating):
        return None
    window = _Window(
        kernel=tuple(rhs.shape[d] for d in dims.rhs_spec[2:]),
        size=tuple(lhs.shape[d] for d in dims.lhs_spec[2:]),
        out=tuple(out.shape[d] for d in dims.out_spec[2:]),
        stride=tuple(p["window_strides"]),
        low=tuple(low for low, _ in p["padding"]),
        spacing=tuple(p["lhs_dilation"]),
        dilation=tuple(p["rhs_dilation"]),
    )
    if 0 in (*lhs.shape, *rhs.shape, *out.shape):
        return None
    features = rhs.shape[dims.rhs_spec[0]] // groups, rhs.shape[dims.rhs_spec[1]]
    turned = _kernel_order(dims) != tuple(range(rhs.ndim))
    if groups > 1 and math.prod(features) <= _FEW:
        if math.prod(window.kernel) > _MOST_POINTS:
            return None
        # Sums in float32 or wider, as XLA keeps them; `change` casts to the dtype of the output.
        wide = functools.partial(jnp.asarray, dtype=jnp.promote_types(out.dtype, np.float32))
        inner = lambda x, k: _shifted_products(wide(x), wide(k), window, groups)  # noqa: E731
    elif groups > 1:
        return None
    elif all(size == 1 for size in window.kernel):
        inner = lambda x, k: _product(x, k, window, p)  # noqa: E731
    elif any(s > 1 for s in window.spacing) and _has_phases(window):
        inner = lambda x, k: _by_phases(  # noqa: E731
            x, k, window, lambda x, k, low, out: _plain(x, _fixed(k), low, out, p)
        )
    elif turned:
        inner = lambda x, k: _as_it_stands(x, _fixed(k), p)  # noqa: E731
    else:
        return None

    def change(lhs: Any, rhs: Any) -> Any:
        x = jnp.transpose(lhs, _channels_last(dims.lhs_spec))
        y = inner(x, jnp.transpose(rhs, _kernel_order(dims)))
        y = jnp.transpose(y, np.argsort(_channels_last(dims.out_spec)).tolist())
        return y.astype(out.dtype)

    return change


_FEW = 4
"""Features of one group, in times out, up to which products beat XLA's grouped convolution."""

_MOST_POINTS = 512
"""Points of a kernel up to which the program, which has a term for each, compiles in seconds."""

_MOST_POOLED = 64
"""The same for a window of max-pooling, whose terms are as large as its input."""


def _channels_last(spec: Sequence[int]) -> tuple[int, ...]:
    """The axes of `(batch, channels, *space)` in the order `(batch, *space, channels)`."""
    return (spec[0], *spec[2:], spec[1])


def _kernel_order(dims: Any) -> tuple[int, ...]:
    """The axes of a kernel in the order `(*space, in, out)`."""
    return (*dims.rhs_spec[2:], dims.rhs_spec[1], dims.rhs_spec[0])


def _fixed(kernel: Any) -> Any:
    """The kernel, laid out in memory as it stands.

    Inside of a loop XLA would otherwise leave the exchange of axes to the convolution, which then
    takes a path some ten times slower.
    """
    return lax.optimization_barrier(kernel)


def _plain(x: Any, kernel: Any, low: Sequence[int], out: Sequence[int], p: Any) -> Any:
    """The convolution of stride one, channels last, where the output has size `out`."""
    ndim = kernel.ndim - 2
    padding = [
        (lo, o + k - 1 - lo - n)
        for lo, o, k, n in zip(low, out, kernel.shape, x.shape[1:-1], strict=False)
    ]
    return lax.conv_general_dilated(
        x,
        kernel,
        (1,) * ndim,
        padding,
        dimension_numbers=_standard(ndim),
        precision=p["precision"],
        preferred_element_type=p["preferred_element_type"],
    )


def _as_it_stands(x: Any, kernel: Any, p: Any) -> Any:
    """The convolution of the equation, channels last."""
    return lax.conv_general_dilated(
        x,
        kernel,
        p["window_strides"],
        p["padding"],
        p["lhs_dilation"],
        p["rhs_dilation"],
        _standard(kernel.ndim - 2),
        precision=p["precision"],
        preferred_element_type=p["preferred_element_type"],
    )


def _standard(ndim: int) -> lax.ConvDimensionNumbers:
    """`(batch, *space, in)` and `(*space, in, out)` to `(batch, *space, out)`."""
    space = range(1, ndim + 1)
    image = (0, ndim + 1, *space)
    return lax.ConvDimensionNumbers(image, (ndim + 1, ndim, *range(ndim)), image)


def _product(x: Any, kernel: Any, window: _Window, p: Any) -> Any:
    """A kernel of one point: a product of matrices."""
    matrix = kernel.reshape(kernel.shape[-2:])
    apply = lambda x: lax.dot_general(  # noqa: E731
        x,
        matrix,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=p["precision"],
        preferred_element_type=p["preferred_element_type"],
    )
    if all(s == 1 for s in window.spacing):
        return apply(_tap(_padded(x, window), (0,) * len(window.out), window))
    return _tap(_padded(apply(x), window), (0,) * len(window.out), window)


def _shifted_products(x: Any, kernel: Any, window: _Window, groups: int) -> Any:
    """A grouped convolution: the sum over the kernel's points of shifted input times weight."""
    if any(s > 1 for s in window.spacing) and _has_phases(window):
        return _by_phases(
            x,
            kernel,
            window,
            lambda x, k, low, out: _shifted_products(x, k, _dense(x, k, low, out), groups),
        )
    points = itertools.product(*map(range, window.kernel))
    # Without the barrier the producer of x is computed again for every point of the kernel.
    padded = lax.optimization_barrier(_padded(x, window))
    terms = (_grouped(_tap(padded, at, window), kernel[at], groups) for at in points)
    return functools.reduce(operator.add, terms)


def _grouped(x: Any, weights: Any, groups: int) -> Any:
    """`(..., groups * in)` times `(in, groups * out)`, group by group."""
    into, features = weights.shape
    if into == 1 and features == groups:
        return x * jnp.expand_dims(weights[0], range(x.ndim - 1))
    weights = weights.reshape(into, groups, features // groups)
    apart = x.reshape(*x.shape[:-1], groups, into)
    weights = jnp.expand_dims(weights, range(1, x.ndim))
    terms = (apart[..., i, None] * weights[i] for i in range(into))
    return functools.reduce(operator.add, terms).reshape(*x.shape[:-1], features)


def _padded(x: Any, window: _Window) -> Any:
    """The input spread out and padded, so that every point of the kernel falls inside."""
    edges = []
    for i, size in enumerate(window.size):
        spread = (size - 1) * window.spacing[i] + 1
        reach = (window.out[i] - 1) * window.stride[i]
        reach += (window.kernel[i] - 1) * window.dilation[i] + 1
        edges.append((window.low[i], reach - window.low[i] - spread, window.spacing[i] - 1))
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _tap(padded: Any, at: Sequence[int], window: _Window) -> Any:
    """What the point `at` of the kernel meets at every place."""
    index = [
        slice(k * d, k * d + (out - 1) * s + 1, s)
        for k, d, out, s in zip(at, window.dilation, window.out, window.stride, strict=True)
    ]
    return padded[(slice(None), *index)]


# A convolution of an input that is spread out with zeros in between, as the derivative of a strided
# one is, falls into one dense convolution for each phase of the output.


def _has_phases(window: _Window) -> bool:
    return all(s == 1 for s in (*window.stride, *window.dilation))


def _dense(x: Any, kernel: Any, low: Sequence[int], out: Sequence[int]) -> _Window:
    ones = (1,) * len(out)
    return _Window(kernel.shape[:-2], x.shape[1:-1], tuple(out), ones, tuple(low), ones, ones)


def _by_phases(x: Any, kernel: Any, window: _Window, dense: Callable[..., Any]) -> Any:
    """The phases of the output, each by `dense(x, kernel, low, out)`, and interleaved."""
    spacing = window.spacing
    counts = [-(-out // s) for out, s in zip(window.out, spacing, strict=True)]
    phases = []
    for phase in itertools.product(*map(range, spacing)):
        # The point k of the kernel meets the input where phase + k - low is a multiple of spacing.
        first = [(lo - r) % s for r, lo, s in zip(phase, window.low, spacing, strict=True)]
        part = kernel[tuple(slice(f, None, s) for f, s in zip(first, spacing, strict=True))]
        if 0 in part.shape:
            phases.append(jnp.zeros((x.shape[0], *counts, 1), x.dtype))
            continue
        low = [
            (lo - r - f) // s for r, f, lo, s in zip(phase, first, window.low, spacing, strict=True)
        ]
        phases.append(dense(x, part, low, counts))
    features = max(y.shape[-1] for y in phases)
    phases = [jnp.broadcast_to(y, (*y.shape[:-1], features)) for y in phases]
    ndim = len(counts)
    stacked = jnp.stack(phases).reshape(*spacing, x.shape[0], *counts, features)
    places = itertools.chain.from_iterable((ndim + 1 + i, i) for i in range(ndim))
    merged = jnp.transpose(stacked, (ndim, *places, 2 * ndim + 1))
    merged = merged.reshape(
        x.shape[0], *(c * s for c, s in zip(counts, spacing, strict=True)), features
    )
    return merged[(slice(None), *(slice(out) for out in window.out))]


# ------------------------------------------------------------------------------- max-pooling


def _max_pool_gradient(eqn: Any) -> Rewrite | None:
    """Each source is added where its window has its first maximum."""
    p = eqn.params
    names = ("select_prim", "window_dimensions", "window_strides", "padding")
    if p["select_prim"].name != "ge" or set(p) - {*names}:
        return None
    if math.prod(p["window_dimensions"]) > _MOST_POOLED:
        return None
    source, operand = (v.aval for v in eqn.invars)
    ones = (1,) * operand.ndim
    window = _Window(
        kernel=tuple(p["window_dimensions"]),
        size=operand.shape,
        out=source.shape,
        stride=tuple(p["window_strides"]),
        low=tuple(low for low, _ in p["padding"]),
        spacing=ones,
        dilation=ones,
    )

    def change(source: Any, operand: Any) -> Any:
        edges = [
            (low, (out - 1) * stride + kernel - low - size, 0)
            for kernel, size, out, stride, low, *_ in zip(*window, strict=True)
        ]
        padded = lax.pad(operand, np.array(-np.inf, operand.dtype), edges)
        points = list(itertools.product(*map(range, window.kernel)))
        taps = [_strided(padded, at, window) for at in points]
        best, place = taps[0], jnp.zeros(source.shape, jnp.int32)
        for i, tap in enumerate(taps[1:], start=1):
            larger = ~(best >= tap)  # as the comparison of XLA: it moves off a NaN
            best, place = jnp.where(larger, tap, best), jnp.where(larger, np.int32(i), place)
        zero = np.zeros((), source.dtype)
        terms = (
            _scattered(jnp.where(place == np.int32(i), source, zero), at, padded.shape, window)
            for i, at in enumerate(points)
        )
        total = functools.reduce(operator.add, terms)
        return lax.pad(total, zero, [(-low, -high, 0) for low, high, _ in edges])

    return change


def _strided(padded: Any, at: Sequence[int], window: _Window) -> Any:
    limits = [a + (o - 1) * s + 1 for a, o, s in zip(at, window.out, window.stride, strict=True)]
    return lax.slice(padded, at, limits, window.stride)


def _scattered(values: Any, at: Sequence[int], shape: Sequence[int], window: _Window) -> Any:
    """The transpose of `_strided`."""
    edges = [
        (a, n - a - ((o - 1) * s + 1), s - 1)
        for a, n, o, s in zip(at, shape, window.out, window.stride, strict=True)
    ]
    return lax.pad(values, np.zeros((), values.dtype), edges)
