"""Attributions reduced to channels or to positions, and channels ranked."""

from typing import NamedTuple

import jax.numpy as jnp

from .._core import _checks
from .._core._types import Array, wide_dtype


def channels(attribution: Array, axis: int = -1) -> Array:
    r"""The attribution of each channel: the sum over all axes but one.

    $$out_c = \sum_p attribution_{p,c}$$

    What is complete stays complete.

    Args:
        attribution: of one example, `(..., C)` or with the channels along `axis`.
        axis: the axis of channels.

    Returns:
        `(C,)`, in the dtype and units of `attribution`; the sum is kept in float32 or wider.

    Raises:
        TypeError: when `attribution` is not floating.
        ValueError: when it has no such axis.

    Example:
        >>> channels(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [4.0, 6.0]
    """
    attribution = _checks.one_array(attribution, "attribution")
    kept = _checks.axis_of(axis, attribution.ndim)
    return _sum(attribution, tuple(i for i in range(attribution.ndim) if i != kept))


def positions(attribution: Array, axis: int = -1) -> Array:
    r"""The attribution of each position: the sum over channels.

    $$out_p = \sum_c attribution_{p,c}$$

    What is complete stays complete. Contributions of opposite sign cancel: for a mask of where
    anything happens give it `jnp.abs(attribution)`.

    Args:
        attribution: of one example, `(..., C)` or with the channels along `axis`.
        axis: the axis of channels.

    Returns:
        The shape of `attribution` without `axis`, in its dtype and units; the sum is kept in
        float32 or wider.

    Raises:
        TypeError: when `attribution` is not floating.
        ValueError: when it has no such axis.

    Example:
        >>> positions(jnp.array([[1.0, -2.0], [3.0, 4.0]])).tolist()
        [-1.0, 7.0]
    """
    attribution = _checks.one_array(attribution, "attribution")
    return _sum(attribution, (_checks.axis_of(axis, attribution.ndim),))


def _sum(values: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(values, axis=axes, dtype=wide_dtype(values.dtype)).astype(values.dtype)


class ChannelRanking(NamedTuple):
    """The channels at both ends of a ranking, each `(k,)`, the most extreme first."""

    positive_indices: Array
    positive_values: Array
    negative_indices: Array
    negative_values: Array


def rank_channels(values: Array, k: int) -> ChannelRanking:
    """The k most positive and the k most negative channels.

    Of equal values the lower index comes first. Where fewer than k values are positive, the list
    of positive ones goes on into the negative ones, and the other way round. NaN has no rank: where
    any value is NaN all values of the ranking are NaN, and all indices -1.

    Args:
        values: `(C,)`, such as `channels(attribution)`.
        k: how many at each end; a Python int between 1 and C.

    Returns:
        A `ChannelRanking`; values in the units of `values`.

    Raises:
        TypeError: when `values` is not floating or `k` is not an int.
        ValueError: when `values` is not one-dimensional, or `k` lies outside [1, C].

    Example:
        >>> ranking = rank_channels(jnp.array([0.5, -2.0, 3.0, 0.0]), 2)
        >>> ranking.positive_indices.tolist(), ranking.negative_indices.tolist()
        ([2, 0], [1, 3])
    """
    values = _checks.one_array(values, "values")
    if values.ndim != 1:
        raise ValueError(
            f"`values` must be one number per channel; got shape {values.shape}. Reduce an "
            "attribution with `attrax.channels` first."
        )
    k = _checks.count(k, "k", most=values.shape[0])
    ranked = ~jnp.any(jnp.isnan(values))

    def first(descending: bool) -> tuple[Array, Array]:
        # A sort stays on its device where a batch is divided among several; `top_k` does not.
        places = jnp.argsort(values, descending=descending, stable=True)[:k]
        return jnp.where(ranked, places, -1), jnp.where(ranked, values[places], jnp.nan)

    return ChannelRanking(*first(True), *first(False))
