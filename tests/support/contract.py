"""What each method promises: one table, checked by `test_contract.py` and printed in the reference.

A row gives the method as `explain(fn, x)` for a scalar function and one example, and what holds:

- `jit`: inside `jax.jit` it gives what it gives outside;
- `vmap`: over a batch of examples it gives what a loop gives;
- `grad`: the attribution can be differentiated twice;
- `batch_sum`: explaining the sum of the scores of a whole batch gives each example's attribution;
- `host`: part of the work is done in Python, outside compiled programs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

import attrax
from attrax import distributions, paths, quadrature

PROPERTIES = ("jit", "vmap", "grad", "batch_sum", "host")


class Method(NamedTuple):
    """One row of the table."""

    name: str
    explain: Callable[[Callable[[Any], jax.Array], Any], Any]
    holds: frozenset[str]


def _row(name: str, explain: Callable[..., Any], holds: str) -> Method:
    assert set(holds.split()) <= set(PROPERTIES)
    return Method(name, explain, frozenset(holds.split()))


def _influence(distribution: Any) -> Callable[..., Any]:
    rule, key = quadrature.midpoint(3), jax.random.key(7)
    return lambda fn, x: attrax.influence(fn, x, distribution, rule=rule, key=key, batch_size=2)


def _curved(x: Any, baseline: Any) -> Callable[[jax.Array], Any]:
    return lambda t: jax.tree.map(lambda x, b: b + t * t * (x - b), x, baseline)


_RULE = quadrature.gauss_legendre(3)
_RANDOM = {"key": jax.random.key(7), "num_samples": 3, "batch_size": 2}


def _noise(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method over noise, of the gradient."""
    return lambda fn, x: method(lambda x: attrax.gradient(fn, x), x, sigma=0.3, **_RANDOM).value


def _expected(fn: Callable[..., Any], x: Any) -> Any:
    baselines = jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf / 2]), x)
    return attrax.expected_gradients(fn, x, baselines, **_RANDOM).value


def _at_a_layer(method: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A method at a layer that is cut behind one nonlinearity."""

    def explain(fn: Callable[..., Any], x: Any) -> Any:
        def split(x: Any) -> tuple[Any, Any]:
            return jax.tree.map(jnp.tanh, x), fn

        return method(split, x, *arguments, rule=_RULE, batch_size=2)

    return explain


def _neuron(fn: Callable[..., Any], x: Any) -> Any:
    restore = ravel_pytree(x)[1]

    def split(x: Any) -> tuple[Any, Any]:
        return jnp.tanh(ravel_pytree(x)[0]), lambda z: fn(restore(z))

    return attrax.neuron_conductance(split, x, neuron=1, rule=_RULE, batch_size=2)


def _interaction(fn: Callable[..., Any], x: Any) -> Any:
    return attrax.integrated_hessian_product(
        fn, x, jax.tree.map(jnp.cos, x), rule=quadrature.gauss_logarithmic(3), batch_size=2
    )


def _interactions(fn: Callable[..., Any], x: Any) -> Any:
    """The sums of the rows of the whole matrix."""
    matrix = attrax.integrated_hessians(fn, x, rule=quadrature.gauss_logarithmic(2), batch_size=2)

    def sums(leaf: jax.Array, rows: Any) -> jax.Array:
        behind = lambda block: tuple(range(leaf.ndim, block.ndim))  # noqa: E731
        return sum(jnp.sum(block, axis=behind(block)) for block in jax.tree.leaves(rows))

    return jax.tree.map(sums, x, matrix)


def _path(path: Any, rule: quadrature.Rule) -> Callable[..., Any]:
    return lambda fn, x: attrax.path_integrated_gradients(fn, x, path=path, rule=rule, batch_size=2)


METHODS = (
    _row("gradient", attrax.gradient, "jit vmap grad batch_sum"),
    _row("gradient_times_input", attrax.gradient_times_input, "jit vmap grad batch_sum"),
    _row(
        "integrated_gradients",
        lambda fn, x: attrax.integrated_gradients(fn, x, rule=_RULE, batch_size=2),
        "jit vmap grad batch_sum",
    ),
    _row("path_integrated_gradients", _path(_curved, _RULE), "jit vmap grad batch_sum"),
    _row(
        "path_integrated_gradients, blur",
        _path(paths.blur(1.0, axes=(-2, -1)), _RULE),
        "jit vmap grad batch_sum",
    ),
    # The tokens of a batch are not those of its examples.
    _row(
        "path_integrated_gradients, tokenwise",
        _path(paths.tokenwise([1, 0]), quadrature.composite(quadrature.gauss_legendre(2), 2)),
        "jit vmap grad",
    ),
    # These three choose by the gradient, or divide by its norm: they see the whole batch.
    _row(
        "guided_integrated_gradients",
        lambda fn, x: attrax.guided_integrated_gradients(fn, x, steps=4, fraction=0.3),
        "jit vmap grad",
    ),
    _row("idgi", lambda fn, x: attrax.idgi(fn, x, steps=3, batch_size=2), "jit vmap grad"),
    _row(
        "integrated_decision_gradients",
        lambda fn, x: attrax.integrated_decision_gradients(fn, x, rule=_RULE, batch_size=2),
        "jit vmap grad",
    ),
    _row("influence, linear", _influence(distributions.linear()), "jit vmap grad batch_sum"),
    # The noise of one example does not have the shape of the noise of a batch.
    _row("influence, gaussian", _influence(distributions.gaussian(0.3)), "jit vmap grad"),
    _row("smoothgrad", _noise(attrax.smoothgrad), "jit vmap grad"),
    _row("smoothgrad_squared", _noise(attrax.smoothgrad_squared), "jit vmap grad"),
    _row("vargrad", _noise(attrax.vargrad), "jit vmap grad"),
    _row("expected_gradients", _expected, "jit vmap grad batch_sum"),
    _row("conductance", _at_a_layer(attrax.conductance), "jit vmap grad batch_sum"),
    _row(
        "internal_influence",
        _at_a_layer(attrax.internal_influence, distributions.linear()),
        "jit vmap grad batch_sum",
    ),
    # One neuron of a batch is a neuron of its first example.
    _row("neuron_conductance, one", _neuron, "jit vmap grad"),
    _row("integrated_hessian_product", _interaction, "jit vmap grad batch_sum"),
    # The matrix of a batch pairs features of different examples.
    _row("integrated_hessians", _interactions, "jit vmap grad"),
)


def markdown() -> str:
    """The table as Markdown."""
    lines = ["| method | " + " | ".join(PROPERTIES).replace("_", "-") + " |"]
    lines.append("|---" * (len(PROPERTIES) + 1) + "|")
    for method in METHODS:
        marks = ("yes" if name in method.holds else "" for name in PROPERTIES)
        lines.append(f"| {method.name} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
