"""What samples say on average."""

import jax.numpy as jnp

from .._core._safe import root
from .._core._types import Array, Estimate, wide_dtype


def mean_of(values: Array) -> Estimate:
    """The mean of `(n, ...)` samples over the first axis, with its standard error."""
    n, values = values.shape[0], values.astype(wide_dtype(values.dtype))
    mean = jnp.mean(values, axis=0)
    spread = jnp.sum((values - mean[None]) ** 2, axis=0)
    return Estimate(mean, root(spread / (n * (n - 1))))
