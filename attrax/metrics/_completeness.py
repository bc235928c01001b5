"""What an attribution adds up to."""

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._types import Array, PyTree, ScalarFn, wide_dtype


def completeness_gap(
    fn: ScalarFn, attribution: PyTree, x: PyTree, baseline: PyTree | None = None
) -> Array:
    r"""What the attribution adds up to beyond the change of the score.

    $$\sum_i attribution_i - (fn(x) - fn(b))$$

    Exactly zero for a complete method without quadrature or rounding error. A gap near zero is
    necessary, not sufficient: errors of single entries cancel in the sum.

    Args:
        fn: the function that was explained.
        attribution: what a method returned.
        x: the example.
        baseline: the baseline of the attribution; None is zeros.

    Returns:
        A scalar in float32 or wider; units of `fn`.

    Raises:
        TypeError: when `x` is not floating.
        ValueError: when `fn` does not return a scalar, or `attribution` or `baseline` does not
            match the shapes of `x`.

    Example:
        >>> x = jnp.array([2.0, 3.0])
        >>> completeness_gap(lambda x: x[0] * x[1], jnp.array([3.0, 3.5]), x).item()
        0.5

    References:
        Sundararajan, Taly and Yan (2017), arXiv:1703.01365, section 3 (completeness).
    """
    x = _checks.floating(x)
    scalar = _checks.scalar_valued(fn)
    ends = scalar(x), scalar(_checks.baseline_like(baseline, x))
    parts = jax.tree.leaves(_checks.fitting(attribution, x, "attribution"))
    dtype = wide_dtype(*(end.dtype for end in ends), *(part.dtype for part in parts))
    total = sum((jnp.sum(part, dtype=dtype) for part in parts), jnp.zeros((), dtype))
    return total - (ends[0].astype(dtype) - ends[1].astype(dtype))
