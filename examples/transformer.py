"""A small causal transformer in plain Flax Linen: token ids in, logits for every position out.

    model = Transformer(vocabulary=1000, length=64)
    variables = model.init(jax.random.key(0), ids)    # ids: (T,), one text
    logits = model.apply(variables, ids)              # (T, vocabulary)

Pre-norm blocks, learned positions, and an output layer that shares the table of the embedding.
Nothing here knows of attributions. Linen rather than NNX, because its parameters are a plain
dictionary: to run the layers under a scan, or one after another, is then a matter of stacking them.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Block(nn.Module):
    """Attention to what came before, then two dense layers; each is added to the stream."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        causal = nn.make_causal_mask(x[:, 0])
        h = nn.LayerNorm(name="norm")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attention")(h, mask=causal)
        h = nn.LayerNorm(name="mlp_norm")(x)
        h = nn.gelu(nn.Dense(4 * width, name="up")(h))
        return x + nn.Dense(width, name="down")(h)


class Transformer(nn.Module):
    """Logits of the next token at every position, for one text of at most `length` tokens."""

    vocabulary: int
    length: int
    width: int = 128
    heads: int = 4
    depth: int = 4
    scanned: bool = True

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        embed = nn.Embed(self.vocabulary, self.width, name="embed")
        positions = nn.Embed(self.length, self.width, name="positions")
        x = embed(ids) + positions(jnp.arange(len(ids)))
        if self.scanned:
            scan = nn.scan(
                lambda block, x, _: (block(x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.depth,
            )
            x, _ = scan(Block(self.heads, name="layers"), x, None)
        else:
            for k in range(self.depth):
                x = Block(self.heads, name=f"layers_{k}")(x)
        return embed.attend(nn.LayerNorm(name="norm")(x))


def stack(variables: Any) -> Any:
    """From the variables of unrolled layers to those of scanned ones."""
    params = dict(variables["params"])
    depth = sum(name.startswith("layers_") for name in params)
    layers = [params.pop(f"layers_{k}") for k in range(depth)]
    return {"params": params | {"layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)}}


def unstack(variables: Any) -> Any:
    """From the variables of scanned layers to those of unrolled ones."""
    params = dict(variables["params"])
    leaves, tree = jax.tree.flatten(params.pop("layers"))
    for k in range(len(leaves[0])):
        params[f"layers_{k}"] = jax.tree.unflatten(tree, [leaf[k] for leaf in leaves])
    return {"params": params}
