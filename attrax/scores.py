"""Scores: what is asked of a model's outputs. Each function returns `outputs -> scalar`.

Any callable is a score, and scores combine by arithmetic:
`lambda y: scores.logit(3)(y) - 0.5 * scores.logsumexp()(y)`.

An index may be a Python int or a traced integer. The first raises while tracing when it is out
of range, negative ones included. The value of the second is not known then; out of range it gives
NaN, in the value and in every entry of the gradient, and never the score of a neighbouring class.
Scores are computed in float32 or wider.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._core import _checks, _safe
from ._core._names import shown
from ._core._types import Array, Score, wide_dtype

__all__ = [
    "Index",
    "channel",
    "contrast",
    "direction",
    "log_probability",
    "logit",
    "logsumexp",
    "margin",
    "max_logit",
    "neuron",
    "norm",
    "one_of",
    "probability",
    "threshold",
]
__dir__ = shown(__name__)

Index: TypeAlias = int | np.integer | Array


def logit(i: Index) -> Score:
    r"""The output of class i, for outputs `(classes,)`.

    $$y_i$$

    Example:
        >>> logit(2)(jnp.array([1.0, 2.0, 5.0])).item()
        5.0
    """
    _index(i)
    return lambda y: _entry(_vector(y, "logit"), i)


def probability(i: Index) -> Score:
    r"""The softmax probability of class i.

    $$\frac{\exp(y_i)}{\sum_k \exp(y_k)}$$

    Example:
        >>> probability(0)(jnp.zeros(4)).item()
        0.25
    """
    _index(i)
    return lambda y: _entry(jax.nn.softmax(_vector(y, "probability")), i)


def log_probability(i: Index) -> Score:
    r"""The logarithm of the softmax probability of class i.

    $$y_i - \log \sum_k \exp(y_k)$$

    Example:
        >>> log_probability(0)(jnp.array([3.0])).item()
        0.0
    """
    _index(i)
    return lambda y: _entry(jax.nn.log_softmax(_vector(y, "log_probability")), i)


def max_logit() -> Score:
    r"""The largest output.

    $$\max_k y_k$$

    The maximum is taken wherever the score is evaluated, so the class may change along a path.
    Equal maxima share the gradient equally.

    Example:
        >>> max_logit()(jnp.array([1.0, 4.0])).item()
        4.0
    """
    return lambda y: jnp.max(_vector(y, "max_logit"))


def logsumexp() -> Score:
    r"""The logarithm of the sum of exponentials, a smooth maximum.

    $$\log \sum_k \exp(y_k)$$

    Example:
        >>> round(logsumexp()(jnp.zeros(4)).item(), 4)  # log 4
        1.3863
    """
    return lambda y: jax.nn.logsumexp(_vector(y, "logsumexp"))


def contrast(i: Index, j: Index | None = None) -> Score:
    r"""What speaks for class i against class j; for class i alone where j is None.

    $$y_i - y_j$$

    Example:
        >>> contrast(2, 0)(jnp.array([1.0, 2.0, 5.0])).item()
        4.0
    """
    _index(i)
    if j is None:
        return lambda y: _entry(_vector(y, "contrast"), i)
    _index(j)

    def score(y: Array) -> Array:
        y = _vector(y, "contrast")
        return _entry(y, i) - _entry(y, j)

    return score


def margin(i: Index) -> Score:
    r"""What speaks for class i against the best of the others.

    $$y_i - \max_{k \ne i} y_k$$

    Positive exactly where class i is predicted.

    Example:
        >>> margin(2)(jnp.array([1.0, 2.0, 5.0])).item()
        3.0
    """
    _index(i)

    def score(y: Array) -> Array:
        y = _vector(y, "margin")
        if y.shape[0] < 2:
            raise ValueError(f"`margin` needs at least two classes; got shape {y.shape}.")
        y, index = _guarded(y, i, 0)
        classes = jnp.arange(y.shape[0], dtype=jnp.result_type(index))
        others = jnp.where(classes == index, -jnp.inf, y)
        return _at(y, index, 0) - jnp.max(others)

    return score


def channel(i: Index, *, axis: int = -1, reduce: Callable[[Array], Array] = jnp.sum) -> Score:
    r"""One channel of a layer, reduced over its positions.

    $$reduce_p(y_{p,i})$$

    Args:
        i: the channel.
        axis: the axis of channels.
        reduce: `array -> scalar`, such as `jnp.sum`, `jnp.mean` or `jnp.max`.

    Example:
        >>> channel(1)(jnp.array([[1.0, 2.0], [3.0, 4.0]])).item()
        6.0
    """
    _index(i)

    def score(y: Array) -> Array:
        y = _wide(y, "channel")
        kept = _checks.axis_of(axis, y.ndim)
        value = reduce(_entry(y, i, kept))
        if jnp.shape(value) != ():
            raise ValueError(f"`reduce` must return a scalar; got shape {jnp.shape(value)}.")
        return value

    return score


def neuron(*index: Index) -> Score:
    r"""One neuron of a layer, with one index for each axis.

    $$y_{index}$$

    Example:
        >>> neuron(1, 0)(jnp.array([[1.0, 2.0], [3.0, 4.0]])).item()
        3.0
    """
    for i in index:
        _index(i)

    def score(y: Array) -> Array:
        y = _wide(y, "neuron")
        if y.ndim != len(index):
            raise ValueError(
                f"`neuron` needs one index for each axis; got {len(index)} for shape {y.shape}."
                f"{' ' + _BATCH if y.ndim > len(index) else ''}"
            )
        for i in index:
            y = _entry(y, i)
        return y

    return score


def direction(vector: Any) -> Score:
    r"""A direction in the space of channels, over all positions p.

    $$\sum_p y_p \cdot vector$$

    Args:
        vector: `(C,)`, not normalised here.

    Example:
        >>> direction([1.0, -1.0])(jnp.array([[1.0, 2.0], [5.0, 4.0]])).item()
        0.0
    """
    vector = jnp.asarray(vector)
    if vector.ndim != 1:
        raise ValueError(f"`vector` must be one-dimensional; got shape {vector.shape}.")

    def score(y: Array) -> Array:
        y = _wide(y, "direction")
        if y.shape[-1:] != vector.shape:
            raise ValueError(
                f"`vector` must have the length of the last axis; got {vector.shape} "
                f"against {y.shape}."
            )
        # The positions first: a product with a matrix unit may round to fewer bits.
        pooled = jnp.sum(y, axis=tuple(range(y.ndim - 1)))
        return jnp.sum(pooled * vector.astype(y.dtype))

    return score


def norm() -> Score:
    r"""The Euclidean norm of everything.

    $$\sqrt{\sum_k y_k^2}$$

    The norm has no gradient at 0; here it is 0 there, the smallest of its subgradients, so that a
    layer that is silent at one point of a path does not turn the integral to NaN.

    Example:
        >>> norm()(jnp.array([[3.0], [4.0]])).item()
        5.0
    """

    def score(y: Array) -> Array:
        return _safe.norm(_wide(y, "norm"))

    return score


def threshold(t: float | Array) -> Score:
    r"""All that is above a threshold less all that is below.

    $$\sum_k sign(y_k - t) \, y_k$$

    The sign is not differentiated, and is 0 where y equals t.

    Example:
        >>> threshold(2.0)(jnp.array([1.0, 2.0, 5.0])).item()
        4.0

    References:
        `ThresholdQoI` of TruLens.
    """

    def score(y: Array) -> Array:
        y = _wide(y, "threshold")
        return jnp.sum(jax.lax.stop_gradient(jnp.sign(y - jnp.asarray(t, y.dtype))) * y)

    return score


def one_of(*scores: Score) -> Callable[[Index], Score]:
    """Several scores as one whose index may be mapped: `i -> scores[i]`.

    `jax.vmap` over the index explains all of them from one forward pass: K scores cost 1 + K
    forward passes, not 2 K. Mapped, all are differentiated, and one whose derivative is infinite
    makes the others NaN.

    Raises:
        ValueError: when there is no score, when one of them does not return a scalar, or when an
            index that is not traced is out of range.

    Example:
        >>> choose = one_of(logit(0), lambda y: y @ y)
        >>> gradient_of = lambda i: jax.grad(choose(i))(jnp.array([1.0, 3.0]))
        >>> jax.vmap(gradient_of)(jnp.arange(2)).tolist()
        [[1.0, 0.0], [2.0, 6.0]]
    """
    if not scores:
        raise ValueError("`one_of` must have at least one score; got none.")
    checked = [_checks.scalar_valued(score, "a score") for score in scores]

    def chosen(i: Index) -> Score:
        _index(i)

        def score(y: Any) -> Array:
            dtype = wide_dtype(*(jax.eval_shape(score, y).dtype for score in checked))
            # A choice, not a sum with zeros: 0 x inf of a score that is not chosen is NaN.
            branches = [lambda y, score=score: score(y).astype(dtype) for score in checked]
            if not isinstance(i, jax.Array):
                return branches[_static(i, len(branches), "there are {} scores")](y)
            index, known = _clipped(i, len(branches))
            # The outputs, too, so that every entry of a gradient is NaN; integers cannot be.
            y = jax.tree.map(lambda leaf: _product(leaf, known), y)
            return _product(jax.lax.switch(index, branches, y), known)

        return score

    return chosen


_BATCH = (
    "If the model has a batch axis of its own, wrap it, `attrax.unbatched(model)`, and give it one "
    "example without that axis, `x[0]` of a batch `x`; map over a batch of outputs with `jax.vmap`."
)


def _wide(y: Any, score: str) -> Array:
    """`y` as one floating array in float32 or wider."""
    if not isinstance(y, jax.Array | np.ndarray):
        raise TypeError(
            f"`{score}` scores one array; got {type(y).__name__}. Choose it first, as in "
            f"`lambda y: scores.{score}(...)(y[0])`."
        )
    y = jnp.asarray(y)
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"`{score}` scores floating outputs; got {y.dtype}.")
    return y.astype(wide_dtype(y.dtype))


def _vector(y: Any, score: str) -> Array:
    """`y` as the outputs of one example, `(classes,)`."""
    y = _wide(y, score)
    if y.ndim != 1:
        raise ValueError(
            f"`{score}` scores one example, outputs of shape (classes,); got {y.shape}. {_BATCH} "
            "For a layer use `scores.channel` or `scores.neuron`."
        )
    return y


def _index(i: Index) -> None:
    """Raises unless `i` is one integer."""
    if isinstance(i, jax.Array):
        is_integer = jnp.issubdtype(i.dtype, jnp.integer)
        if i.shape != () or not is_integer:
            hint = (
                "For several classes use `jax.vmap` over the index."
                if is_integer
                else "If these are outputs, choose the class first: `scores.logit(3)(outputs)`."
            )
            raise TypeError(
                f"an index must be one integer; got shape {i.shape} of {i.dtype}. {hint}"
            )
        return
    try:
        operator.index(i)
    except TypeError:
        raise TypeError(f"an index must be one integer; got {i!r}.") from None


def _entry(y: Array, i: Index, axis: int = 0) -> Array:
    """`y` at index i of `axis`, without that axis."""
    return _at(*_guarded(y, i, axis), axis)


def _at(y: Array, index: int | Array, axis: int) -> Array:
    if isinstance(index, int):
        return jax.lax.index_in_dim(y, index, axis, keepdims=False)
    return jax.lax.dynamic_index_in_dim(y, index, axis, keepdims=False)


def _guarded(y: Array, i: Index, axis: int) -> tuple[Array, int | Array]:
    """`y`, all NaN where the traced index i is out of range of `axis`, and the index made safe."""
    size = y.shape[axis]
    if not isinstance(i, jax.Array):
        return y, _static(i, size, "outputs have {} entries")
    index, known = _clipped(i, size)
    return _product(y, known), index


def _clipped(i: Array, size: int) -> tuple[Array, Array]:
    """The traced index i inside [0, size), and a factor: 1, or NaN where it was outside."""
    # Narrow integers cannot be compared with a large size.
    index = i.astype(jnp.int32) if i.dtype.itemsize < 4 else i
    inside = (index >= 0) & (index < size)
    return jnp.clip(index, 0, size - 1), jnp.where(inside, 1, jnp.nan)


def _product(y: Any, factor: Array) -> Array:
    """A product, not a selection: where the factor is NaN, so is the derivative in every entry."""
    dtype = jnp.result_type(y)
    return y * factor.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else y


def _static(i: Any, size: int, have: str) -> int:
    """The index i, which is not traced, provided that it is in range."""
    index = operator.index(i)
    if not 0 <= index < size:
        raise ValueError(f"index {index} is out of range: {have.format(size)}.")
    return index
