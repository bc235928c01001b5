"""Where an attribution lies, against where the object is known to be."""

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._safe import quotient, root, unless_nan
from .._core._types import Array, wide_dtype
from ._features import ranks


def pointing_game(attribution: Array, region: Array, *, tolerance: float | Array = 0.0) -> Array:
    r"""Does the largest attribution lie in the region, or near it?

    $$\min_{p \in region} |p - argmax(attribution)| \le tolerance$$

    1 or 0 for each example; the mean over a data set is the accuracy. Of equal maxima the first
    counts. An empty region is never hit.

    Args:
        attribution: one number for each position, such as `(H, W)`.
        region: boolean, in the shape of `attribution`.
        tolerance: how far outside still counts, in positions, in a straight line.

    Returns:
        A scalar in float32 or wider: 1 for a hit, 0 for a miss.

    Raises:
        TypeError: when `attribution` is not floating or `region` is not boolean.
        ValueError: when the shapes differ, or `tolerance` is not a scalar.

    Example:
        >>> attribution = jnp.array([[0.0, 3.0], [1.0, 0.0]])
        >>> region = jnp.array([[True, False], [False, False]])
        >>> hits = [pointing_game(attribution, region, tolerance=d).item() for d in (0.0, 1.0)]
        >>> hits
        [0.0, 1.0]

    References:
        Zhang et al. (2016), arXiv:1608.00507, the pointing game, with a tolerance of 15 pixels.
    """
    attribution, region = _operands(attribution, region)
    if np.shape(tolerance) != ():
        raise ValueError(f"`tolerance` must be a scalar; got shape {np.shape(tolerance)}.")
    dtype = wide_dtype(attribution.dtype)
    place = jnp.stack(jnp.unravel_index(jnp.argmax(attribution), region.shape))
    grid = jnp.asarray(np.indices(region.shape), place.dtype)
    offsets = (grid - place.reshape(-1, *[1] * region.ndim)).astype(dtype)
    distance = root(jnp.sum(offsets**2, axis=0))
    near = jnp.asarray(tolerance, dtype)
    hit = jnp.any(region & (distance <= near))
    return unless_nan(hit.astype(dtype), attribution, near)


def relevance_mass(attribution: Array, region: Array) -> Array:
    r"""How much of the positive attribution lies in the region.

    $$\frac{\sum_{p \in region} \max(attribution_p, 0)}{\sum_p \max(attribution_p, 0)}$$

    Compare it with the share of the positions that the region takes up: what an even map gets.
    Where nothing is positive it is 0.

    Args:
        attribution: one number for each position, such as `(H, W)`. For a map without signs give
            absolute values.
        region: boolean, in the shape of `attribution`.

    Returns:
        A scalar between 0 and 1, in float32 or wider.

    Raises:
        TypeError: when `attribution` is not floating or `region` is not boolean.
        ValueError: when the shapes differ.

    Example:
        >>> region = jnp.array([True, True, False])
        >>> relevance_mass(jnp.array([1.0, -5.0, 3.0]), region).item()
        0.25

    References:
        Arras, Osman and Samek (2022), arXiv:2003.07258, relevance mass accuracy.
    """
    attribution, region = _operands(attribution, region)
    dtype = wide_dtype(attribution.dtype)
    mass = jax.nn.relu(attribution.astype(dtype))
    return quotient(jnp.sum(jnp.where(region, mass, 0)), jnp.sum(mass), 0)


def relevance_rank(attribution: Array, region: Array) -> Array:
    r"""How many of the K positions ranked first lie in the region, which has K positions itself.

    $$\frac{1}{K} \sum_{p \in region} [rank_p < K] \text{ with } K = |region|$$

    Of equal attributions the first position comes first. An empty region gives 0.

    Args:
        attribution: one number for each position, such as `(H, W)`.
        region: boolean, in the shape of `attribution`.

    Returns:
        A scalar between 0 and 1, in float32 or wider.

    Raises:
        TypeError: when `attribution` is not floating or `region` is not boolean.
        ValueError: when the shapes differ.

    Example:
        >>> region = jnp.array([True, True, False])
        >>> relevance_rank(jnp.array([4.0, 1.0, 3.0]), region).item()
        0.5

    References:
        Arras, Osman and Samek (2022), arXiv:2003.07258, relevance rank accuracy.
    """
    attribution, region = _operands(attribution, region)
    dtype, inside = wide_dtype(attribution.dtype), region.reshape(-1)
    size = jnp.sum(inside)
    first = ranks(attribution.reshape(-1)) < size
    found = quotient(jnp.sum(first & inside).astype(dtype), size.astype(dtype), 0)
    return unless_nan(found, attribution)


def _operands(attribution: Array, region: Array) -> tuple[Array, Array]:
    attribution = _checks.one_array(attribution, "attribution")
    if jnp.shape(region) != jnp.shape(attribution):
        raise ValueError(
            "`region` must have the shape of `attribution`; got "
            f"{jnp.shape(region)} against {jnp.shape(attribution)}."
        )
    if jnp.result_type(region) != jnp.bool_:
        raise TypeError(f"`region` must be boolean; got {jnp.result_type(region)}.")
    return attribution, jnp.asarray(region)
