"""The score while features are put in or taken out in the order of their attribution."""

import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._loops import mapped
from .._core._safe import unless_nan
from .._core._types import Array, PyTree, ScalarFn, wide_dtype
from ._features import chosen, operands, ranks, ravel


def insertion_curve(
    fn: ScalarFn,
    attribution: PyTree,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    steps: int,
    batch_size: int = 8,
) -> Array:
    r"""The score while the features go from the baseline to the example, the best ones first.

    $$out_k = fn(x \text{ where } rank < k N / steps, b \text{ elsewhere})
    \text{ for } k = 0, \dots, steps$$

    `rank` counts the N features from the largest attribution down; of equal ones the first comes
    first. A steep rise, and a large `area`, says that the features ranked first suffice. The curve
    is exact, but half-filled examples are unlike those that the model was trained on, and another
    baseline gives another curve. With `-attribution` the worst come first. NaN has no rank: of an
    attribution that holds NaN the whole curve is NaN.

    Args:
        fn: `x -> scalar`, of one example: usually a probability.
        attribution: one number for each feature. Like `x`, or with its leading axes only: `(H, W)`
            for an image `(H, W, C)` inserts whole pixels.
        x: any pytree of arrays; integers, such as token ids, are welcome.
        baseline: like `x`; None is zeros.
        steps: the curve has `steps + 1` points; at most the number of features. Where it does not
            divide that number, the features inserted are rounded down.
        batch_size: points evaluated at once.

    Returns:
        `(steps + 1,)` in float32 or wider, from `fn(b)` to `fn(x)`; units of `fn`.

    Raises:
        TypeError: when `attribution` is not floating, or `steps` is not an int.
        ValueError: when `fn` does not return a scalar, shapes do not fit, or there are more steps
            than features.

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0])
        >>> insertion_curve(jnp.sum, x, x, steps=3).tolist()
        [0.0, 4.0, 6.0, 7.0]

    References:
        Petsiuk, Das and Saenko (2018), arXiv:1806.07421, the insertion metric.
    """
    attribution, x, baseline = operands(attribution, x, baseline)
    return _curve(fn, attribution, x, baseline, steps, batch_size)


def deletion_curve(
    fn: ScalarFn,
    attribution: PyTree,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    steps: int,
    batch_size: int = 8,
) -> Array:
    r"""The score while the features go from the example to the baseline, the best ones first.

    $$out_k = fn(b \text{ where } rank < k N / steps, x \text{ elsewhere})
    \text{ for } k = 0, \dots, steps$$

    A steep fall, and a small `area`, says that the features ranked first are needed. Otherwise as
    `insertion_curve`.

    Args:
        fn: `x -> scalar`, of one example: usually a probability.
        attribution: one number for each feature; like `x`, or with its leading axes only.
        x: any pytree of arrays.
        baseline: like `x`; None is zeros.
        steps: the curve has `steps + 1` points; at most the number of features.
        batch_size: points evaluated at once.

    Returns:
        `(steps + 1,)` in float32 or wider, from `fn(x)` to `fn(b)`; units of `fn`.

    Raises:
        TypeError: when `attribution` is not floating, or `steps` is not an int.
        ValueError: when `fn` does not return a scalar, shapes do not fit, or there are more steps
            than features.

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0])
        >>> deletion_curve(jnp.sum, x, x, steps=3).tolist()
        [7.0, 3.0, 1.0, 0.0]

    References:
        Petsiuk, Das and Saenko (2018), arXiv:1806.07421, the deletion metric.
    """
    attribution, x, baseline = operands(attribution, x, baseline)
    return _curve(fn, attribution, baseline, x, steps, batch_size)


def _curve(
    fn: ScalarFn, attribution: PyTree, first: PyTree, rest: PyTree, steps: int, batch_size: int
) -> Array:
    """`fn` where the features ranked first come from one example, and the others from another."""
    scalar, values = _checks.scalar_valued(fn), ravel(attribution)
    place = ranks(values)
    steps = _checks.count(steps, "steps", most=len(place))
    counts = jnp.asarray(np.arange(steps + 1) * len(place) // steps, place.dtype)

    def score(count: Array) -> Array:
        value = scalar(chosen(place < count, attribution, first, rest))
        return value.astype(wide_dtype(value.dtype))

    return unless_nan(mapped(score, counts, batch_size=batch_size), values)


def area(curve: Array) -> Array:
    r"""The area under a curve over [0, 1] whose points are equally far apart.

    $$\frac{1}{n - 1} \sum_k \frac{c_k + c_{k+1}}{2}$$

    which is the trapezoidal rule.

    Args:
        curve: `(..., n)`, such as `insertion_curve` gives; n at least 2.

    Returns:
        `(...)`, in the units of the curve: a mean score.

    Raises:
        TypeError: when `curve` is not floating.
        ValueError: when it has fewer than two points.

    Example:
        >>> area(jnp.array([0.0, 5.0, 6.0])).item()
        4.0

    References:
        Petsiuk, Das and Saenko (2018), arXiv:1806.07421, the area under either curve.
    """
    curve = _checks.wide(curve, "curve")
    if curve.ndim < 1 or curve.shape[-1] < 2:
        raise ValueError(f"`curve` must have at least two points; got shape {curve.shape}.")
    inner = jnp.sum(curve, axis=-1) - (curve[..., 0] + curve[..., -1]) / 2
    return inner / (curve.shape[-1] - 1)
