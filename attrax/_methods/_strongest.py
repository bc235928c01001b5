"""The two-step explanation: the strongest channel of a layer, then what drives that channel."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from .. import scores
from .._core import _checks
from .._core._types import Array, PyTree, ScalarFn, Score
from .._models._cuts import capture, cut
from ._integrated import integrated_gradients
from ._reduce import channels

Explain: TypeAlias = Callable[[ScalarFn, PyTree], PyTree]
"""`explain(fn, x) -> attribution`, like x: any method with its options filled in."""


class ChannelExplanation(NamedTuple):
    """What `strongest_channel` returns.

    `channel` is the index of the channel, `contributions` the attribution of every channel of the
    layer, `(C,)`, in units of the score, and `attribution` that of the input towards the channel,
    like `x`, in units of the channel's summed activation.
    """

    channel: Array
    contributions: Array
    attribution: PyTree


def strongest_channel(
    model: Callable[..., Any],
    x: PyTree,
    *,
    score: Score,
    at: str,
    explain: Explain = integrated_gradients,
    axis: int = -1,
) -> ChannelExplanation:
    r"""The channel of a layer that speaks most for a score, and what in the input drives it.

    $$c = argmax_c channels(explain(score \circ tail, z))_c \text{, then }
    explain(x \mapsto \sum_p z(x)_{p,c}, x)$$

    where `(z, tail)` is the cut at the layer.

    The first step holds the input fixed and asks the layer; the second holds the channel fixed and
    asks the input. The product of the two is not the attribution of the input towards the score,
    which runs through all channels.

    Args:
        model: a model whose layers have names; see `attrax.layers`.
        x: its input, one example.
        score: `outputs -> scalar`.
        at: the layer.
        explain: the method of both steps, `explain(fn, x)`, such as
            `attrax.gradient_times_input`, or a `lambda` that sets options.
        axis: the axis of the layer's channels.

    Returns:
        A `ChannelExplanation`. Show its attribution by `attrax.plot.mask`. Of equal channels it is
        that with the lowest index. Where the contribution of any channel is NaN there is no
        strongest one: `channel` is -1 and `attribution` NaN.

    Raises:
        ValueError: when there is no such layer, the output does not depend on it, or it has no
            such axis; whatever `explain` raises.

    Example:
        >>> import attrax
        >>> def model(x):
        ...     z = attrax.tap("pair", jnp.stack([x[0] + x[1], x[1] * x[2]]))
        ...     return z * jnp.array([1.0, 2.0])
        >>> found = strongest_channel(
        ...     attrax.as_model(model), jnp.array([1.0, 2.0, 3.0]), score=jnp.sum, at="pair")
        >>> found.channel.item(), found.contributions.round().tolist()
        (1, [3.0, 12.0])
        >>> found.attribution.round().tolist()  # the channel is x[1] * x[2]
        [0.0, 3.0, 3.0]

    References:
        Leino et al. (2018), arXiv:1802.03788, section 4, for the slice to the layer and the slice
        from it; the channel mask of TruLens is the second step.
    """
    _checks.function(score, "`score`")
    z, tail = cut(model, x, at=at)
    contributions = channels(explain(lambda z: score(tail(z)), z), axis=axis)
    # No channel is the strongest where one is NaN. A traced index of -1 makes its score NaN.
    unknown = jnp.any(jnp.isnan(contributions))
    channel = jnp.where(unknown, -1, jnp.argmax(contributions))
    driven = scores.channel(channel, axis=axis)
    attribution = explain(lambda x: driven(capture(model, x, at=at)), x)
    return ChannelExplanation(channel, contributions, attribution)
