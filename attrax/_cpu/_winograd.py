"""Convolutions with kernels of 3 x 3 points in 16 products for every 4 outputs, in place of 36.

`y = A' ((G k G') * (B' x B)) A` for each tile x of 4 x 4 inputs; tiles overlap by 2, and y are 2 x
2 outputs. Each of the 16 products, summed over channels, is a product of matrices.

The transforms hold 0, 1/2 and 1 only, so that the rounding error is that of another order of the
sum. Where the input does not change along an axis, neither do the outputs, to the last bit: of the
products only one is not zero. So values of flat regions that were equal stay equal.

References:
    Lavin and Gray (2016), arXiv:1509.09308, section 4.1, F(2 x 2, 3 x 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

Square = list[list[Any]]


def convolution(x: Any, kernel: Any, low: Sequence[int], out: Sequence[int], precision: Any) -> Any:
    """The convolution of stride one, channels last, where the output has size `out`.

    Args:
        x: `(n, height, width, in)`.
        kernel: `(3, 3, in, out)`.
        low: how many zeros stand before the input, on each axis of space.
        out: the size of the output in space.
        precision: of the products.
    """
    n, features = x.shape[0], kernel.shape[-1]
    tiles = [-(-size // 2) for size in out]
    edges = [
        (lo, 2 * count + 2 - lo - size, 0)
        for lo, count, size in zip(low, tiles, x.shape[1:3], strict=True)
    ]
    padded = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    padded = lax.optimization_barrier(padded)
    rows, columns = (slice(0, 2 * count - 1, 2) for count in tiles)

    def moved(part: slice, by: int) -> slice:
        return slice(part.start + by, part.stop + by, 2)

    inputs = _both(
        _input,
        [[padded[:, moved(rows, i), moved(columns, j)] for j in range(4)] for i in range(4)],
    )
    # Behind barriers the weights are computed once, before the loop that this stands in.
    points = lax.optimization_barrier(jnp.stack(_kernel(lax.optimization_barrier(kernel))))
    weights = lax.optimization_barrier(jnp.stack(_kernel(jnp.swapaxes(points, 0, 1))))

    def product(i: int, j: int) -> Any:
        # Without the barriers the transforms become part of the products, many times over.
        points = lax.optimization_barrier(inputs[i][j]).reshape(-1, x.shape[-1])
        found = lax.dot_general(
            points, weights[i, j], (((1,), (0,)), ((), ())), precision=precision
        )
        return lax.optimization_barrier(found).reshape(n, *tiles, features)

    outputs = _both(_output, [[product(i, j) for j in range(4)] for i in range(4)])
    whole = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    whole = whole.reshape(n, 2 * tiles[0], 2 * tiles[1], features)
    return whole[:, : out[0], : out[1]]


def _both(transform: Callable[[Sequence[Any]], list[Any]], square: Square) -> Square:
    """A transform along both axes. The result has them exchanged, as has that of the next one."""
    rows = [transform(row) for row in square]
    return [transform(column) for column in zip(*rows, strict=True)]


def _input(x: Sequence[Any]) -> list[Any]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _kernel(k: Any) -> list[Any]:
    ends = k[0] + k[2]
    return [k[0], (ends + k[1]) / 2, (ends - k[1]) / 2, k[2]]


def _output(y: Sequence[Any]) -> list[Any]:
    return [y[0] + y[1] + y[2], y[1] - y[2] - y[3]]
