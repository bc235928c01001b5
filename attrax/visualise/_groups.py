"""Groups of neurons: a few directions that an activation is made of."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import _checks
from .._core._types import Array


class Groups(NamedTuple):
    """A non-negative factorisation: `z[p, c] ~ sum_k positions[k, p] channels[k, c]`.

    Attributes:
        positions: `(n, H, W)`, how strong a group is at each position; units of the activation.
        channels: `(n, C)`, what a group consists of, each of length 1.
    """

    positions: np.ndarray
    channels: np.ndarray


def neuron_groups(z: Array, n: int, *, key: Array, max_iterations: int = 2000) -> Groups:
    """The neurons of a layer in a few groups that are active together.

    `z ~ sum_k positions[k] channels[k]^T`, all non-negative, least squares

    Groups are in order of decreasing size, `sum_p positions[k, p]`. This is a local optimum:
    another key may find other groups. `cosine_direction(z, groups.channels[k])` is the objective
    that renders group k; its attribution is
    `sum_pc positions[k, p] channels[k, c] gradient[p, c]`.

    This runs on the host, in scikit-learn.

    Args:
        z: an activation, `(..., C)`, not negative. Several images are factorised together as
            `(N, H, W, C)`.
        n: how many groups.
        key: a key of `jax.random`, for where the factorisation starts.
        max_iterations: how many iterations to make if it does not converge before.

    Returns:
        `Groups(positions, channels)`, NumPy arrays of the dtype of `z`.

    Raises:
        ImportError: when scikit-learn is not installed.
        TypeError: when `z` is not floating.
        ValueError: when `z` is negative somewhere or has one axis only, `n` is below 1,
            or there is no key.

    Example:
        >>> z = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> neuron_groups(z, 2, key=jax.random.key(0)).channels.round(3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]

    References:
        Olah et al. (2018), doi:10.23915/distill.00010, "Making Things Human-Scale". Lucid orders
        groups by where in the image they peak.
    """
    try:
        from sklearn.decomposition import NMF
    except ImportError:
        raise ImportError(
            "Groups of neurons need scikit-learn: pip install 'attrax[groups]'", name="sklearn"
        ) from None
    values = np.asarray(_checks.floating(z, "z"))
    if values.ndim < 2:
        raise ValueError(f"`z` must be positions and channels, (..., C); got {values.shape}.")
    if values.min() < 0:
        raise ValueError(
            f"`z` must not be negative; got {values.min():g}. Factorise what speaks for the "
            "channels, `jax.nn.relu(z)`, or an activation behind a ReLU."
        )
    n = _checks.count(n, "n")
    # scikit-learn's default, "auto", makes type checkers take the number for a string.
    seed = int(jax.random.bits(_checks.random_key(key, "neuron_groups"), dtype=jnp.uint32))
    options: dict[str, Any] = {"n_components": n, "init": "nndsvda", "random_state": seed}
    model = NMF(**options, max_iter=max_iterations)
    strengths = model.fit_transform(values.reshape(-1, values.shape[-1]))
    lengths = np.linalg.norm(model.components_, axis=1)
    strengths, channels = (
        strengths * lengths,
        model.components_ / np.where(lengths, lengths, 1)[:, None],
    )
    order = np.argsort(-strengths.sum(axis=0), kind="stable")
    positions = strengths.T[order].reshape(n, *values.shape[:-1])
    return Groups(positions.astype(values.dtype), channels[order].astype(values.dtype))
