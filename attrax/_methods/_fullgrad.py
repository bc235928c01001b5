"""FullGrad: the score as the sum of what the input and every bias contribute."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from .._core import _checks
from .._core._safe import absolute
from .._core._types import Array, PyTree, wide_dtype
from ._cam import stretched, upsample
from ._gradient import gradient_times_input


class FullGradient(NamedTuple):
    """What a score is made of: the contribution of the input, like it, and of the biases."""

    input: PyTree
    biases: PyTree


def full_gradient(fn: Callable[[PyTree, PyTree], Array], x: PyTree, biases: PyTree) -> FullGradient:
    r"""Gradient times input, and gradient times bias for every bias.

    $$x \odot \frac{\partial fn}{\partial x} \text{ and } b \odot \frac{\partial fn}{\partial b}$$

    Complete for functions with `fn(c x, c b) = c fn(x, b)` for c > 0: the sum over input and biases
    is `fn(x, b)`, exactly. That is, for networks of dense and convolutional layers, ReLU, leaky
    ReLU, sums, mean and max pooling and batch norm on stored statistics, provided that `biases`
    holds every constant that is added anywhere, stored means included. Not for tanh, GELU or
    softmax, for layer norm, nor for ReLU6, whose cap is a constant that no bias stands for:
    `attrax.metrics.completeness_gap` says by how much.

    In a tree of Flax parameters the biases are the leaves of that name:

        from flax.traverse_util import flatten_dict, unflatten_dict

        flat = flatten_dict(variables)
        biases = {path: leaf for path, leaf in flat.items() if path[-1] in ("bias", "mean")}

        def fn(x, biases):
            return score(module.apply(unflatten_dict({**flat, **biases}), x))

    `mean` is what batch norm on stored statistics subtracts, a bias too. With batch norm folded
    into the layer before it there is none, and what all biases contribute together is the same.

    Args:
        fn: `(x, biases) -> scalar`, of one example.
        x: any pytree of floating arrays.
        biases: any pytree of floating arrays, all the additive constants. A constant that is added
            at every position can be given once, or spread out, as `(H, W, C)`: then its
            contribution, too, has positions.

    Returns:
        `FullGradient(input, biases)`, with the structures, shapes and dtypes of `x` and `biases`;
        units of `fn`.

    Raises:
        TypeError: when `x` or `biases` is not floating.
        ValueError: when `fn` does not return a scalar, or there are no biases.

    Example:
        >>> from jax.nn import relu
        >>> fn = lambda x, b: relu(2 * x + b["in"]) + b["out"]
        >>> found = full_gradient(fn, jnp.float32(3.0), {"in": 1.0, "out": -0.5})
        >>> found.input.item(), found.biases["in"].item(), found.biases["out"].item()  # sum 6.5
        (6.0, 1.0, -0.5)

    References:
        Srinivas and Fleuret (2019), arXiv:1905.00780, section 3, the full-gradients. The biases
        that they assign to smooth activations are not computed.
    """
    x, biases = _checks.floating(x), _checks.floating(biases, "biases")
    return gradient_times_input(lambda both: fn(*both), FullGradient(x, biases))


def full_gradient_map(parts: Sequence[Array], shape: Sequence[int]) -> Array:
    r"""The FullGrad saliency map: sizes of all contributions that have positions, on one picture.

    $$out_p = \sum_l \sum_c upsample(rescale(|part_l|))_{p,c}$$

    with each part stretched to [0, 1] as a whole.

    It is made for looking at. Every layer weighs the same, however much it contributes; signs are
    lost, and completeness no longer holds.

    Args:
        parts: contributions with positions and then channels, `(H, W, C)`, of any sizes: that of
            the input, and those of the biases of convolutions. Where a bias `(C,)` is added at
            every position, `attrax.gradients_at(model, x, score=score, at=layer) * bias` is its
            contribution at each, for the layer that adds it.
        shape: the height and width of the map, `x.shape[:2]`.

    Returns:
        `(*shape,)`, not negative, in float32 or wider; without units.

    Raises:
        TypeError: when a part is not floating, or `shape` does not hold ints.
        ValueError: when there is no part, or a part does not have one axis more than `shape`.

    Example:
        >>> parts = [jnp.array([[[-2.0], [0.0]]]), jnp.array([[[3.0], [3.0]]])]
        >>> full_gradient_map(parts, (1, 2)).tolist()  # the second is the same everywhere
        [[1.0, 0.0]]

    References:
        Srinivas and Fleuret (2019), arXiv:1905.00780, section 5, FullGrad, with the rescaling of
        their code: a layer as a whole, from its least to its largest absolute value.
    """
    parts = [_checks.floating(part, "parts") for part in parts]
    if not parts:
        raise ValueError("`parts` must hold at least one contribution.")
    for part in parts:
        if jnp.ndim(part) != len(shape) + 1:
            raise ValueError(
                "each of `parts` must have positions and channels, one axis more than `shape`; got "
                f"{jnp.shape(part)} against {tuple(shape)}."
            )
    dtype = wide_dtype(*(part.dtype for part in parts))
    seen = [upsample(stretched(absolute(part.astype(dtype))), shape) for part in parts]
    return sum((jnp.sum(part, axis=-1) for part in seen[1:]), jnp.sum(seen[0], axis=-1))
