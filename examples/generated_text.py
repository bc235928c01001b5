"""Which earlier tokens made a language model write each token? One matrix, from one program.

    python examples/generated_text.py

Trains a small causal transformer on docstrings (about a minute on one core), lets it continue a
prompt, and explains every generated token by all tokens before it, prompt and own text alike. Row i
explains `log p(token i | tokens before it)`: by gradient times input, and by integrated gradients,
whose rows add up to `log p(token i | tokens) - log p(token i | baseline)`.

A row is a cut at the embedding, a score and a method; the matrix is `jax.vmap` over rows. So all
rows are one program, and share their forward passes: an embedding on the way from the baseline
to the text is the same for every row. Writes `out/generated_text.png`.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import attrax
import language_model
import transformer
from attrax import gradient_times_input, integrated_gradients, positions, scores
from attrax.quadrature import gauss_legendre
from language_model import LanguageModel, Pieces

PROMPT = "\nIf the array"
COUNT = 20
RULE = gauss_legendre(64)

Explain = Callable[[Callable[[jax.Array], jax.Array], jax.Array, jax.Array], jax.Array]

METHODS: dict[str, Explain] = {
    "gradient x input": gradient_times_input,
    "integrated gradients": functools.partial(integrated_gradients, rule=RULE),
}


def token_row(
    model: attrax.Model, ids: jax.Array, baseline: jax.Array, i: Any, explain: Explain
) -> jax.Array:
    """What each token contributes to `log p(ids[i] | ids[:i])`, `(T,)`, in nats."""
    z, tail = attrax.cut(model, ids, at="embed")

    def fn(z):
        return scores.log_probability(ids[i])(tail(z)[i - 1])

    return positions(explain(fn, z, jnp.broadcast_to(baseline, z.shape)))


def token_matrix(
    model: attrax.Model, ids: jax.Array, baseline: jax.Array, start: int, explain: Explain
) -> jax.Array:
    """The rows of all tokens from `start` on, `(T - start, T)`: zero on and above the diagonal."""
    rows = jnp.arange(start, len(ids))
    return jax.vmap(lambda i: token_row(model, ids, baseline, i, explain))(rows)


def token_scores(model: attrax.Model, ids: jax.Array, baseline: jax.Array) -> jax.Array:
    """`log p` of each token but the first: after the tokens before it, and after the baseline."""
    z, tail = attrax.cut(model, ids, at="embed")
    logits = jax.vmap(tail)(jnp.stack([z, jnp.broadcast_to(baseline, z.shape)]))
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), ids[None, 1:, None], axis=2)
    return chosen[..., 0]


class Explanation(NamedTuple):
    """A text of T tokens, G of them generated, and what each of these is made of."""

    tokens: list[str]
    start: int
    matrices: dict[str, np.ndarray]  # (G, T)
    after: np.ndarray  # log p of each generated token, (G,)
    before: np.ndarray  # the same at the baseline, (G,)


def explain_text(
    model: attrax.Model, pieces: Pieces, ids: jax.Array, baseline: jax.Array, start: int
) -> Explanation:
    """Each method is one compiled program, whatever the number of tokens."""
    matrix = jax.jit(token_matrix, static_argnames=("start", "explain"))
    matrices = {
        name: np.asarray(matrix(model, ids, baseline, start, explain))
        for name, explain in METHODS.items()
    }
    after, before = np.asarray(jax.jit(token_scores)(model, ids, baseline))[:, start - 1 :]
    return Explanation(pieces.decode(ids), start, matrices, after, before)


# --------------------------------------------------------------------------------------- costs


class Costs(NamedTuple):
    """The matrix as one program, and as a loop over its rows, which is another one."""

    traces: int  # of the explained function, for all rows
    compiling: tuple[float, float]  # seconds
    running: tuple[float, float]
    difference: float  # of the results, relative to the largest attribution


def compare_with_loop(
    model: attrax.Model, ids: jax.Array, baseline: jax.Array, start: int, explain: Explain
) -> Costs:
    """Time of one program for all rows, and of a program for one row that is run for each."""
    traces = []

    def counted(*args):
        traces.append(args)
        return explain(*args)

    def whole(model, ids, baseline):
        return token_matrix(model, ids, baseline, start, counted)

    def row(model, ids, baseline, i):
        return token_row(model, ids, baseline, i, explain)

    places = [jnp.asarray(i) for i in range(start, len(ids))]
    begin = time.perf_counter()
    matrix = jax.jit(whole).lower(model, ids, baseline).compile()
    middle = time.perf_counter()
    one = jax.jit(row).lower(model, ids, baseline, places[0]).compile()
    end = time.perf_counter()

    together = _timed(lambda: matrix(model, ids, baseline))
    in_turn = _timed(lambda: [one(model, ids, baseline, i) for i in places])
    matrices = np.asarray(together[0]), np.stack(in_turn[0])
    difference = np.max(np.abs(matrices[0] - matrices[1])) / np.max(np.abs(matrices[1]))
    return Costs(
        len(traces),
        (middle - begin, end - middle),
        (together[1], in_turn[1]),
        float(difference),
    )


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` returns, and the shortest of three times in seconds."""
    result, times = jax.block_until_ready(run()), []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return result, min(times)


def forward_passes(
    model: attrax.Model, ids: jax.Array, baseline: jax.Array, start: int
) -> tuple[float, float]:
    """The FLOPs of gradient times input, in forward passes: as one program, and as a loop.

    The model must not run its layers under a scan: XLA counts what is in a loop once.
    """

    def flops(fn, *args):
        cost = jax.jit(fn).lower(*args).compile().cost_analysis()
        assert cost is not None
        return cost["flops"]

    def whole(model, ids, baseline):
        return token_matrix(model, ids, baseline, start, gradient_times_input)

    def row(model, ids, baseline, i):
        return token_row(model, ids, baseline, i, gradient_times_input)

    forward = flops(lambda model, ids: model(ids), model, ids)
    matrix = flops(whole, model, ids, baseline)
    one = flops(row, model, ids, baseline, jnp.asarray(start))
    return matrix / forward, (len(ids) - start) * one / forward


# ------------------------------------------------------------------------------------- drawing


def labels(tokens: list[str]) -> list[str]:
    """Tokens to read: a hyphen before a piece that goes on with a word, an arrow for a new line."""

    def label(token: str, last: str) -> str:
        if token == "\n":
            return "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
        goes_on = token[0].isalnum() and last[-1].isalnum()
        return f"-{token}" if goes_on else token.strip()

    return [label(*pair) for pair in zip(tokens, ["\n", *tokens[:-1]], strict=True)]


def draw(e: Explanation) -> Figure:
    """The matrices side by side on one scale, and beside them what their rows explain."""
    names, g, t = labels(e.tokens), len(e.after), len(e.tokens)
    figure = Figure(figsize=(14.6, 5.9), layout="constrained")
    maps = figure.subplots(1, len(e.matrices), squeeze=False)[0]
    limit = float(max(np.abs(matrix).max() for matrix in e.matrices.values()))
    unseen = np.where(np.tri(g, t, e.start - 1, dtype=bool), np.nan, 1.0)
    for ax, (title, matrix) in zip(maps, e.matrices.items(), strict=True):
        attrax.plot.signed(matrix, limit=limit, units="nats", title=title, ax=ax)
        ax.imshow(unseen, cmap="Greys", vmin=0.0, vmax=8.0, interpolation="nearest")
        ax.axvline(e.start - 0.5, color="0.4", linewidth=0.8)
        ax.set_xticks(range(t), names, rotation=90)
        ax.set_yticks(range(g), names[e.start :])
        ax.tick_params(length=0)
    maps[0].set_ylabel("generated token")
    maps[0].set_xlabel("attributed to (left of the line: the prompt)")

    maps[-1].set_title("integrated gradients: a row adds up to its bar")
    bars = maps[-1].inset_axes((1.24, 0.0, 0.3, 1.0), sharey=maps[-1])
    bars.barh(range(g), e.after - e.before, left=e.before, color="0.75", height=0.6)
    bars.plot(e.before, range(g), "|", color="0.35", label="nothing known")
    bars.plot(e.after, range(g), "o", markersize=4, color="black", label="after the text")
    bars.set_title("log p(token)")
    bars.set_xlabel("nats")
    bars.set_xlim(right=0.3)
    bars.tick_params(left=False, labelleft=False)
    bars.spines[["left", "right", "top"]].set_visible(False)
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    return figure


# ---------------------------------------------------------------------------------------- main


def baseline_of(model: LanguageModel) -> jax.Array:
    """The embedding of the piece for what is not known, which the model has met in training."""
    return model.variables["params"]["embed"]["embedding"][0]


class Report(NamedTuple):
    """What was printed."""

    ids: np.ndarray
    explanation: Explanation
    costs: dict[str, Costs]
    forward_passes: tuple[float, float]


def report(model: LanguageModel, file: Path) -> Report:
    """Generates, explains, prints and draws."""
    attrax_model = attrax.from_linen(model.module, model.variables)
    prompt, baseline = model.pieces.encode(PROMPT), baseline_of(model)
    ids = jnp.asarray(language_model.generate(model, prompt, COUNT))
    start = len(prompt)
    e = explain_text(attrax_model, model.pieces, ids, baseline, start)
    print(f"\n{PROMPT.strip()} ...{''.join(e.tokens[start:])}")

    change = e.after - e.before
    print(f"\nlog p(token | text) - log p(token | nothing known), in nats, {len(change)} tokens:")
    print(f"  mean {change.mean():+.2f}, from {change.min():+.2f} to {change.max():+.2f}")
    for name, matrix in e.matrices.items():
        gap = np.abs(matrix.sum(1) - change).max()
        later = np.abs(matrix[np.triu_indices_from(matrix, start)]).max()
        print(f"  {name:<22} rows miss it by at most {gap:.1e}; to later tokens {later:.0f}")

    print("\nOne program against a loop over tokens that runs a program for one:")
    costs = {
        name: compare_with_loop(attrax_model, ids, baseline, start, explain)
        for name, explain in METHODS.items()
    }
    for name, c in costs.items():
        print(
            f"  {name:<22} traced {c.traces} x; {1e3 * c.running[0]:.1f} ms against "
            f"{1e3 * c.running[1]:.1f} ms, ratio {c.running[1] / c.running[0]:.1f}; compiled in "
            f"{c.compiling[0]:.1f} s against {c.compiling[1]:.1f} s; differs by {c.difference:.0e}"
        )
    unrolled = attrax.from_linen(
        model.module.clone(scanned=False), transformer.unstack(model.variables)
    )
    together, in_turn = forward_passes(unrolled, ids, baseline, start)
    print(f"  FLOPs of gradient x input: {together:.1f} forward passes against {in_turn:.1f}")

    file.parent.mkdir(exist_ok=True)
    draw(e).savefig(file, dpi=150, bbox_inches="tight", pad_inches=0.15)
    print(f"\n{file}")
    return Report(np.asarray(ids), e, costs, (together, in_turn))


def main() -> None:
    """Train, generate, explain."""
    report(language_model.learn(jax.random.key(0)), Path("out") / "generated_text.png")


if __name__ == "__main__":
    main()
