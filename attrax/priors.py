"""Attributions inside a training loop: as a part of the loss, and watched while the model trains.

An attribution prior says what an explanation should look like, and is added to the loss. Every
attribution can be differentiated, so any method and any function of its result make one:

    def prior(x, y, region):
        attribution = attrax.integrated_gradients(lambda x: model(x)[y], x, batch_size=1)
        return priors.right_reasons(attribution, region)

    loss = cross_entropy + strength * priors.batch_mean(prior, xs, ys, regions)

| the explanation should | penalty |
|---|---|
| keep out of a region | `right_reasons` |
| be smooth | `total_variation` |
| vary little along the edges of a graph with Laplacian L | `a @ L @ a` |
| use few features in the whole data set | `-metrics.gini(batch_mean(size, xs, ys))`, where `size` \
is the absolute value of the attribution |

**Cost**, in forward passes of one example, derivatives by the weights included. Cross entropy alone
costs 3. The prior adds 6 with `attrax.gradient` and 8 for each point of a method that averages over
points, 2 of which compute the chunk a second time; `batch_mean` adds 2 to the first and nothing to
the second.

**Memory** is that of a chunk, not of all points. One point of one example at a time takes the
least, and is no slower on a CPU.

**Devices.** Where examples are divided among devices, `batch_mean` takes as many of each device's
at once, and each device computes its own, if `batch_size` is a multiple of the number of devices
and divides the number of examples. A derivative by the weights is then summed over the devices once
for every chunk; `docs/devices.md` shows how to have it summed once.

**Kinks.** The derivative is exactly that of the sum that a method computes. With ReLU that is not
yet the derivative of the integral: a weight that moves a kink past a point changes the integral
smoothly and the sum not at all. Train with a smooth activation (softplus, GELU, tanh) where the
prior has to act through biases.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._core import _checks, _safe
from ._core._loops import keep_sums, weighted_sum
from ._core._names import shown
from ._core._types import Array, PyTree

__all__ = [
    "batch_mean",
    "monitor",
    "right_reasons",
    "total_variation",
]
__dir__ = shown(__name__)


def batch_mean(fn: Callable[..., PyTree], xs: PyTree, *aux: PyTree, batch_size: int = 8) -> PyTree:
    r"""The mean over a batch of whatever a function of one example returns.

    $$\frac{1}{N} \sum_{i=1}^N fn(xs_i, aux_i)$$

    The value of `jax.vmap` and `jnp.mean`, in the memory of `batch_size` examples and not of N, its
    derivatives too. For those, what `fn` computes outside a weighted sum of this library is
    computed a second time.

    Args:
        fn: a function of one example and of what is paired with it. It returns any pytree of
            numbers of any shape: a penalty, the size of an attribution, metrics. Integers and
            booleans are averaged in float32.
        xs: N examples: any pytree of arrays with a leading axis.
        *aux: what belongs to each example, such as labels, masks, keys; with the same leading axis.
        batch_size: examples at once.

    Returns:
        The structure and shapes of what `fn` returns, in its units, in float32 or wider.

    Raises:
        ValueError: when `xs` and `aux` do not share one leading axis.

    Example:
        >>> xs, labels = jnp.array([[1.0, 2.0], [4.0, 3.0]]), jnp.array([1, 1])
        >>> batch_mean(lambda x, y: {"logit": x[y], "right": x.argmax() == y}, xs, labels)
        {'logit': Array(2.5, dtype=float32), 'right': Array(0.5, dtype=float32)}
    """
    n = _checks.leading_axis((xs, *aux), "`xs` and what is paired with it")
    chunks = -(-n // _checks.count(batch_size, "batch_size"))

    def row_of(row: tuple) -> PyTree:
        return jax.tree.map(_number, fn(*row))

    def chunk_of(chunk: tuple[PyTree, Array]) -> PyTree:
        rows, shares = chunk
        return weighted_sum(row_of, rows, shares, batch_size=shares.shape[0], policy=keep_sums)

    dealt = _dealt((xs, *aux), n, chunks)
    return weighted_sum(chunk_of, dealt, jnp.ones(chunks), batch_size=1, policy=keep_sums)


def _dealt(rows: PyTree, n: int, chunks: int) -> tuple[PyTree, Array]:
    """Rows, and the share of each in their mean, with two leading axes, `(chunks, size)`.

    They are dealt out like cards: chunk k gets rows k, k + chunks, ... So where blocks of rows lie
    on different devices, every chunk has rows of each, and no row moves to another device. The last
    chunks are filled up with the last row again, without a share.
    """
    size = -(-n // chunks)
    places = np.arange(size * chunks)

    def deal(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        if n < size * chunks:
            leaf = leaf[np.minimum(places, n - 1)]
        return jnp.swapaxes(leaf.reshape(size, chunks, *leaf.shape[1:]), 0, 1)

    shares = jnp.asarray(np.where(places < n, 1 / n, 0)).reshape(size, chunks)
    return jax.tree.map(deal, rows), shares.T


def monitor(
    fn: Callable[..., PyTree],
    step: int | Array,
    xs: PyTree,
    *aux: PyTree,
    every: int,
    batch_size: int = 8,
) -> PyTree:
    r"""The mean over a batch at every k-th step, and NaN at the others.

    $$\frac{1}{N} \sum_{i=1}^N fn(xs_i, aux_i)
    \text{ where } step \bmod every = 0 \text{, NaN elsewhere}$$

    For a training step that is compiled: the steps between pay nothing for the metrics. (Mapped
    over a batch of steps with `jax.vmap`, all pay.) Call it outside the function that is
    differentiated. In a loop in Python an `if` around `batch_mean` does the same.

    Args:
        fn: a function of one example and of what is paired with it. It returns any pytree of
            numbers, such as `attrax.metrics` of an attribution.
        step: the number of the step; it may be traced.
        xs: N examples: any pytree of arrays with a leading axis.
        *aux: what belongs to each example, with the same leading axis.
        every: k, at least 1.
        batch_size: examples at once.

    Returns:
        The structure and shapes of what `fn` returns, in its units, in float32 or wider.

    Raises:
        ValueError: when `xs` and `aux` do not share one leading axis, or `every` is below 1.

    Example:
        >>> log = jax.jit(lambda step, xs: monitor(jnp.max, step, xs, every=10))
        >>> [log(step, jnp.array([[1.0, 2.0], [4.0, 3.0]])).item() for step in (10, 11)]
        [3.0, nan]
    """
    k = _checks.count(every, "every")

    def measured(operands: tuple) -> PyTree:
        return batch_mean(fn, *operands, batch_size=batch_size)

    def skipped(operands: tuple) -> PyTree:
        found = jax.eval_shape(measured, operands)
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), found)

    return jax.lax.cond(jnp.asarray(step) % k == 0, measured, skipped, (xs, *aux))


def right_reasons(attribution: Array, region: Array) -> Array:
    r"""The squared attribution inside a region that should not matter.

    $$\sum_{i \in region} attribution_i^2$$

    Zero when nothing in the region is attributed, of either sign. It grows with the square of the
    scale of the attribution, so the strength that it needs falls with that square.

    Args:
        attribution: an array of any shape. Ross et al. take the gradient by the input of the sum of
            the log probabilities of all classes, which needs no label.
        region: boolean, in the shape of `attribution`; True where the model should not look.

    Returns:
        A scalar in float32 or wider; units of the attribution, squared.

    Raises:
        TypeError: when `attribution` is not floating or `region` is not boolean.
        ValueError: when the shapes differ.

    Example:
        >>> right_reasons(jnp.array([1.0, -2.0, 5.0]), jnp.array([True, True, False])).item()
        5.0

    References:
        Ross, Hughes and Doshi-Velez (2017), arXiv:1703.03717, the middle term of the loss; it is
        their sum for one example, and `batch_mean` divides by the number of examples.
    """
    attribution = _checks.wide(attribution, "attribution")
    if jnp.shape(region) != attribution.shape:
        raise ValueError(
            "`region` must have the shape of `attribution`; got "
            f"{jnp.shape(region)} against {attribution.shape}."
        )
    if jnp.result_type(region) != jnp.bool_:
        raise TypeError(f"`region` must be boolean; got {jnp.result_type(region)}.")
    return jnp.sum(jnp.where(region, attribution, 0) ** 2)


def total_variation(attribution: Array, axes: Sequence[int] = (0, 1)) -> Array:
    r"""How much neighbouring attributions differ: 0 when all are equal along `axes`.

    $$\sum_{axes} \sum_i |attribution_{i+1} - attribution_i|$$

    It grows with the scale of the attribution: a model that is less sure of everything lowers it
    too. At a difference of 0 the derivative is taken as 0.

    Args:
        attribution: an array, such as `(H, W)` or `(H, W, C)`.
        axes: along which neighbours are compared.

    Returns:
        A scalar in float32 or wider; units of the attribution.

    Raises:
        TypeError: when `attribution` is not floating.
        ValueError: when an axis is out of range.

    Example:
        >>> total_variation(jnp.array([[0.0, 1.0], [3.0, 1.0]])).item()  # 3 + 0 down, 1 + 2 across
        6.0

    References:
        Erion et al. (2021), arXiv:1906.10670, the pixel attribution prior.
    """
    attribution = _checks.wide(attribution, "attribution")
    axes = [_checks.axis_of(axis, attribution.ndim, "axes") for axis in axes]
    # Blank pixels have equal attributions, often by the thousand: nothing should pull them apart.
    return _safe.total_variation(attribution, axes)


def _number(value: Any) -> Array:
    value = jnp.asarray(value)
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.float32)
