"""Attention weights followed through the layers of a transformer.

The weights of an unmodified model are values with names, such as `block3/attention/softmax#0`:

    names = [f"block{k}/attention/softmax#0" for k in range(12)]
    captured = attrax.capture(model, x, at=names)
    weights = jnp.stack([captured[name] for name in names])

A dictionary that leaves a compiled function is sorted, block10 before block2: stack by name. Where
the layers run under a scan, one bare name, `blocks/attention/softmax#0`, gives all of them stacked.
In NNX the heads stand in groups, which is one axis more: `reshape(L, -1, T, T)` joins them.
"""

import functools

import jax
import jax.numpy as jnp

from .._core import _checks
from .._core._types import Array, wide_dtype, widen


def attention_rollout(weights: Array) -> Array:
    r"""Attention multiplied through all layers, with half of every layer for its skip connection.

    $$R = B_L \cdots B_2 B_1 \text{ with } B_l = \frac{1}{2} (I + mean_h A_{l,h})$$

    Rows sum to 1, as those of the weights do: row i says what share each token of the input has in
    token i of the last layer. It ignores the values, the layers in between, and the score: it is
    the same for every class.

    Args:
        weights: `(L, heads, T, T)`, of one example, the first layer first; queries and then keys.

    Returns:
        `(T, T)`, in the dtype of `weights`; without units. For a transformer that classifies by
        token 0, `R[0, 1:]` is the share of each other token.

    Raises:
        TypeError: when `weights` is not floating.
        ValueError: when `weights` is not one array `(L, heads, T, T)`.

    Example:
        >>> first = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])  # both tokens look at token 0
        >>> attention_rollout(jnp.stack([first, first])).tolist()
        [[1.0, 0.0], [0.75, 0.25]]

    References:
        Abnar and Zuidema (2020), arXiv:2005.00928, section 3 (attention rollout), the mean over
        heads.
    """
    weights = _attention(weights)
    shares = jnp.mean(widen(weights), axis=1)
    return _through((shares + _identity(shares)) / 2).astype(weights.dtype)


def gradient_weighted_attention(weights: Array, gradients: Array) -> Array:
    r"""Attention that raises the score, accumulated through all layers.

    $$R = (I + E_L) \cdots (I + E_2) (I + E_1) \text{ with } E_l = mean_h
    relu(G_{l,h} \odot A_{l,h})$$

    Unlike `attention_rollout` it depends on a score, and on its sign: attention that lowers the
    score counts 0. It is for self-attention; cross-attention has rules of its own. Completeness
    does not hold, and rows sum to nothing in particular.

    Args:
        weights: `(L, heads, T, T)`, of one example, the first layer first; queries and then keys.
        gradients: of the score, `(L, heads, T, T)`: with the names whose weights
            `attrax.capture(model, x, at=names)` gives,
            `attrax.gradients_at(model, x, score=score, at=names)` gives them, stacked in the same
            way.

    Returns:
        `(T, T)`, in the dtype of `weights`, not negative. It has no single unit, since every layer
        multiplies by that of the score: compare entries within one map. For a transformer that
        classifies by token 0, `R[0, 1:]` is the relevance of each other token.

    Raises:
        TypeError: when `weights` or `gradients` is not floating.
        ValueError: when `weights` is not one array `(L, heads, T, T)`, or `gradients` does not
            match its shape.

    Example:
        >>> weights = jnp.full((1, 1, 2, 2), 0.5)
        >>> gradients = jnp.array([[[[0.0, 2.0], [-1.0, 0.0]]]])
        >>> gradient_weighted_attention(weights, gradients).tolist()
        [[1.0, 1.0], [0.0, 1.0]]

    References:
        Chefer, Gur and Wolf (2021), arXiv:2103.15679, equations 5 and 6. Their earlier method,
        arXiv:2012.09838, has the relevance of layer-wise propagation in the place of A.
    """
    weights = _attention(weights)
    gradients = _checks.floating(gradients, "gradients")
    if jnp.shape(gradients) != weights.shape:
        raise ValueError(
            f"`gradients` must have the shape of `weights`; got {jnp.shape(gradients)} against "
            f"{weights.shape}."
        )
    dtype = wide_dtype(weights.dtype, gradients.dtype)
    product = gradients.astype(dtype) * weights.astype(dtype)
    shares = jnp.mean(jax.nn.relu(product), axis=1)
    return _through(shares + _identity(shares)).astype(weights.dtype)


def _through(layers: Array) -> Array:
    """The product of all layers, the last one on the left."""
    # The default product rounds to bfloat16 or TF32 on accelerators.
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return functools.reduce(lambda total, layer: product(layer, total), list(layers))


def _identity(layers: Array) -> Array:
    return jnp.eye(layers.shape[-1], dtype=layers.dtype)[None]


def _attention(weights: Array) -> Array:
    weights = _checks.floating(weights, "weights")
    shape = jnp.shape(weights) if jax.tree_util.all_leaves([weights]) else ()
    if len(shape) != 4 or shape[2] != shape[3] or not shape[0]:
        found = shape or f"a {type(weights).__name__}"
        raise ValueError(
            f"`weights` must be one array (L, heads, T, T); got {found}. Stack the layers with "
            "`jnp.stack`, and map over a batch with `jax.vmap`."
        )
    return weights
