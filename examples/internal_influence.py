"""Inside a network: which channel of a layer decides, and which pixels drive that channel.

    python examples/internal_influence.py

A photograph of a cup of coffee (`coffee.png` of scikit-image), EfficientNet-Lite0 with its weights,
and the questions that one can ask of a slice of it:

1. which channel of `block11/relu6#0`, a layer that every path crosses, speaks most for *espresso*,
   and which pixels drive that channel;
2. the same layer under four distributions of interest: at the activation, on the line from zero at
   the layer, on the line in input space, and around the input;
3. from layer to layer: what that channel draws on in `block5`;
4. three scores at once, from one forward pass.

Writes `out/internal_influence.png`.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import attrax
import pretrained
from attrax import channels, distributions, scores
from attrax.quadrature import gauss_legendre, midpoint

IMAGE, CLASS, AGAINST, LAYER, EARLIER = "coffee", "espresso", "cup", "block11/relu6#0", "block5"


class Answers(NamedTuple):
    """What `ask` returns: attributions, and the values that they are to add up to."""

    strongest: attrax.ChannelExplanation
    distributions: dict[str, jax.Array]  # of each channel of LAYER, (C,)
    change: jax.Array  # of the score, from the zero activation of LAYER to its own
    earlier: jax.Array  # of each channel of EARLIER
    earlier_change: jax.Array  # of the channel, from the zero activation of EARLIER
    several: jax.Array  # of each channel of LAYER, one row a score


def ask(model: attrax.Model, x: jax.Array, classes: jax.Array, key: jax.Array) -> Answers:
    """All questions. `classes` are the indices of CLASS and AGAINST, `x` is a `(H, W, 3)` input."""
    score = scores.logit(classes[0])
    rule = gauss_legendre(32)

    def explain(fn, x):
        return attrax.integrated_gradients(fn, x, rule=rule)

    strongest = attrax.strongest_channel(model, x, score=score, at=LAYER, explain=explain)

    def split(x):
        z, tail = attrax.cut(model, x, at=LAYER)
        return z, lambda z: score(tail(z))

    z, tail = attrax.cut(model, x, at=LAYER)
    fn = lambda z: score(tail(z))  # noqa: E731
    sample = midpoint(16)
    lines = {
        "at the activation": z * attrax.influence(fn, z, distributions.point, rule=midpoint(1)),
        "line at the layer": z * attrax.influence(fn, z, distributions.linear(), rule=rule),
        "line in input space": attrax.conductance(split, x, rule=rule),
        "around the input": z
        * attrax.internal_influence(split, x, distributions.gaussian(0.2), rule=sample, key=key),
    }

    # From layer to layer: the tail of the earlier cut is a model, whose LAYER is captured.
    before, rest = attrax.cut(model, x, at=EARLIER)
    driven = scores.channel(strongest.channel)
    inner = lambda z: driven(attrax.capture(rest, z, at=LAYER))  # noqa: E731

    choose = scores.one_of(
        score, scores.contrast(classes[0], classes[1]), scores.log_probability(classes[0])
    )
    at_once = jax.vmap(lambda i: explain(lambda z: choose(i)(tail(z)), z))(jnp.arange(3))
    return Answers(
        strongest,
        {name: channels(value) for name, value in lines.items()},
        fn(z) - fn(jnp.zeros_like(z)),
        channels(explain(inner, before)),
        inner(before) - inner(jnp.zeros_like(before)),
        jax.vmap(channels)(at_once),
    )


def figure(answers: Answers, picture: np.ndarray) -> Figure:
    """The photograph, and the pixels that drive the strongest channel."""
    drawn, axes = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
    axes[0].imshow(picture)
    axes[0].set_title(f"{CLASS}?")
    axes[0].set_axis_off()
    channel = answers.strongest.channel
    attrax.plot.mask(
        jnp.abs(answers.strongest.attribution),
        picture,
        threshold=0.8,
        title=f"What drives channel {channel} of {LAYER}",
        ax=axes[1],
    )
    return drawn


def main() -> None:
    """Ask, print, draw."""
    model = attrax.from_linen(*pretrained.efficientnet_lite0())
    x = pretrained.preprocess(pretrained.photo(IMAGE))
    classes = jnp.array([pretrained.class_index(name) for name in (CLASS, AGAINST)])
    answers = jax.jit(ask)(model, x, classes, jax.random.key(0))

    ranking = attrax.rank_channels(answers.strongest.contributions, 4)
    print(f"{LAYER}: the channels that speak most for {CLASS}")
    for channel, value in zip(ranking.positive_indices, ranking.positive_values, strict=True):
        print(f"  channel {channel:3}  {value:+.3f} logits")
    print(f"distributions of interest at {LAYER} (the line at the layer is to add up to "
          f"{answers.change:+.3f})")  # fmt: skip
    for name, values in answers.distributions.items():
        top = int(jnp.argmax(values))
        print(f"  {name:20} sum {values.sum():+8.3f}, most channel {top} ({values[top]:+.3f})")
    top = jax.lax.top_k(answers.earlier, 4)[1]
    print(f"{EARLIER} to channel {answers.strongest.channel} of {LAYER}: sum "
          f"{answers.earlier.sum():+.2f} of {answers.earlier_change:+.2f}, most channels "
          f"{top.tolist()}")  # fmt: skip
    names = (f"logit of {CLASS}", f"{CLASS} against {AGAINST}", f"log probability of {CLASS}")
    for name, values in zip(names, answers.several, strict=True):
        print(f"  {name:28} sum {values.sum():+8.3f}, most channel {jnp.argmax(values)}")
    file = Path("out") / "internal_influence.png"
    file.parent.mkdir(exist_ok=True)
    figure(answers, pretrained.display(x)).savefig(file, dpi=150)
    print(file)


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"internal_influence: {error}", file=sys.stderr)
        sys.exit(2)
