"""What each method promises: one table, checked by `test_contract.py` and printed in the README.

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

import attrax
from attrax import paths, quadrature

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

METHODS = (
    _row("gradient", attrax.gradient, "jit vmap grad batch_sum"),
    _row("gradient_times_input", attrax.gradient_times_input, "jit vmap grad batch_sum"),
    _row(
        "integrated_gradients",
        lambda fn, x: attrax.integrated_gradients(fn, x, rule=_RULE, batch_size=2),
        "jit vmap grad batch_sum",
    ),
    _row(
        "path_integrated_gradients",
        lambda fn, x: attrax.path_integrated_gradients(
            fn, x, path=_curved, rule=_RULE, batch_size=2
        ),
        "jit vmap grad batch_sum",
    ),
    _row("influence, linear", _influence(paths.linear()), "jit vmap grad batch_sum"),
    # The noise of one example does not have the shape of the noise of a batch.
    _row("influence, gaussian", _influence(paths.gaussian(0.3)), "jit vmap grad"),
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
