"""What reading a transformer costs beside tracing it, and how large its programs become."""

import cProfile
import functools
import pstats
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import attrax

from .report import Claim, Table, main

DEPTH, WIDTH, HEADS, WORDS, LENGTH = 12, 32, 4, 50, 12


class Attention(nn.Module):
    """Self-attention under a mask."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        size = WIDTH // HEADS
        query, key, value = (
            nn.DenseGeneral((HEADS, size), name=name)(x) for name in ("query", "key", "value")
        )
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / size**0.5
        weights = nn.softmax(jnp.where(mask[..., None, None, :], scores, -1e9))
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        return nn.DenseGeneral(WIDTH, axis=(-2, -1), name="out")(mixed)


class Block(nn.Module):
    """A layer of a transformer in the manner of BERT."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        x = nn.LayerNorm()(x + Attention(name="attention")(x, mask))
        return nn.LayerNorm()(x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(x))))


class Classifier(nn.Module):
    """A transformer that reads token ids."""

    depth: int = DEPTH

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        x = nn.Embed(WORDS, WIDTH, name="words")(ids)
        x = nn.LayerNorm()(x + nn.Embed(64, WIDTH, name="positions")(jnp.arange(ids.shape[-1])))
        for i in range(self.depth):
            x = Block(name=f"layer_{i}")(x, mask)
        return nn.Dense(3)(nn.tanh(nn.Dense(WIDTH)(x[..., 0, :])))


def calls(fn: Callable[[], Any]) -> int:
    """The function calls that Python makes for `fn`: unlike seconds the same on a busy machine."""
    profile = cProfile.Profile()
    profile.runcall(fn)
    return pstats.Stats(profile).total_calls  # pyright: ignore[reportAttributeAccessIssue]


def lines(fn: Callable[..., Any], *args: Any) -> int:
    """The lines of the lowered program, before XLA optimises it."""
    return jax.jit(fn).lower(*args).as_text().count("\n")


def score(outputs: jax.Array) -> jax.Array:
    """The sum of one logit over the examples."""
    return outputs[..., 1].sum()


def run(quick: bool = False) -> list[Table]:
    """The tables of this benchmark."""
    net = Classifier(2 if quick else DEPTH)
    inputs = _inputs(LENGTH)
    weights = jax.jit(net.init)(jax.random.key(0), *(leaf[None] for leaf in inputs))
    model = attrax.from_linen(net, weights)
    one = attrax.unbatched(model)
    return [_cost(net, weights, model, one), _size(net, weights, model, one)]


def _inputs(length: int) -> tuple[jax.Array, jax.Array]:
    ids = jnp.arange(length)
    return ids % WORDS, ids >= 0


def _cost(net: nn.Module, weights: Any, model: attrax.Model, one: attrax.Model) -> Table:
    # Other lengths, so that nothing is found that was traced before.
    first, second = _inputs(LENGTH + 1), _inputs(LENGTH + 2)
    trace = calls(lambda: jax.make_jaxpr(net.apply)(weights, *first))
    rows: list[list[Any]] = [["jax.make_jaxpr", trace, 1.0]]
    for name, seen, inputs in (("model", model, first), ("unbatched(model)", one, second)):
        count = calls(functools.partial(attrax.layers, seen, *inputs))
        rows.append([f"attrax.layers({name})", count, count / trace])
    return Table(
        name="reading",
        title="Reading a transformer",
        caption=(
            "Function calls of Python, for the first call at inputs of new shapes. An unbatched "
            "model is traced at batches of one, two and three, and once more as a whole. "
            "Each is compared with one more trace, without taps."
        ),
        columns=[("statement", ""), ("calls", ",d"), ("beside one trace", ".2f")],
        rows=rows,
        claims=[
            # The check is a trace of the model without taps, which every first reading pays.
            Claim("calls to read, beside one trace", rows[1][2], at_most=2.6),
            Claim("calls to read unbatched, beside one trace", rows[2][2], at_most=6.5),
        ],
    )


def _size(net: nn.Module, weights: Any, model: attrax.Model, one: attrax.Model) -> Table:
    inputs = _inputs(LENGTH)
    batch = tuple(leaf[None] for leaf in inputs)
    hand = [
        lines(net.apply, weights, *batch),
        lines(jax.grad(_after_embedding(net)), _embedded(model, batch), weights, *batch),
    ]
    rows = []
    for name, seen, given in (("model", model, batch), ("unbatched(model)", one, inputs)):
        z, tail = attrax.cut(seen, *given, at="words")
        found = [
            lines(lambda m, *inputs: _rejoined(m, *inputs), seen, *given),
            lines(jax.grad(lambda z, tail: score(tail(z))), z, tail),
        ]
        for what, count, wanted in zip(
            ("cut and tail", "gradient of the tail"), found, hand, strict=True
        ):
            rows.append([f"{what}, {name}", count, wanted, count / wanted])
    return Table(
        name="reading_size",
        title="Programs of a transformer that was read",
        caption="Lines of the lowered programs, before XLA optimises them; cut at the embedding.",
        columns=[("program", ""), ("lines", ",d"), ("by hand", ",d"), ("ratio", ".2f")],
        rows=rows,
        claims=[Claim("lines beside a program by hand", max(r[3] for r in rows), at_most=1.1)],
    )


def _rejoined(model: attrax.Model, *inputs: jax.Array) -> jax.Array:
    z, tail = attrax.cut(model, *inputs, at="words")
    return tail(z)


def _embedded(model: attrax.Model, batch: tuple[jax.Array, ...]) -> jax.Array:
    return attrax.capture(model, *batch, at="words")


def _after_embedding(net: nn.Module) -> Callable[..., jax.Array]:
    """The rest of the network as a function of the embedding, with nothing of attrax in it."""

    def scored(z: jax.Array, weights: Any, *inputs: jax.Array) -> jax.Array:
        def planted(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            is_embedding = context.module.path == ("words",) and context.method_name == "__call__"
            return z if is_embedding else call(*args, **kwargs)

        with nn.intercept_methods(planted):
            outputs = net.apply(weights, *inputs)
        assert isinstance(outputs, jax.Array)
        return score(outputs)

    return scored


if __name__ == "__main__":
    main(run, __doc__)
