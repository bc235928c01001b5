"""The networks of the comparisons, from a small one to ViT-B/16.

Trained are the small ones on digits, and EfficientNet-Lite0; the others have the shapes of their
models and random weights, which take as long. All see one example.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

import attrax

from . import network
from .cut_flops import depth
from .vision_transformer import ScannedTransformer, VisionTransformer

CLASSES = 1000


class Subject(NamedTuple):
    """A network, what it is asked about, and with how much effort."""

    name: str
    model: attrax.Model  # of one example
    weights: Mapping[str, Any]  # by the paths of their modules, for the twin in PyTorch
    xs: jax.Array  # (n, ...)
    targets: jax.Array  # (n,)
    nodes: int
    layers: tuple[str, ...]  # at depths of about 0.5, 0.75 and 0.875
    batch_size: int = 8
    is_convolutional: bool = False
    is_large: bool = False  # on a GPU

    def args(self, k: int) -> tuple[attrax.Model, jax.Array, jax.Array]:
        """The model, and one of two examples and its target, for the run with number k."""
        return self.model, self.xs[k % 2], self.targets[k % 2]

    def depth(self, at: str) -> float:
        """The share of the forward pass's operations that lie upstream of a layer."""
        if found := re.fullmatch(r"layers\[(\d+)\]", at):  # operations of a loop are not counted
            return (int(found[1]) + 1) / len(self.weights["layers"])
        return depth(self.model, self.xs[0], at)


def load(key: str) -> Subject:
    """One of `NETWORKS`.

    Raises:
        ImportError: a package with weights or data is missing; the message is how to install it.
    """
    return NETWORKS[key]()


# -------------------------------------------------------------------------------- on digits


class Mlp(nn.Module):
    """Dense layers with GELU in between."""

    sizes: tuple[int, ...] = (256, 256, 256, 10)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size, name=f"dense{i}")(x if i == 0 else nn.gelu(x))
        return x


def digits() -> tuple[jax.Array, jax.Array]:
    """The handwritten digits of scikit-learn: `(1797, 8, 8, 1)` from 0 to 1, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits are those of scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    pictures, labels = load_digits(return_X_y=True)
    return jnp.asarray(pictures.reshape(-1, 8, 8, 1) / 16, jnp.float32), jnp.asarray(labels)


def trained(model: attrax.Model, xs: jax.Array, labels: jax.Array, steps: int) -> attrax.Model:
    """The model after a few hundred steps of Adam."""
    optimizer = optax.adam(1e-3)

    def loss(model: attrax.Model, xs: jax.Array, labels: jax.Array) -> jax.Array:
        logits = jax.vmap(model)(xs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        model, state = carry
        value, slope = jax.value_and_grad(loss)(model, xs[rows], labels[rows])
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(model, updates), state), value

    rows = jax.random.randint(jax.random.key(0), (steps, 64), 0, len(xs))
    start = model, optimizer.init(model)
    return jax.jit(lambda start, rows: jax.lax.scan(step, start, rows))(start, rows)[0][0]


def mlp() -> Subject:
    """Small, and smooth."""
    pictures, labels = digits()
    xs = pictures.reshape(len(pictures), -1)
    module = Mlp()
    variables = jax.jit(module.init)(jax.random.key(0), xs[0])
    model = trained(attrax.from_linen(module, variables), xs, labels, steps=500)
    weights = model.weights[0]["params"]
    return Subject(
        f"MLP, {' - '.join(map(str, (xs.shape[1], *module.sizes)))}, digits",
        model,
        weights,
        xs,
        labels,
        nodes=32,
        layers=("dense1", "dense2"),
        batch_size=32,
    )


def small_vit() -> Subject:
    """A transformer that was trained, small enough to be integrated exactly."""
    xs, labels = digits()
    module = VisionTransformer(
        size=8, channels=1, patch=2, width=64, depth=4, heads=4, rngs=nnx.Rngs(0)
    )
    model = trained(attrax.from_nnx(module), xs, labels, steps=300)
    return Subject(
        "transformer of 4 layers of width 64, digits",
        model,
        _pure(model),
        xs,
        labels,
        nodes=32,
        layers=("blocks/1", "blocks/2"),
        batch_size=32,
    )


# ----------------------------------------------------------------------------- transformers


def transformer() -> Subject:
    """A scan over eight layers."""
    module = ScannedTransformer(width=256, depth=8, heads=8, classes=100, rngs=nnx.Rngs(0))
    model = attrax.from_nnx(module)
    weights = dict(_pure(model))
    stacked = weights["layers"]
    weights["layers"] = {i: jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(8)}
    return Subject(
        "scanned transformer, 8 layers of width 256, 64 tokens",
        model,
        weights,
        *_random(model, (64, 256)),
        nodes=16,
        layers=("layers[3]", "layers[5]", "layers[6]"),
    )


def vit() -> Subject:
    """Eight layers, one after the other."""
    module = VisionTransformer(width=256, depth=8, heads=8, classes=100, rngs=nnx.Rngs(0))
    model = attrax.from_nnx(module)
    return Subject(
        "vision transformer, 8 layers of width 256, 64 tokens",
        model,
        _pure(model),
        *_random(model, (32, 32, 3)),
        nodes=16,
        layers=("blocks/3", "blocks/5", "blocks/6"),
    )


def vit_b16() -> Subject:
    """The shape of ViT-B/16."""
    module = VisionTransformer(
        size=224, patch=16, width=768, depth=12, heads=12, classes=CLASSES, rngs=nnx.Rngs(0)
    )
    model = attrax.from_nnx(module)
    return Subject(
        "ViT-B/16 shape",
        model,
        _pure(model),
        *_random(model, (224, 224, 3)),
        nodes=4,
        layers=("blocks/5", "blocks/8", "blocks/10"),
        batch_size=4,
        is_large=True,
    )


def _pure(model: attrax.Model) -> Mapping[str, Any]:
    return nnx.to_pure_dict(model.weights)


def _random(model: attrax.Model, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Two examples of noise, and their best classes."""
    xs = jax.random.normal(jax.random.key(1), (2, *shape))
    return xs, jax.jit(lambda model, xs: jax.vmap(model)(xs).argmax(-1))(model, xs)


# ---------------------------------------------------------------------------- convolutions


class Residual(nn.Module):
    """Two convolutions of 3 x 3, or a bottleneck of three, added to the input."""

    features: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, stride = self.features, self.stride
        basic = ((n, 3, stride), (n, 3, 1))
        convs = ((n, 1, 1), (n, 3, stride), (4 * n, 1, 1)) if self.bottleneck else basic
        y = x
        for i, conv in enumerate(convs):
            y = _normed(f"conv{i}", *conv)(y if i == 0 else nn.relu(y))
        if x.shape != y.shape:
            x = _normed("shortcut", y.shape[-1], 1, stride)(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Logits of pictures `(..., 224, 224, 3)`: 18 layers, or 50 with bottlenecks."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(_normed("stem", 64, 7, 2)(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
        for i, (features, stride) in enumerate(residuals(self.blocks)):
            x = Residual(features, stride, self.bottleneck, name=f"block{i}")(x)
        return nn.Dense(CLASSES, name="classifier")(x.mean(axis=(-3, -2)))


def residuals(blocks: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Features and stride of every block."""
    stages = enumerate(blocks)
    return [(64 * 2**s, 2 if s and not i else 1) for s, count in stages for i in range(count)]


def _normed(name: str, features: int, kernel: int, stride: int) -> Callable[..., jax.Array]:
    """A convolution, padded alike on all sides, and its batch norm."""
    conv = nn.Conv(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=[(kernel // 2, kernel // 2)] * 2,
        use_bias=False,
        name=name,
    )
    norm = nn.BatchNorm(use_running_average=True, name=f"{name}_bn")
    return lambda x: norm(conv(x))


def resnet18() -> Subject:
    """The shape of ResNet-18."""
    layers = ("block3", "block5", "block6")
    return _resnet("ResNet-18 shape", ResNet((2, 2, 2, 2), bottleneck=False), layers, nodes=16)


def resnet50() -> Subject:
    """The shape of ResNet-50."""
    layers = ("block7", "block11", "block13")
    module = ResNet((3, 4, 6, 3), bottleneck=True)
    return _resnet("ResNet-50 shape", module, layers, nodes=8)._replace(is_large=True)


def _resnet(name: str, module: ResNet, layers: tuple[str, ...], nodes: int) -> Subject:
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((224, 224, 3)))
    model = attrax.from_linen(module, variables)
    return Subject(
        name,
        model,
        variables["params"] | {"batch_stats": variables["batch_stats"]},
        *_random(model, (224, 224, 3)),
        nodes=nodes,
        layers=layers,
        is_convolutional=True,
    )


def efficientnet() -> Subject:
    """The real network of the benchmarks, on two photographs."""
    net = network.load()
    variables = net.variables
    return Subject(
        "EfficientNet-Lite0",
        net.model,
        variables["params"] | {"batch_stats": variables["batch_stats"]},
        net.pictures,
        jnp.asarray(np.asarray(net.targets)),
        nodes=16,
        layers=("block8", "block12", "block14"),
        is_convolutional=True,
    )


NETWORKS: Mapping[str, Callable[[], Subject]] = {
    "mlp": mlp,
    "small_vit": small_vit,
    "transformer": transformer,
    "vit": vit,
    "efficientnet": efficientnet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vit_b16": vit_b16,
}
