"""Equations that XLA's CPU backend runs slowly, and faster ways to compute the same values.

Read are the parameters that `lax.conv_general_dilated` has as arguments, and the window of
`_select_and_scatter_add`. All rewrites are exact but for rounding, and keep which of several equal
values of a window is its maximum: the first.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .._core._types import wide_dtype
from .._models._program import Rewrite
from . import _winograd
from ._pooling import max_pool_gradient
from ._windows import (
    Window,
    counts_of,
    has_phases,
    interleaved,
    padded_input,
    part_of,
    phases_of,
    reach_of,
    tap,
)


def rule(eqn: Any, rounds: int) -> Rewrite | None:
    """What computes the value of a slow equation otherwise; None for one that is not slow."""
    if eqn.primitive.name == "conv_general_dilated":
        return _convolution(eqn, rounds)
    if eqn.primitive.name == "select_and_scatter_add":
        return max_pool_gradient(eqn)
    return None


def _convolution(eqn: Any, rounds: int) -> Rewrite | None:
    p, (lhs, rhs), out = eqn.params, [v.aval for v in eqn.invars], eqn.outvars[0].aval
    dims = p["dimension_numbers"]
    if p["batch_group_count"] != 1 or not jnp.issubdtype(lhs.dtype, jnp.floating):
        return None
    window = Window(
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
    if isinstance(p["precision"], lax.DotAlgorithm | lax.DotAlgorithmPreset):
        return None  # those of convolutions are not those of products of matrices
    inner = _channels_last_rule(eqn, window, rounds)
    if inner is None:
        return None

    def change(lhs: Any, rhs: Any) -> Any:
        x = jnp.transpose(lhs, _channels_last(dims.lhs_spec))
        y = inner(x, jnp.transpose(rhs, _kernel_order(dims)))
        y = jnp.transpose(y, np.argsort(_channels_last(dims.out_spec)).tolist())
        return y.astype(out.dtype)

    return change


def _channels_last_rule(eqn: Any, window: Window, rounds: int) -> Rewrite | None:
    """What computes it from an input `(n, *space, in)` and a kernel `(*space, in, out)`."""
    p, (lhs, rhs), out = eqn.params, [v.aval for v in eqn.invars], eqn.outvars[0].aval
    dims, groups = p["dimension_numbers"], p["feature_group_count"]
    features = rhs.shape[dims.rhs_spec[0]] // groups, rhs.shape[dims.rhs_spec[1]]
    if groups > 1:
        if math.prod(features) > _FEW or math.prod(window.kernel) > _MOST_POINTS:
            return None
        # Sums in float32 or wider, as XLA keeps them; what is returned is cast back.
        wide = functools.partial(jnp.asarray, dtype=wide_dtype(out.dtype))
        return lambda x, k: _shifted_products(wide(x), _fixed(wide(k)), window, groups)
    if all(size == 1 for size in window.kernel):
        return lambda x, k: _product(x, k, window, p)
    if has_phases(window):
        return lambda x, k: _by_phases(x, k, window, p)
    n, dtypes = lhs.shape[dims.lhs_spec[0]], {lhs.dtype, out.dtype}
    if _winograd_pays(window, n, rounds, features, dtypes):
        return lambda x, k: _winograd.convolution(x, k, window.low, window.out, p["precision"])
    if _kernel_order(dims) != tuple(range(rhs.ndim)):
        return lambda x, k: _as_it_stands(x, _fixed(k), p)
    return None


_FEW = 4
"""Features of one group, in times out, up to which products beat XLA's grouped convolution."""

_TOGETHER = 16
"""Features of all phases together up to which one convolution is faster than one for each phase."""

_MANY = 64
"""Features, both in and out, from which the transforms of Winograd's convolution pay."""

_MOST_POINTS = 512
"""Points of a kernel up to which the program, which has a term for each, compiles in seconds."""


def _winograd_pays(
    window: Window, n: int, rounds: int, features: tuple[int, int], dtypes: set[np.dtype]
) -> bool:
    """Whether it applies, in a precision with room for its transforms, and is faster.

    Where there are fewer tiles than features the transform of the weights costs what it saves. In a
    loop it is done once; with a quarter as many tiles the products themselves are too small.
    """
    if window.kernel != (3, 3) or {*window.stride, *window.spacing, *window.dilation} != {1}:
        return False
    wide = dtypes in ({np.dtype(np.float32)}, {np.dtype(np.float64)})
    tiles = n * min(rounds, 4) * math.prod(-(-out // 2) for out in window.out)
    return wide and min(features) >= _MANY and max(features) <= tiles


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


def _product(x: Any, kernel: Any, window: Window, p: Any) -> Any:
    """A kernel of one point: a product of matrices."""
    matrix = _fixed(kernel.reshape(kernel.shape[-2:]))

    def apply(x: Any) -> Any:
        return lax.dot_general(
            x,
            matrix,
            (((x.ndim - 1,), (0,)), ((), ())),
            precision=p["precision"],
            preferred_element_type=p["preferred_element_type"],
        )

    if all(s == 1 for s in window.spacing):
        return apply(tap(padded_input(x, window), (0,) * len(window.out), window))
    return tap(padded_input(apply(x), window), (0,) * len(window.out), window)


def _shifted_products(x: Any, kernel: Any, window: Window, groups: int) -> Any:
    """A grouped convolution: the sum over the kernel's points of shifted input times weight."""
    if has_phases(window):
        return _shifted_phases(x, kernel, window, groups)
    points = itertools.product(*map(range, window.kernel))
    # Without the barrier the producer of x is computed again for every point of the kernel.
    padded = lax.optimization_barrier(padded_input(x, window))
    terms = (_grouped(tap(padded, at, window), kernel[at], groups) for at in points)
    # Nor should what reads it, such as ReLU and the derivative of ReLU, each compute it anew.
    return lax.optimization_barrier(functools.reduce(operator.add, terms))


def _shifted_phases(x: Any, kernel: Any, window: Window, groups: int) -> Any:
    """The phases of the output, each from shifts of one padded input, interleaved."""
    phases, counts = phases_of(window), counts_of(window)
    low, points = reach_of(phases)
    edges = [
        (-lo, count + lo + n - 1 - size, 0)
        for lo, count, n, size in zip(low, counts, points, window.size, strict=True)
    ]
    padded = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    padded = lax.optimization_barrier(padded)
    zeros = jnp.zeros((x.shape[0], *counts, kernel.shape[-1]), x.dtype)
    found = []
    for phase in phases:
        part = part_of(kernel, phase, window)
        terms = []
        for at in itertools.product(*map(range, phase.points)):
            begin = [s - lo + j for s, lo, j in zip(phase.start, low, at, strict=True)]
            index = (slice(b, b + c) for b, c in zip(begin, counts, strict=True))
            terms.append(_grouped(padded[(slice(None), *index)], part[at], groups))
        found.append(functools.reduce(operator.add, terms) if terms else zeros)
    return interleaved(jnp.stack(found), window)


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


def _by_phases(x: Any, kernel: Any, window: Window, p: Any) -> Any:
    """The phases of the output, each a dense convolution, interleaved."""
    phases, counts, features = phases_of(window), counts_of(window), kernel.shape[-1]
    if features * len(phases) <= _TOGETHER:
        return _phases_at_once(x, kernel, window, p)
    found = []
    for phase in phases:
        if 0 in phase.points:
            dtype = p["preferred_element_type"] or x.dtype
            found.append(jnp.zeros((x.shape[0], *counts, features), dtype))
            continue
        part = _fixed(part_of(kernel, phase, window))
        found.append(_plain(x, part, [-s for s in phase.start], counts, p))
    return interleaved(jnp.stack(found), window)


def _phases_at_once(x: Any, kernel: Any, window: Window, p: Any) -> Any:
    """One dense convolution whose features are those of all phases.

    Some of its weights are zeros, but vectors of the processor are fuller than with the few
    features of a phase alone.
    """
    phases, counts = phases_of(window), counts_of(window)
    low, points = reach_of(phases)
    parts = []
    for phase in phases:
        part = part_of(kernel, phase, window)
        edges = [
            (s - lo, n - (s - lo) - m, 0) if 0 not in phase.points else (0, n - m, 0)
            for s, lo, n, m in zip(phase.start, low, points, part.shape, strict=False)
        ]
        parts.append(lax.pad(part, np.zeros((), part.dtype), [*edges, (0, 0, 0), (0, 0, 0)]))
    together = _fixed(jnp.concatenate(parts, -1))
    found = _plain(x, together, [-lo for lo in low], counts, p)
    found = found.reshape(*found.shape[:-1], len(phases), kernel.shape[-1])
    return interleaved(jnp.moveaxis(found, -2, 0), window)
