"""A zoo of small models, one of each kind that names have to cope with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import attrax

X = jnp.array([0.3, -0.5, 0.8])


def step(x, scale):
    return jax.nn.relu(x * scale) + 0.1 * x, jnp.sin(x)


def scan_of_a_plain_function(x):
    return jax.lax.scan(step, x, jnp.array([1.0, 2.0]))


def one_name_before_and_inside_a_scan(x):
    x = jax.nn.relu(attrax.tap("h", 2 * x))
    x, _ = jax.lax.scan(lambda x, _: (jax.nn.relu(attrax.tap("h", x + 1)), None), x, length=3)
    return attrax.tap("h", x)


def scans_in_one_another(x):
    def inner(x, k):
        return jax.nn.silu(attrax.tap("inner", x * k)), None

    def outer(x, k):
        x = jax.lax.scan(inner, x, jnp.array([1.0, 2.0]))[0] * k
        return jax.nn.relu(x), jax.lax.scan(inner, x, jnp.array([3.0, 1.0, 2.0]))[0]

    return jax.lax.scan(outer, x, jnp.array([0.5, 0.7]))


def scan_without_taps_in_one_with_taps(x):
    def outer(x, k):
        x = jax.lax.scan(lambda x, k: (jax.nn.relu(x * k), None), x, jnp.array([1.0, 2.0]))[0]
        return attrax.tap("deep/in/here", jnp.sin(x)), None

    return jax.nn.relu(jax.lax.scan(outer, x, length=2)[0])


def scan_in_a_branch(x):
    def loop(x):
        return jax.lax.scan(lambda x, _: (attrax.tap("h", jnp.sin(x)), None), x, length=2)[0]

    return jax.lax.cond(x[0] > 0, loop, lambda x: attrax.tap("other", -x), x)


def remat_in_a_scan_in_a_jit(x):
    body = jax.checkpoint(lambda x, _: (attrax.tap("h", jax.nn.relu(x) - 0.1), None))
    return jax.jit(lambda x: jax.lax.scan(body, x, length=2)[0])(x)


def constants_inside_of_a_jit_inside_of_a_remat(x):
    table = jnp.arange(3.0)
    inner = jax.jit(lambda x: attrax.tap("h", x + table))
    return jax.checkpoint(lambda x: jnp.sin(inner(inner(x))))(x)


def what_cannot_be_reached(x):
    @jax.custom_jvp
    def own(x):
        return attrax.tap("inside", jnp.sin(x))

    own.defjvp(lambda p, t: (own(p[0]), t[0]))
    x = jax.lax.while_loop(lambda x: x.sum() > 9, lambda x: attrax.tap("loop", x / 2), x)
    return own(x)


def mapped_inside(x):
    xs = jnp.stack([x, 2 * x])
    return jax.vmap(lambda x: jax.nn.relu(attrax.tap("h", jnp.sin(x))), out_axes=1)(xs)


def tree_of_many_arrays(x):
    cache = {f"layer_{i}": {"key": i * x, "index": jnp.int32(i)} for i in range(20)}
    return attrax.tap("cache", cache)["layer_3"]["key"]


def a_tail_in_a_scan(x):
    z, tail = attrax.cut(one_name_before_and_inside_a_scan, X, at="h#0")
    return jax.lax.map(tail, jnp.stack([x, 2 * x])).sum(0) + tail(z)


class Odd(nn.Module):
    """Names with characters that addresses use, and a module called like a function."""

    @nn.compact
    def __call__(self, x):
        x = jax.nn.relu(nn.Dense(3, name="relu")(x))
        x = nn.Dense(3, name="a#1")(x)
        return jax.nn.relu(nn.Dense(3, name="b:in.c[2]")(x))


class Steps(nn.Module):
    """A method of the whole module is scanned."""

    def setup(self):
        self.dense = nn.Dense(3)

    def advance(self, x, _):
        return jnp.tanh(self.dense(x)), None

    def __call__(self, x):
        scanned = nn.scan(
            type(self).advance,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=2,
        )
        return scanned(self, x, None)[0]


class Attention(nn.Module):
    """Heads that are folded into the batch."""

    heads: int = 2

    @nn.compact
    def __call__(self, xs):
        batch, tokens, width = xs.shape
        size = width // self.heads

        def folded(name):
            made = nn.Dense(width, name=name)(xs).reshape(batch, tokens, self.heads, size)
            return made.transpose(0, 2, 1, 3).reshape(batch * self.heads, tokens, size)

        query, key, value = map(folded, ("query", "key", "value"))
        weights = attrax.tap("weights", jax.nn.softmax(query @ key.transpose(0, 2, 1)))
        mixed = attrax.tap("mixed", weights @ value)
        flat = xs.reshape(batch, -1)
        return mixed.reshape(batch, -1) + attrax.tap("pairs", flat @ flat.T) @ flat


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)

    def encode(self, x):
        return jax.nn.relu(self.linear(x))

    def __call__(self, x):
        return self.encode(self.encode(x))


class Stack(nnx.Module):
    """NNX modules in a scan."""

    def __init__(self, rngs):
        self.blocks = nnx.vmap(Block)(rngs.split(2))

    def __call__(self, x):
        return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
            x, self.blocks
        )


def _linen(module, x):
    return attrax.from_linen(module, jax.jit(module.init)(jax.random.key(0), x))


def _plain(model):
    return lambda: (model, X)


_TOKENS = jnp.linspace(-1, 1, 12).reshape(3, 4)

ZOO = {
    model.__name__: _plain(model)
    for model in (
        scan_of_a_plain_function,
        one_name_before_and_inside_a_scan,
        scans_in_one_another,
        scan_without_taps_in_one_with_taps,
        scan_in_a_branch,
        remat_in_a_scan_in_a_jit,
        constants_inside_of_a_jit_inside_of_a_remat,
        what_cannot_be_reached,
        mapped_inside,
        tree_of_many_arrays,
        a_tail_in_a_scan,
    )
} | {
    "odd_names": lambda: (_linen(Odd(), X), X),
    "a_scanned_method": lambda: (_linen(Steps(), X), X),
    "heads_folded_into_the_batch": lambda: (
        attrax.unbatched(_linen(Attention(), _TOKENS[None])),
        _TOKENS,
    ),
    "nnx_modules_in_a_scan": lambda: (attrax.from_nnx(Stack(nnx.Rngs(0))), X),
}
"""Each makes a model and its input."""
