"""The networks of the benchmarks in PyTorch, with the same weights and the same names.

Needs `pip install torch`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

# How many times, kernel, stride of the first, expansion, channels that come out.
EFFICIENTNET_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Conv(nn.Conv2d):
    """A convolution, padded alike on all sides, or as TensorFlow's "SAME" for a given size."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, same_for=None):
        total = 2 * (kernel // 2)
        if same_for is not None:
            total = max((-(-same_for // stride) - 1) * stride + kernel - same_for, 0)
        before, after = total // 2, total - total // 2
        # nn.Conv2d pads both sides alike; where they differ, zeros are added first.
        padding = before if before == after else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.edges = None if before == after else (before, after, before, after)

    def forward(self, x):
        """Pictures in, pictures out."""
        return super().forward(x if self.edges is None else F.pad(x, self.edges))


class Convolutional(nn.Module):
    """Holds convolutions, each with a batch norm behind it."""

    epsilon = 1e-5

    def add(self, name, *args, **kwargs):
        """A convolution `name`, and its norm `name_bn`."""
        conv = Conv(*args, **kwargs)
        self.add_module(name, conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(conv.out_channels, eps=self.epsilon))

    def normed(self, name, x):
        """The two of them applied."""
        return getattr(self, f"{name}_bn")(getattr(self, name)(x))


class InvertedResidual(Convolutional):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    epsilon = 1e-3

    def __init__(self, size, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self.add("expand", inputs, hidden, 1)
        self.add("depthwise", hidden, hidden, kernel, stride, groups=hidden, same_for=size)
        self.add("project", hidden, outputs, 1)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x):
        """Pictures in, pictures out."""
        y = F.relu6(self.normed("expand", x)) if self.expands else x
        y = self.normed("project", F.relu6(self.normed("depthwise", y)))
        return x + y if self.has_skip else y


class EfficientNetLite0(Convolutional):
    """Maps pictures (n, 3, 224, 224) to logits (n, 1000)."""

    epsilon = 1e-3

    def __init__(self):
        super().__init__()
        self.add("stem", 3, 32, 3, stride=2, same_for=224)
        size, inputs, self.count = 112, 32, 0
        for repeats, kernel, first_stride, expansion, outputs in EFFICIENTNET_STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                block = InvertedResidual(size, inputs, outputs, kernel, stride, expansion)
                self.add_module(f"block{self.count}", block)
                size, inputs, self.count = -(-size // stride), outputs, self.count + 1
        self.add("head", inputs, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        """Logits."""
        x = F.relu6(self.normed("stem", x))
        for i in range(self.count):
            x = getattr(self, f"block{i}")(x)
        return self.classifier(F.relu6(self.normed("head", x)).mean(dim=(2, 3)))


class Residual(Convolutional):
    """Two convolutions of 3 x 3, or a bottleneck of three, added to the input."""

    def __init__(self, inputs, features, stride, bottleneck):
        super().__init__()
        n = features
        basic = ((n, 3, stride), (n, 3, 1))
        convs = ((n, 1, 1), (n, 3, stride), (4 * n, 1, 1)) if bottleneck else basic
        self.count, width = len(convs), inputs
        for i, (outputs, kernel, step) in enumerate(convs):
            self.add(f"conv{i}", width, outputs, kernel, step)
            width = outputs
        self.outputs, self.has_shortcut = width, inputs != width or stride != 1
        if self.has_shortcut:
            self.add("shortcut", inputs, width, 1, stride)

    def forward(self, x):
        """Pictures in, pictures out."""
        y = x
        for i in range(self.count):
            y = self.normed(f"conv{i}", y if i == 0 else F.relu(y))
        return F.relu((self.normed("shortcut", x) if self.has_shortcut else x) + y)


class ResNet(Convolutional):
    """Maps pictures (n, 3, 224, 224) to logits (n, 1000)."""

    def __init__(self, residuals: Sequence[tuple[int, int]], bottleneck: bool):
        super().__init__()
        self.add("stem", 3, 64, 7, 2)
        width, self.count = 64, len(residuals)
        for i, (features, stride) in enumerate(residuals):
            block = Residual(width, features, stride, bottleneck)
            self.add_module(f"block{i}", block)
            width = block.outputs
        self.classifier = nn.Linear(width, 1000)

    def forward(self, x):
        """Logits."""
        x = F.max_pool2d(F.relu(self.normed("stem", x)), 3, 2, 1)
        for i in range(self.count):
            x = getattr(self, f"block{i}")(x)
        return self.classifier(x.mean(dim=(2, 3)))


class Mlp(nn.Module):
    """Dense layers with GELU in between."""

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        self.count = len(sizes) - 1
        for i in range(self.count):
            self.add_module(f"dense{i}", nn.Linear(sizes[i], sizes[i + 1]))

    def forward(self, x):
        """Logits."""
        for i in range(self.count):
            x = getattr(self, f"dense{i}")(x if i == 0 else F.gelu(x, approximate="tanh"))
        return x


class Block(nn.Module):
    """Attention and two dense layers, each after a norm and added to the stream."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        """Tokens (n, tokens, width) in and out."""
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, tokens, 3, self.heads, -1)
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Maps embedded tokens (n, tokens, width) to logits."""

    def __init__(self, width, depth, heads, classes):
        super().__init__()
        self.layers = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        """Logits."""
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(dim=1))


class VisionTransformer(nn.Module):
    """Maps pictures (n, size, size, channels) to logits."""

    def __init__(self, size, channels, patch, width, depth, heads, classes):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.zeros((size // patch) ** 2, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        """Logits."""
        n, size, _, channels = x.shape
        side, p = size // self.patch, self.patch
        patches = x.reshape(n, side, p, side, p, channels).transpose(2, 3)
        x = self.embed(patches.reshape(n, side * side, -1)) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


def filled(module: nn.Module, weights: Mapping[Any, Any]) -> nn.Module:
    """The module with the weights that Flax's has under the same names, for inference.

    No gradients with respect to the weights are kept, so that the peer pays for none.
    """
    with torch.no_grad():
        for name, part in module.named_modules():
            path = name.split(".") if name else []
            if isinstance(part, nn.Conv2d):  # from (h, w, in, out)
                part.weight.copy_(tensor(_at(weights, path)["kernel"]).permute(3, 2, 0, 1))
            elif isinstance(part, nn.Linear):
                part.weight.copy_(tensor(_at(weights, path)["kernel"]).T)
                part.bias.copy_(tensor(_at(weights, path)["bias"]))
            elif isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
                part.weight.copy_(tensor(_at(weights, path)["scale"]))
                part.bias.copy_(tensor(_at(weights, path)["bias"]))
            if isinstance(part, nn.BatchNorm2d):
                statistics = _at(weights["batch_stats"], path)
                part.running_mean.copy_(tensor(statistics["mean"]))
                part.running_var.copy_(tensor(statistics["var"]))
            if isinstance(part, VisionTransformer):
                part.positions.copy_(tensor(weights["positions"]))
    return module.eval().requires_grad_(False)


def _at(weights: Any, path: Sequence[str]) -> Any:
    for name in path:
        weights = weights[int(name) if name.isdigit() else name]
    return weights


def submodule(module: nn.Module, at: str) -> nn.Module:
    """The part of that name: `blocks/2` and `layers[2]` are the third of a list."""
    return module.get_submodule(re.sub(r"\[(\d+)\]", r".\1", at).replace("/", "."))


def tensor(array: Any) -> torch.Tensor:
    """A copy."""
    return torch.from_numpy(np.array(array))
