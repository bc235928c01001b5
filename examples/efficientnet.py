"""EfficientNet-Lite0 as a Flax Linen module, for inference.

The mobile network of Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (ICML 2019), in its Lite form: ReLU6 everywhere except after a projection, no
squeeze-and-excitation. `pretrained.efficientnet_lite0` fills it with ImageNet weights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

STEM_FEATURES = 32
HEAD_FEATURES = 1280
NUM_CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3


class BlockSpec(NamedTuple):
    """One inverted residual block; `expansion` multiplies the channels that come in."""

    kernel: int
    stride: int
    expansion: int
    in_features: int
    out_features: int

    @property
    def has_skip(self) -> bool:
        return self.stride == 1 and self.in_features == self.out_features


def _block_specs() -> tuple[BlockSpec, ...]:
    # (repeats, kernel, stride of the first block, expansion, features)
    stages = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    specs = []
    in_features = STEM_FEATURES
    for repeats, kernel, stride, expansion, features in stages:
        for repeat in range(repeats):
            specs.append(
                BlockSpec(kernel, stride if repeat == 0 else 1, expansion, in_features, features)
            )
            in_features = features
    return tuple(specs)


BLOCKS = _block_specs()


def _conv(name: str, features: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv:
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding="SAME",
        feature_group_count=groups,
        use_bias=False,
        name=name,
    )


def _batch_norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=BATCH_NORM_EPSILON, name=name)


class Block(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    spec: BlockSpec

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        spec = self.spec
        hidden = spec.in_features * spec.expansion
        y = x
        if spec.expansion != 1:
            y = nn.relu6(_batch_norm("expand_bn")(_conv("expand", hidden, 1)(y)))
        y = _conv("depthwise", hidden, spec.kernel, spec.stride, groups=hidden)(y)
        y = nn.relu6(_batch_norm("depthwise_bn")(y))
        y = _batch_norm("project_bn")(_conv("project", spec.out_features, 1)(y))
        return x + y if spec.has_skip else y


class EfficientNetLite0(nn.Module):
    """Maps pictures (..., 224, 224, 3) to logits (..., 1000); a batch axis is optional.

    Sub-modules: `stem`, `stem_bn`, `block0` to `block15`, `head`, `head_bn`, `classifier`. The
    last convolution map (`head_bn`, then ReLU6) is 7 x 7 x 1280; its mean goes to `classifier`.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu6(_batch_norm("stem_bn")(_conv("stem", STEM_FEATURES, 3, stride=2)(x)))
        for i, spec in enumerate(BLOCKS):
            x = Block(spec, name=f"block{i}")(x)
        x = nn.relu6(_batch_norm("head_bn")(_conv("head", HEAD_FEATURES, 1)(x)))
        return nn.Dense(NUM_CLASSES, name="classifier")(jnp.mean(x, axis=(-3, -2)))
