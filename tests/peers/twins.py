"""Random models twice: as Flax modules of one example, and as PyTorch modules with their weights.

Pictures are channels last in JAX and channels first in PyTorch. Everything is float64.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import attrax

EXAMPLES = 4
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[[], nn.Module]]] = {
    "tanh": (jnp.tanh, nn.Tanh),
    "gelu": (jax.nn.gelu, lambda: nn.GELU(approximate="tanh")),
    "softplus": (jax.nn.softplus, nn.Softplus),
    "relu": (jax.nn.relu, nn.ReLU),
}


@dataclasses.dataclass(frozen=True)
class Twin:
    """One random model in both libraries, with random examples.

    `layers` are the names of modules whose outputs are attributed, the same in both libraries, and
    `inputs_of` those whose inputs are. Arrays have a leading axis of examples, as JAX sees them.
    """

    kind: str
    model: attrax.Model
    peer: nn.Module
    inputs: tuple[np.ndarray, ...]
    baselines: tuple[np.ndarray, ...]
    targets: np.ndarray
    layers: tuple[str, ...]
    inputs_of: tuple[str, ...] = ()
    smooth: bool = True


def to_torch(arrays: Any) -> tuple[torch.Tensor, ...]:
    """A tuple of batches as PyTorch sees them."""
    first = (np.moveaxis(a, -1, 1) if a.ndim == 4 else a for a in arrays)
    return tuple(torch.from_numpy(np.array(a, order="C")) for a in first)


def to_numpy(tensors: Any) -> list[np.ndarray]:
    """The inverse of `to_torch`, of one tensor or several."""
    tensors = tensors if isinstance(tensors, tuple | list) else (tensors,)
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return [np.moveaxis(a, 1, -1) if a.ndim == 4 else a for a in arrays]


# The Flax side.


class Perceptron(linen.Module):
    """A dense network of all its inputs, whose vectors are joined."""

    activation: Callable[..., Any]

    @linen.compact
    def __call__(self, *parts):
        x = jnp.concatenate(parts)
        for i, width in enumerate((12, 10)):
            x = self.activation(linen.Dense(width, name=f"hidden{i}")(x))
        return linen.Dense(4, name="logits")(x)


class Convolutional(linen.Module):
    """Convolution, pooling, convolution, dense."""

    activation: Callable[..., Any]
    pool: Callable[..., Any]

    @linen.compact
    def __call__(self, x):
        x = self.activation(linen.Conv(4, (3, 3), padding="VALID", name="conv0")(x))
        x = self.pool(x, (2, 2), strides=(2, 2))
        x = self.activation(linen.Conv(5, (3, 3), padding="VALID", name="conv1")(x))
        return linen.Dense(3, name="logits")(x.reshape(-1))


class Attentive(linen.Module):
    """Tokens, one head of attention with a skip connection, the mean."""

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(11, 6, name="embed")(tokens)
        q, k, v = (linen.Dense(6, name=name)(x) for name in ("query", "key", "value"))
        x = x + jax.nn.softmax(q @ k.T / np.sqrt(6)) @ v
        return linen.Dense(3, name="logits")(jnp.tanh(linen.Dense(8, name="mixed")(x)).mean(0))


class Recurrent(linen.Module):
    """Tokens, and a recurrent network over them."""

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(11, 6, name="embed")(tokens)
        seen, remembered = linen.Dense(7, name="seen"), linen.Dense(7, name="remembered")
        state = jnp.zeros(7, x.dtype)
        for token in x:
            state = jnp.tanh(seen(token) + remembered(state))
        return linen.Dense(3, name="logits")(state)


# The PyTorch side: modules of the same names.


class TorchPerceptron(nn.Module):
    def __init__(self, size, activation):
        super().__init__()
        self.hidden0, self.hidden1, self.logits = (
            nn.Linear(size, 12),
            nn.Linear(12, 10),
            nn.Linear(10, 4),
        )
        self.act0, self.act1 = activation(), activation()

    def forward(self, *parts):
        x = torch.cat(parts, 1)
        return self.logits(self.act1(self.hidden1(self.act0(self.hidden0(x)))))


class TorchConvolutional(nn.Module):
    def __init__(self, activation, pool):
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 3)
        self.act0, self.act1, self.pool = activation(), activation(), pool(2)
        self.logits = nn.Linear(20, 3)

    def forward(self, x):
        x = self.act1(self.conv1(self.pool(self.act0(self.conv0(x)))))
        return self.logits(x.permute(0, 2, 3, 1).flatten(1))


class TorchAttentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))
        self.mixed, self.logits = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        weights = self.query(x) @ self.key(x).transpose(1, 2) / np.sqrt(6)
        x = x + torch.softmax(weights, 2) @ self.value(x)
        return self.logits(torch.tanh(self.mixed(x)).mean(1))


class TorchRecurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.seen, self.remembered = nn.Linear(6, 7), nn.Linear(7, 7)
        self.logits = nn.Linear(7, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        state = x.new_zeros(len(x), 7)
        for i in range(x.shape[1]):
            state = torch.tanh(self.seen(x[:, i]) + self.remembered(state))
        return self.logits(state)


# Weights.


def random_weights(module: linen.Module, rng: np.random.Generator, *inputs: Any) -> Any:
    """Normal weights that keep the size of what passes through, and biases."""

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 4
        return rng.normal(size=leaf.shape) * 1.5 / np.sqrt(fan_in)

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def fill(peer: nn.Module, variables: Any) -> nn.Module:
    """`peer` with the weights of the Flax module, by the names of its modules."""
    with torch.no_grad():
        for name, weights in variables["params"].items():
            module = peer.get_submodule(name)
            if isinstance(module, nn.Embedding):
                module.weight.copy_(torch.from_numpy(weights["embedding"]))
                continue
            order = (3, 2, 0, 1) if isinstance(module, nn.Conv2d) else (1, 0)
            module.weight.copy_(torch.from_numpy(weights["kernel"].transpose(order).copy()))
            module.bias.copy_(torch.from_numpy(weights["bias"]))
    return peer.eval().requires_grad_(False)


def _twin(kind, module, peer, rng, inputs, baselines, classes, **settings) -> Twin:
    variables = random_weights(module, rng, *(value[0] for value in inputs))
    twin = Twin(
        kind,
        attrax.from_linen(module, variables),
        fill(peer, variables),
        inputs,
        baselines,
        rng.integers(classes, size=EXAMPLES),
        **settings,
    )
    ours = jax.vmap(twin.model)(*inputs)
    np.testing.assert_allclose(ours, peer(*to_torch(inputs)).numpy(), rtol=1e-9, atol=1e-12)
    return twin


def perceptrons(seeds: int) -> Iterator[Twin]:
    """Networks of one vector and of two."""
    for place, (name, (activation, torch_activation)) in enumerate(ACTIVATIONS.items()):
        for seed in range(seeds):
            rng = np.random.default_rng([0, place, seed])
            sizes = (3, 4) if place % 2 else (6,)
            draw = lambda sizes=sizes, rng=rng: tuple(  # noqa: E731
                rng.normal(size=(EXAMPLES, n)) for n in sizes
            )
            yield _twin(
                f"dense, {name}",
                Perceptron(activation),
                TorchPerceptron(sum(sizes), torch_activation),
                rng,
                draw(),
                draw(),
                4,
                layers=("hidden0", "hidden1"),
                inputs_of=("hidden1",),
                smooth=name != "relu",
            )


def convolutional(seeds: int) -> Iterator[Twin]:
    """Networks of pictures."""
    pools = (("relu", linen.max_pool, nn.MaxPool2d), ("gelu", linen.avg_pool, nn.AvgPool2d))
    for place, (name, pool, torch_pool) in enumerate(pools):
        activation, torch_activation = ACTIVATIONS[name]
        for seed in range(seeds):
            rng = np.random.default_rng([1, place, seed])
            pictures = [rng.normal(size=(EXAMPLES, 10, 10, 2)) for _ in range(2)]
            yield _twin(
                f"convolutional, {name}",
                Convolutional(activation, pool),
                TorchConvolutional(torch_activation, torch_pool),
                rng,
                (pictures[0],),
                (pictures[1],),
                3,
                layers=("conv0", "conv1"),
                inputs_of=("conv1",),
                smooth=False,
            )


def sequences(seeds: int) -> Iterator[Twin]:
    """Networks of tokens. The baseline is the first token of the vocabulary everywhere."""
    pairs = ((Attentive, TorchAttentive), (Recurrent, TorchRecurrent))
    for place, (module, peer) in enumerate(pairs):
        for seed in range(seeds):
            rng = np.random.default_rng([2, place, seed])
            tokens = rng.integers(1, 11, size=(EXAMPLES, 5))
            yield _twin(
                f"tokens, {module.__name__.lower()}",
                module(),
                peer(),
                rng,
                (tokens,),
                (np.zeros_like(tokens),),
                3,
                layers=("embed",),
            )
