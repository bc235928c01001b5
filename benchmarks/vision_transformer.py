"""Transformers of any size, in plain Flax NNX, for one example."""

import jax
import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    """Attention and two dense layers, each after a norm and added to the stream."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.mlp(self.attention(x))

    def attention(self, x: jax.Array) -> jax.Array:
        tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(tokens, 3, self.heads, -1)
        q, k, v = jnp.moveaxis(qkv, 1, 0)
        scores = jnp.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v)
        return x + self.out(mixed.reshape(tokens, width))

    def mlp(self, x: jax.Array) -> jax.Array:
        return x + self.down(nnx.gelu(self.up(self.mlp_norm(x))))


class VisionTransformer(nnx.Module):
    """Logits of one picture `(size, size, channels)`, from the mean of its tokens."""

    def __init__(
        self,
        *,
        size: int = 32,
        channels: int = 3,
        patch: int = 4,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        classes: int = 10,
        rngs: nnx.Rngs,
    ):
        self.patch = patch
        self.embed = nnx.Linear(channels * patch**2, width, rngs=rngs)
        positions = jax.random.normal(rngs.params(), ((size // patch) ** 2, width))
        self.positions = nnx.Param(positions / 50)
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        side, p, channels = x.shape[0] // self.patch, self.patch, x.shape[-1]
        patches = x.reshape(side, p, side, p, channels).swapaxes(1, 2).reshape(side * side, -1)
        x = self.embed(patches) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=0))


class ScannedTransformer(nnx.Module):
    """Logits of embedded tokens `(tokens, width)`, by one block under a scan over its layers."""

    def __init__(self, *, width: int, depth: int, heads: int, classes: int, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=depth)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(width, heads, rngs=rngs)

        self.layers = stacked(rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def through(block: Block, x: jax.Array) -> jax.Array:
            return block(x)

        return self.head(self.norm(through(self.layers, x)).mean(axis=0))
