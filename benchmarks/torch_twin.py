"""EfficientNet-Lite0 in PyTorch with the weights of the Flax module: the peer of the benchmarks.

Needs `pip install torch` and `pip install captum`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

INPUT_SIZE = 224
# How many times, kernel, stride of the first, expansion, channels that come out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Conv(nn.Module):
    """A convolution padded as TensorFlow's "SAME", then batch norm, then ReLU6 if wanted."""

    def __init__(self, size, inputs, outputs, kernel, stride=1, groups=1, relu=True):
        super().__init__()
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        # nn.Conv2d pads both sides alike; where they differ, zeros are added first.
        uneven = before != after
        self.pad = nn.ZeroPad2d((before, after, before, after)) if uneven else nn.Identity()
        padding = 0 if uneven else before
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.ReLU6() if relu else nn.Identity()

    def forward(self, x):
        """Pictures in, pictures out."""
        return self.relu(self.norm(self.conv(self.pad(x))))


class Block(nn.Module):
    """Expand, filter each channel, project; added to its input where the shapes allow."""

    def __init__(self, size, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.expand = Conv(size, inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = Conv(size, hidden, hidden, kernel, stride, groups=hidden)
        self.project = Conv(-(-size // stride), hidden, outputs, 1, relu=False)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x):
        """Pictures in, pictures out."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """Maps pictures (n, 3, 224, 224) to logits (n, 1000)."""

    def __init__(self):
        super().__init__()
        self.stem = Conv(INPUT_SIZE, 3, 32, 3, stride=2)
        size, inputs, blocks = INPUT_SIZE // 2, 32, []
        for repeats, kernel, first_stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(Block(size, inputs, outputs, kernel, stride, expansion))
                size, inputs = -(-size // stride), outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = Conv(size, inputs, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        """Logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean(dim=(2, 3)))


def from_variables(variables: Mapping[str, Any]) -> EfficientNetLite0:
    """The torch module with the weights of the Linen module's `variables`, for inference.

    No gradients with respect to the weights are kept, so that the peer pays for none.
    """
    module = EfficientNetLite0()
    params, statistics = variables["params"], variables["batch_stats"]
    _fill(module.stem, params["stem"], params["stem_bn"], statistics["stem_bn"])
    _fill(module.head, params["head"], params["head_bn"], statistics["head_bn"])
    for i, block in enumerate(module.blocks):
        p, s = params[f"block{i}"], statistics[f"block{i}"]
        for name in ("expand", "depthwise", "project"):
            if getattr(block, name) is not None:
                _fill(getattr(block, name), p[name], p[f"{name}_bn"], s[f"{name}_bn"])
    classifier = params["classifier"]
    with torch.no_grad():
        module.classifier.weight.copy_(_tensor(classifier["kernel"]).T)
        module.classifier.bias.copy_(_tensor(classifier["bias"]))
    return module.eval().requires_grad_(False)


def _fill(module: Conv, conv: Mapping, norm: Mapping, statistics: Mapping) -> None:
    with torch.no_grad():
        kernel = _tensor(conv["kernel"])  # (h, w, in, out)
        module.conv.weight.copy_(kernel.permute(3, 2, 0, 1))
        module.norm.weight.copy_(_tensor(norm["scale"]))
        module.norm.bias.copy_(_tensor(norm["bias"]))
        module.norm.running_mean.copy_(_tensor(statistics["mean"]))
        module.norm.running_var.copy_(_tensor(statistics["var"]))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def to_torch(pictures: Any) -> torch.Tensor:
    """Channels last to channels first: (..., h, w, c) to (..., c, h, w)."""
    return _tensor(np.moveaxis(np.asarray(pictures), -1, -3))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The inverse of `to_torch`."""
    return np.moveaxis(tensor.detach().cpu().numpy(), -3, -1)
