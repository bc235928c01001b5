"""How a kernel lies on an input: which input each of its points reads for each output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax


class Window(NamedTuple):
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


def padded_input(x: Any, window: Window) -> Any:
    """The input spread out and padded, so that every point of the kernel falls inside."""
    edges = []
    for i, size in enumerate(window.size):
        spread = (size - 1) * window.spacing[i] + 1
        reach = (window.out[i] - 1) * window.stride[i]
        reach += (window.kernel[i] - 1) * window.dilation[i] + 1
        edges.append((window.low[i], reach - window.low[i] - spread, window.spacing[i] - 1))
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def tap(padded: Any, at: Sequence[int], window: Window) -> Any:
    """What the point `at` of the kernel meets at every place."""
    index = [
        slice(k * d, k * d + (out - 1) * s + 1, s)
        for k, d, out, s in zip(at, window.dilation, window.out, window.stride, strict=True)
    ]
    return padded[(slice(None), *index)]


# A convolution of an input that is spread out with zeros in between, as the derivative of a strided
# one is, falls into one dense convolution for each phase of the output.


class Phase(NamedTuple):
    """The points `first`, `first + spacing`, ... of the kernel, on neighbours from `start` on.

    `out[spacing q + phase] = sum_j in[q + start + j] kernel[first + spacing j]`
    """

    first: tuple[int, ...]
    start: tuple[int, ...]
    points: tuple[int, ...]


def has_phases(window: Window) -> bool:
    """Whether the input is spread out, and nothing else is."""
    return {*window.stride, *window.dilation} == {1} and {*window.spacing} != {1}


def phases_of(window: Window) -> list[Phase]:
    """In the order of the phases; those without a point of the kernel included."""
    axes = []
    for kernel, low, spacing in zip(window.kernel, window.low, window.spacing, strict=True):
        first = [(low - phase) % spacing for phase in range(spacing)]
        start = [(phase + f - low) // spacing for phase, f in enumerate(first)]
        points = [len(range(f, kernel, spacing)) for f in first]
        axes.append(list(zip(first, start, points, strict=True)))
    return [Phase(*zip(*each, strict=True)) for each in itertools.product(*axes)]


def part_of(kernel: Any, phase: Phase, window: Window) -> Any:
    """The points of the kernel that a phase has."""
    return kernel[
        tuple(slice(f, None, s) for f, s in zip(phase.first, window.spacing, strict=True))
    ]


def counts_of(window: Window) -> tuple[int, ...]:
    """How many values each phase of the output has."""
    return tuple(-(-out // s) for out, s in zip(window.out, window.spacing, strict=True))


def reach_of(phases: Sequence[Phase]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first neighbour that any phase meets, and how many there are from it on."""
    met = [phase for phase in phases if 0 not in phase.points]
    low = tuple(map(min, zip(*(phase.start for phase in met), strict=True)))
    ends = ([s + n for s, n in zip(phase.start, phase.points, strict=True)] for phase in met)
    high = map(max, zip(*ends, strict=True))
    return low, tuple(h - lo for h, lo in zip(high, low, strict=True))


def interleaved(stacked: Any, window: Window) -> Any:
    """The phases, `(phases, n, *counts, features)`, to `(n, *out, features)`."""
    ndim, counts = len(window.out), counts_of(window)
    stacked = stacked.reshape(*window.spacing, *stacked.shape[1:])
    places = itertools.chain.from_iterable((ndim + 1 + i, i) for i in range(ndim))
    merged = jnp.transpose(stacked, (ndim, *places, 2 * ndim + 1))
    size = [c * s for c, s in zip(counts, window.spacing, strict=True)]
    merged = merged.reshape(merged.shape[0], *size, merged.shape[-1])
    return merged[(slice(None), *(slice(out) for out in window.out))]
