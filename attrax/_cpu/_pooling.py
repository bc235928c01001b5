"""The derivative of max-pooling, by selections of shifted inputs."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._windows import Window

_MOST_POINTS = 64
"""Points of a window up to which it pays: its terms are as large as its input."""


def max_pool_gradient(eqn: Any) -> Callable[..., Any] | None:
    """Each source is added where its window has its first maximum."""
    p = eqn.params
    names = ("select_prim", "window_dimensions", "window_strides", "padding")
    if p["select_prim"].name != "ge" or set(p) - {*names}:
        return None
    if math.prod(p["window_dimensions"]) > _MOST_POINTS:
        return None
    source, operand = (v.aval for v in eqn.invars)
    if 0 in source.shape:
        return None
    ones = (1,) * operand.ndim
    window = Window(
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


def _strided(padded: Any, at: Sequence[int], window: Window) -> Any:
    limits = [a + (o - 1) * s + 1 for a, o, s in zip(at, window.out, window.stride, strict=True)]
    return lax.slice(padded, at, limits, window.stride)


def _scattered(values: Any, at: Sequence[int], shape: Sequence[int], window: Window) -> Any:
    """The transpose of `_strided`."""
    edges = [
        (a, n - a - ((o - 1) * s + 1), s - 1)
        for a, n, o, s in zip(at, shape, window.out, window.stride, strict=True)
    ]
    return lax.pad(values, np.zeros((), values.dtype), edges)
