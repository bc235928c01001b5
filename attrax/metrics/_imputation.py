"""Pixels removed and filled in from their neighbours, so that the hole itself says little."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.sparse.linalg import cg

from .._core import _checks
from .._core._loops import mapped
from .._core._safe import quotient, unless_nan
from .._core._types import Array, Estimate, ScalarFn, wide_dtype
from ._features import ranks, ravel
from ._samples import mean_of


def noisy_linear_imputation(
    x: Array, removed: Array, *, key: Array, sigma: float | Array = 0.01
) -> Array:
    r"""An image whose removed pixels are the weighted means of their neighbours, with noise.

    $$y_p = \frac{\sum_q w_{p,q} y_q}{\sum_q w_{p,q}} + \sigma e_p \text{ for removed } p,
    \; y_q = x_q \text{ for others}$$

    over the up to eight neighbours q inside the image, with weight 1/6 for those that share an edge
    and 1/12 for those that share a corner. The means hold for all removed pixels at once: a sparse
    linear system, symmetric and positive definite, solved by conjugate gradients to the rounding
    error. The noise, e ~ N(0, 1), is added afterwards. The values of removed pixels are ignored.
    Where every pixel is removed, the image is noise around zero.

    Args:
        x: `(H, W)` or `(H, W, C)`, channels being filled in one by one.
        removed: `(H, W)`, boolean.
        key: for the noise.
        sigma: the standard deviation of the noise, in the units of `x`.

    Returns:
        The shape, dtype and units of `x`.

    Raises:
        TypeError: when `x` is not floating or `removed` is not boolean.
        ValueError: when `x` is not an image, or `removed` does not have its height and width.

    Example:
        >>> ramp = jnp.tile(jnp.arange(5.0), (3, 1))
        >>> hole = jnp.zeros((3, 5), bool).at[1, 1:4].set(True)
        >>> filled = noisy_linear_imputation(ramp, hole, key=jax.random.key(0), sigma=0.0)
        >>> filled[1].round(4).tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]

    References:
        Rong et al. (2022), arXiv:2202.00449, noisy linear imputation, with the weights and the
        noise of the authors' code. Solved by iteration instead of a sparse factorisation.
    """
    x = _image(x)
    if jnp.shape(removed) != x.shape[:2]:
        raise ValueError(
            "`removed` must have the height and width of `x`; got "
            f"{jnp.shape(removed)} against {x.shape}."
        )
    if jnp.result_type(removed) != jnp.bool_:
        raise TypeError(f"`removed` must be boolean; got {jnp.result_type(removed)}.")
    removed, key = jnp.asarray(removed), _checks.random_key(key, "noisy_linear_imputation")
    return _noisy(x, _filled(x, removed), removed, key, sigma)


def road(
    fn: ScalarFn,
    attribution: Array,
    x: Array,
    *,
    key: Array,
    fractions: Sequence[float] | Array,
    num_samples: int,
    sigma: float | Array = 0.01,
    batch_size: int = 8,
) -> Estimate:
    r"""The score when the pixels ranked first are removed and filled in from their neighbours.

    $$out_j = \mathbb{E} fn(y)$$

    where `y` is the `noisy_linear_imputation` of the fraction `fractions[j]`
    of the pixels

    A deletion curve that does not draw a hole: what is put in place of a pixel looks like its
    surroundings, so that the shape of what was removed gives less of the class away. A steep fall
    supports the ranking. With `-attribution` the worst are removed first.

    Args:
        fn: `x -> scalar`, of one example: usually a probability.
        attribution: `(H, W)`, one number for each pixel; `attrax.positions` sums over channels.
        x: `(H, W)` or `(H, W, C)`.
        key: each sample of the noise gets a key of its own.
        fractions: `(n,)` in [0, 1), each rounded to whole pixels; the authors take 0.1 to 0.9.
        num_samples: how many samples of the noise for each fraction, at least 2.
        sigma: the standard deviation of the noise, in the units of `x`.
        batch_size: samples evaluated at once.

    Returns:
        An `Estimate` of two arrays `(n,)` in float32 or wider, the mean over the noise; units of
        `fn`.

    Raises:
        TypeError: when `x` or `attribution` is not floating.
        ValueError: when `fn` does not return a scalar, `x` is not an image, `attribution` does not
            have its height and width, or a fraction is not in [0, 1).

    Example:
        >>> x = jnp.zeros((4, 4)).at[1, 1].set(8.0)
        >>> found = road(jnp.sum, x, x, key=jax.random.key(0), fractions=[0.0, 1 / 16],
        ...              num_samples=2, sigma=0.0)
        >>> found.value.tolist()
        [8.0, 0.0]

    References:
        Rong et al. (2022), arXiv:2202.00449 (ROAD). For one example and any score, where they count
        correct predictions over a data set.
    """
    x, attribution = _image(x), _checks.one_array(attribution, "attribution")
    if jnp.shape(attribution) != x.shape[:2]:
        raise ValueError(
            "`attribution` must have the height and width of `x`; got "
            f"{jnp.shape(attribution)} against {x.shape}. `attrax.positions` sums over channels."
        )
    scalar, place = _checks.scalar_valued(fn), ranks(ravel(attribution))
    shares = _fractions(fractions)
    n = _checks.count(num_samples, "num_samples", least=2)
    counts = jnp.round(shares * len(place)).astype(place.dtype)

    def scores(where: tuple[Array, Array]) -> Array:
        count, keys = where
        removed = (place < count).reshape(x.shape[:2])
        filled = _filled(x, removed)

        def score(key: Array) -> Array:
            value = scalar(_noisy(x, filled, removed, key, sigma))
            return value.astype(wide_dtype(value.dtype))

        return mapped(score, keys, batch_size=batch_size)

    keys = jax.random.split(_checks.random_key(key, "road"), (len(counts), n))
    found = mapped(scores, (counts, keys), batch_size=1).T
    return mean_of(unless_nan(found, attribution))


@jax.jit
def _filled(x: Array, removed: Array) -> Array:
    """`x` in float32 or wider, its removed pixels solving the system without noise."""
    dtype = wide_dtype(x.dtype)
    hole = removed.reshape(removed.shape + (1,) * (x.ndim - 2))
    known = jnp.where(hole, 0, x.astype(dtype))
    # Around the mean of what is known, so that the error is relative to the contrast.
    count = jnp.sum(~hole, axis=(0, 1), keepdims=True, dtype=dtype)
    level = quotient(jnp.sum(known, axis=(0, 1), keepdims=True), count, 0)
    known = jnp.where(hole, 0, known - level)
    weight = _neighbours(jnp.ones(hole.shape, dtype))

    def system(y: Array) -> Array:
        return jnp.where(hole, weight * y - _neighbours(y), 0)

    right = jnp.where(hole, _neighbours(known), 0)
    # Across a hole of diameter d the iteration needs some multiple of d.
    solution, _ = cg(
        system, right, tol=8 * float(jnp.finfo(dtype).eps), maxiter=10 * sum(x.shape[:2])
    )
    return jnp.where(hole, solution + level, x.astype(dtype))


def _neighbours(y: Array) -> Array:
    """The sum over the eight neighbours with weights 1/6 (edges) and 1/12 (corners), 0 outside.

    (1, 2, 1) times (1, 2, 1) is 12 times these weights, and 4 in the middle.
    """
    total = y
    for axis, n in enumerate(y.shape[:2]):
        padded = jnp.pad(total, [(1, 1) if i == axis else (0, 0) for i in range(y.ndim)])
        before, after = (jax.lax.slice_in_dim(padded, i, i + n, axis=axis) for i in (0, 2))
        total = before + 2 * total + after
    return (total - 4 * y) / 12


@jax.jit
def _noisy(x: Array, filled: Array, removed: Array, key: Array, sigma: float | Array) -> Array:
    hole = removed.reshape(removed.shape + (1,) * (x.ndim - 2))
    noise = jax.random.normal(key, x.shape, filled.dtype)
    imputed = filled + jnp.asarray(sigma, filled.dtype) * noise
    return jnp.where(hole, imputed.astype(x.dtype), x)


def _image(x: Array) -> Array:
    x = _checks.one_array(x, "x")
    if x.ndim not in (2, 3):
        raise ValueError(f"`x` must be an image, (H, W) or (H, W, C); got {x.shape}.")
    return x


def _fractions(fractions: Sequence[float] | Array) -> Array:
    shares = fractions if isinstance(fractions, Tracer) else np.asarray(fractions, np.float64)
    if shares.ndim != 1:
        raise ValueError(f"`fractions` must be one-dimensional; got shape {shares.shape}.")
    if isinstance(shares, np.ndarray):
        outside = shares[~((shares >= 0) & (shares < 1))]
        if outside.size:
            raise ValueError(f"`fractions` must lie in [0, 1); got {outside[0]}.")
    return jnp.asarray(shares, jnp.result_type(float))
