"""Changes of the score along a path, shared out by the squared gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._loops import weighted_sum
from .._core._types import (
    Array,
    Path,
    PyTree,
    ScalarFn,
    cast_like,
    tree_dtype,
    wide_dtype,
    widen,
)
from ..paths import straight


def idgi(
    fn: ScalarFn,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    steps: int,
    path: Path = straight,
    batch_size: int = 8,
) -> PyTree:
    r"""Important direction gradient integration: each change of the score, shared by gradient^2.

    $$\sum_k (fn(p_{k+1}) - fn(p_k)) \frac{d_k + d_{k+1}}{2}$$

    $$\text{with } d_k = \frac{g_k^2}{\lVert g_k \rVert^2}, \; g_k = \nabla fn(p_k),
    \; p_k = c(k / steps)$$

    where c is the path.

    A step along a path has a part in the direction of the gradient and a part across it, and only
    the first changes the score. So the whole change is given to that direction. The method is
    complete by construction, for any number of steps: the parts of `d` are positive and add up to
    1. Where the gradient is zero there is no direction, and the other end of the step takes the
    whole change. Where both are zero the change is lost, and completeness with it.

    A feature that `fn` ignores gets 0. One that equals its baseline may not, since the gradient
    does not point along the path. The method is not linear in `fn`, and it depends on the units of
    `x`: in a unit twice as large, the squared gradient is four times as large.

    Args:
        fn: `x -> scalar`, of one example.
        x: any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        steps: how many steps of equal time; the entries settle as `1 / steps^2` on a smooth `fn`.
        path: `path(x, baseline) -> (t -> point)`. It is called with arrays of float32 or wider.
        batch_size: steps evaluated at once, at `batch_size + 1` points.

    Returns:
        The structure, shapes and dtypes of `x`; units of `fn`.

    Raises:
        TypeError: when `x` is not floating, or `steps` is not an int.
        ValueError: when `fn` does not return a scalar, `steps` is below 1, or `baseline` or the
            points of the path do not match the shapes of `x`.

    Example:
        >>> idgi(lambda x: 2 * x[0] + x[1], jnp.array([1.0, 3.0]), steps=1).tolist()
        [4.0, 1.0]

    References:
        Yang, Wang and Bilgic (2023), arXiv:2303.14242, algorithm 1. They take the direction at the
        beginning of each step, `d_k`, so that entries settle as `1 / steps`, and a gradient of zero
        gives NaN.
    """
    x = _checks.floating(x)
    curve = path(widen(x), widen(_checks.baseline_like(baseline, x)))
    n, size = _checks.count(steps, "steps"), _checks.count(batch_size, "batch_size")
    chunks = -(-n // size)
    size = -(-n // chunks)
    # The last chunk is filled up with steps from the end to the end, along which nothing changes.
    ends = np.minimum(np.arange(chunks)[:, None] * size + np.arange(size + 1), n)
    times = jnp.asarray(ends / n, tree_dtype(x))
    score = jax.value_and_grad(_checks.scalar_valued(fn))

    def node(t: Array) -> tuple[Array, Array, PyTree]:
        value, slope = score(_checks.like(curve(t), x, "path"))
        value = value.astype(wide_dtype(value.dtype))
        return value, *_direction(widen(slope), value.dtype)

    def chunk(times: Array) -> PyTree:
        values, steep, directions = jax.vmap(node)(times)
        takers = steep[:-1] + steep[1:]
        share = jnp.diff(values) / jnp.maximum(takers, 1)
        # What a node takes of the steps before and behind it.
        taken = jnp.pad(share, (0, 1)) + jnp.pad(share, (1, 0))
        return jax.tree.map(
            lambda d: jax.vmap(jnp.multiply)(taken.astype(d.dtype), d).sum(0), directions
        )

    return cast_like(weighted_sum(chunk, times, jnp.ones(chunks), batch_size=1), x)


def _direction(slope: PyTree, dtype: np.dtype) -> tuple[Array, PyTree]:
    """1 and the squared gradient scaled to the sum 1; 0 and zeros where the gradient is zero.

    The squares of a small gradient would be lost, so the largest entry is made 1 before. What comes
    out does not depend on that scale, and therefore nor does its derivative.
    """
    common = tree_dtype(slope)
    sizes = [jnp.max(jnp.abs(g), initial=0).astype(common) for g in jax.tree.leaves(slope)]
    largest = functools.reduce(jnp.maximum, sizes)
    steep = largest != 0  # NaN is steep: it must not pass for a direction that is not there.
    scale = jax.lax.stop_gradient(jnp.where(steep, largest, 1))
    squares = jax.tree.map(lambda g: jnp.square(g / scale.astype(g.dtype)), slope)
    norm = sum((jnp.sum(s).astype(common) for s in jax.tree.leaves(squares)), jnp.zeros((), common))
    norm = jnp.where(steep, norm, 1)
    return steep.astype(dtype), jax.tree.map(lambda s: s / norm.astype(s.dtype), squares)
