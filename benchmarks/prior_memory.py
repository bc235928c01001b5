"""Memory and time of a training step with an attribution prior, against plain grad of grad."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import attrax
from attrax import priors
from attrax.quadrature import gauss_legendre

from . import timing
from .cut_flops import flops
from .memory import MIB
from .report import Claim, Table, main
from .vision_transformer import VisionTransformer

NODES, EXAMPLES = 16, 4
MOST_MEMORY, MOST_TIME = 1 / 15, 1.0
OPTIMIZER = optax.adam(1e-3)

Fn = Callable[[jax.Array], jax.Array]
Explain = Callable[[Fn, jax.Array], jax.Array]
Loss = Callable[[attrax.Model, jax.Array, jax.Array], jax.Array]


def chunked(fn: Fn, x: jax.Array, *, nodes: int, batch_size: int) -> jax.Array:
    """The library's method: `batch_size` points at once."""
    return attrax.integrated_gradients(fn, x, rule=gauss_legendre(nodes), batch_size=batch_size)


def all_at_once(fn: Fn, x: jax.Array, *, nodes: int) -> jax.Array:
    """A vmap over all nodes: the shortest way to write it."""
    rule = gauss_legendre(nodes)
    t, w = jnp.asarray(rule.nodes, x.dtype), jnp.asarray(rule.weights, x.dtype)
    return x * jnp.tensordot(w, jax.vmap(lambda t: jax.grad(fn)(t * x))(t), axes=1)


def loss_of(explain: Explain, mean: Callable[..., jax.Array]) -> Loss:
    """Cross entropy, and the roughness of the attribution of the right class."""

    def loss(model: attrax.Model, xs: jax.Array, ys: jax.Array) -> jax.Array:
        def one(x: jax.Array, y: jax.Array) -> jax.Array:
            rough = priors.total_variation(explain(lambda x: model(x)[y], x))
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y) + 0.1 * rough

        return mean(one, xs, ys)

    return loss


def at_once(fn: Callable[..., jax.Array], *rows: jax.Array) -> jax.Array:
    """The mean over all examples at once."""
    return jnp.mean(jax.vmap(fn)(*rows))


def step(
    loss: Loss, model: attrax.Model, state: Any, xs: jax.Array, ys: jax.Array
) -> tuple[attrax.Model, Any]:
    """One step of Adam."""
    updates, state = OPTIMIZER.update(jax.grad(loss)(model, xs, ys), state, model)
    return optax.apply_updates(model, updates), state


def batch(examples: int = EXAMPLES, size: int = 32) -> tuple[jax.Array, jax.Array]:
    """Random pictures and labels."""
    xs = jax.random.normal(jax.random.key(1), (examples, size, size, 3))
    return xs, jnp.arange(examples) % 10


def farthest(a: Any, b: Any) -> float:
    """The largest difference of two pytrees, relative to the largest entry of the second."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    gap = max(float(jnp.abs(x - y).max()) for x, y in pairs)
    return gap / max(float(jnp.abs(y).max()) for _, y in pairs)


def losses(nodes: int = NODES) -> dict[tuple[str, str], Loss]:
    """Each way to write the loss, by (examples at once, nodes at once)."""
    naive = loss_of(functools.partial(all_at_once, nodes=nodes), at_once)
    mine = {k: functools.partial(chunked, nodes=nodes, batch_size=k) for k in (1, 4, 8)}
    one_by_one = functools.partial(priors.batch_mean, batch_size=1)
    return {
        ("all", "all, vmap"): naive,
        **{("all", str(k)): loss_of(explain, at_once) for k, explain in mine.items()},
        ("1", "1"): loss_of(mine[1], one_by_one),
    }


def memory_and_time(quick: bool) -> Table:
    """The table of one training step."""
    model = attrax.from_nnx(VisionTransformer(rngs=nnx.Rngs(0)))
    args = model, OPTIMIZER.init(model), *batch()
    programs, memory, compile_s, gap = {}, {}, {}, {}
    expected = None
    for name, loss in losses().items():
        program, compile_s[name] = timing.compiled(functools.partial(step, loss), *args)
        programs[name] = program
        memory[name] = program.memory_analysis().temp_size_in_bytes / MIB
        gradient = jax.jit(jax.grad(loss))(model, *args[2:])
        expected = gradient if expected is None else expected
        gap[name] = farthest(gradient, expected)
    times = timing.in_turn(
        {str(name): lambda k, p=program: p(*args) for name, program in programs.items()},
        timing.effort(quick),
    )
    seconds = {name: times[str(name)].median for name in programs}
    naive, lean, leanest = ("all", "all, vmap"), ("all", "1"), ("1", "1")
    return Table(
        name="prior_memory",
        title="A training step with an attribution prior: vision transformer, width 128, 4 layers",
        caption=(
            f"One step of Adam on {EXAMPLES} pictures of 32 x 32, patches of 4: cross entropy and "
            f"the total variation of integrated gradients at {NODES} nodes. Temporary memory of "
            "the compiled program by XLA's plan for this device; ratio: that of grad of grad with "
            "a vmap over examples and nodes, over it. Gradient: the largest difference from the "
            "first row, relative to the largest entry. Examples one at a time: "
            "`attrax.priors.batch_mean`."
        ),
        columns=[
            ("examples at once", ""),
            ("nodes at once", ""),
            ("MiB", ".1f"),
            ("ratio", ".1f"),
            ("s", ".3f"),
            ("time / first", ".2f"),
            ("compile s", ".1f"),
            ("gradient", ".1e"),
        ],
        rows=[
            [
                *name,
                memory[name],
                memory[naive] / memory[name],
                seconds[name],
                seconds[name] / seconds[naive],
                compile_s[name],
                gap[name],
            ]
            for name in programs
        ],
        claims=[
            Claim(
                "memory / that of grad of grad, one node of all examples at once",
                memory[lean] / memory[naive],
                at_most=MOST_MEMORY,
            ),
            Claim(
                "memory / that of grad of grad, one node of one example at once",
                memory[leanest] / memory[naive],
                at_most=MOST_MEMORY / EXAMPLES * 1.5,
            ),
            Claim("time / that of grad of grad", seconds[lean] / seconds[naive], at_most=MOST_TIME),
            Claim("the largest difference of the gradients", max(gap.values()), at_most=1e-4),
        ],
    )


def cost() -> Table:
    """The table of operations, which does not depend on the device."""
    model = attrax.from_nnx(VisionTransformer(rngs=nnx.Rngs(0)))
    xs, ys = batch(1)
    forward = flops(lambda model, x: model(x), model, xs[0])

    def passes(explain: Explain, mean: Callable[..., jax.Array] = at_once) -> float:
        def prior(model: attrax.Model, xs: jax.Array, ys: jax.Array) -> jax.Array:
            return mean(
                lambda x, y: priors.total_variation(explain(lambda x: model(x)[y], x)), xs, ys
            )

        return flops(jax.value_and_grad(prior), model, xs, ys) / forward

    def node(explain: Callable[..., jax.Array], mean: Callable[..., jax.Array] = at_once) -> float:
        """One more node, in programs without loops."""
        few, many = (
            passes(functools.partial(explain, nodes=n, batch_size=n), mean) for n in (2, 4)
        )
        return (many - few) / 2

    def naive(fn: Fn, x: jax.Array, *, nodes: int, batch_size: int) -> jax.Array:
        return all_at_once(fn, x, nodes=nodes)

    def entropy(model: attrax.Model, x: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), ys[0])

    rows = [
        ["cross entropy alone", flops(jax.value_and_grad(entropy), model, xs[0]) / forward],
        ["gradient", passes(attrax.gradient)],
        ["gradient, in batch_mean", passes(attrax.gradient, priors.batch_mean)],
        ["integrated gradients, one node", node(chunked)],
        ["integrated gradients, one node, in batch_mean", node(chunked, priors.batch_mean)],
        ["the same as grad of grad, one node", node(naive)],
    ]
    return Table(
        name="prior_cost",
        title="What an attribution prior costs, in forward passes of one example",
        caption=(
            "Operations of the value and its derivative by the weights, over those of a forward "
            "pass; counted before optimisation, in programs without loops."
        ),
        columns=[("loss", ""), ("forward passes", ".2f")],
        rows=rows,
    )


def run(quick: bool = False) -> list[Table]:
    """The tables of this benchmark."""
    return [memory_and_time(quick), cost()]


if __name__ == "__main__":
    main(run, __doc__)
