"""EfficientNet-Lite0 as a Flax NNX module: the network of `efficientnet`, with the same names."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from efficientnet import (
    BATCH_NORM_EPSILON,
    BLOCKS,
    HEAD_FEATURES,
    NUM_CLASSES,
    STEM_FEATURES,
    BlockSpec,
)


def _conv(
    in_features: int,
    features: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    *,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    return nnx.Conv(
        in_features,
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding="SAME",
        feature_group_count=groups,
        use_bias=False,
        rngs=rngs,
    )


def _batch_norm(features: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(features, use_running_average=True, epsilon=BATCH_NORM_EPSILON, rngs=rngs)


class Block(nnx.Module):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.has_expansion = spec.expansion != 1
        self.has_skip = spec.has_skip
        hidden = spec.in_features * spec.expansion
        if self.has_expansion:
            self.expand = _conv(spec.in_features, hidden, 1, rngs=rngs)
            self.expand_bn = _batch_norm(hidden, rngs=rngs)
        self.depthwise = _conv(hidden, hidden, spec.kernel, spec.stride, hidden, rngs=rngs)
        self.depthwise_bn = _batch_norm(hidden, rngs=rngs)
        self.project = _conv(hidden, spec.out_features, 1, rngs=rngs)
        self.project_bn = _batch_norm(spec.out_features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        if self.has_expansion:
            y = nnx.relu6(self.expand_bn(self.expand(y)))
        y = nnx.relu6(self.depthwise_bn(self.depthwise(y)))
        y = self.project_bn(self.project(y))
        return x + y if self.has_skip else y


class EfficientNetLite0(nnx.Module):
    """Maps pictures (..., 224, 224, 3) to logits (..., 1000); a batch axis is optional."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = _conv(3, STEM_FEATURES, 3, stride=2, rngs=rngs)
        self.stem_bn = _batch_norm(STEM_FEATURES, rngs=rngs)
        # Attributes rather than a list: the paths are then those of the Linen module.
        for i, spec in enumerate(BLOCKS):
            setattr(self, f"block{i}", Block(spec, rngs=rngs))
        self.head = _conv(BLOCKS[-1].out_features, HEAD_FEATURES, 1, rngs=rngs)
        self.head_bn = _batch_norm(HEAD_FEATURES, rngs=rngs)
        self.classifier = nnx.Linear(HEAD_FEATURES, NUM_CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu6(self.stem_bn(self.stem(x)))
        for i in range(len(BLOCKS)):
            x = getattr(self, f"block{i}")(x)
        x = nnx.relu6(self.head_bn(self.head(x)))
        return self.classifier(jnp.mean(x, axis=(-3, -2)))


def from_variables(variables: Mapping[str, Any]) -> EfficientNetLite0:
    """The NNX module with the weights of the Linen module's `variables`."""
    # Only the shapes of the module are built: no weight is drawn at random to be thrown away.
    abstract = nnx.eval_shape(lambda: EfficientNetLite0(rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract)
    weights = traverse_util.flatten_dict(variables["params"])
    weights |= traverse_util.flatten_dict(variables["batch_stats"])
    leaves = {path: leaf.replace(weights[path]) for path, leaf in nnx.to_flat_state(state)}
    return nnx.merge(graphdef, nnx.from_flat_state(leaves))
