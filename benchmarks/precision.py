"""What bfloat16 and rounded factors cost in accuracy: integrated gradients of a smooth network."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import attrax
from attrax.quadrature import gauss_legendre

from .report import Claim, Table, main

NODES = (8, 16, 64)
EXACT = 128
SIZES = (64, 256, 256, 256, 10)
EXAMPLES = 16
BITS = {"tf32": 10, "bfloat16": 7}
"""Bits of fraction; both have the eight bits of exponent of float32."""

Weights = list[jax.Array]


def network(weights: Weights, x: jax.Array, bits: int | None = None) -> jax.Array:
    """The probability of a class; GELU, with the factors of products rounded to so many bits."""
    rounded = (lambda a: lax.reduce_precision(a, 8, bits)) if bits else (lambda a: a)
    for weight in weights[:-1]:
        x = jax.nn.gelu(rounded(x) @ rounded(weight))
    outputs = (rounded(x) @ rounded(weights[-1])).astype(jnp.float32)
    return jax.nn.softmax(4 * outputs)[3]


def explained(fn: Callable[[Weights, jax.Array], jax.Array], nodes: int) -> Callable[..., Any]:
    """Integrated gradients of each example, by attrax."""
    rule = gauss_legendre(nodes)

    def one(weights: Weights, x: jax.Array) -> jax.Array:
        return attrax.integrated_gradients(lambda x: fn(weights, x), x, rule=rule)

    return jax.jit(jax.vmap(one, (None, 0)))


def summed_as_it_is(nodes: int) -> Callable[..., Any]:
    """The same with the sum in the dtype of the example."""
    rule = gauss_legendre(nodes)

    def one(weights: Weights, x: jax.Array) -> jax.Array:
        def step(total: jax.Array, point: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            node, weight = point
            slope = jax.grad(lambda x: network(weights, x))(node * x)
            return total + weight * slope, None

        points = jnp.asarray(rule.nodes, x.dtype), jnp.asarray(rule.weights, x.dtype)
        return x * lax.scan(step, jnp.zeros_like(x), points)[0]

    return jax.jit(jax.vmap(one, (None, 0)))


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    keys = jax.random.split(jax.random.key(0), len(SIZES) + 1)
    weights = [
        1.4 * jax.random.normal(key, shape) / np.sqrt(shape[0])
        for key, shape in zip(keys, itertools.pairwise(SIZES), strict=False)
    ]
    xs = jax.random.normal(keys[-1], (EXAMPLES, SIZES[0]))
    half = [weight.astype(jnp.bfloat16) for weight in weights]
    exact = np.asarray(explained(network, EXACT)(weights, xs), np.float64)

    def error(found: jax.Array) -> float:
        apart = np.abs(np.asarray(found, np.float64) - exact).sum(1)
        return float(np.median(apart / np.abs(exact).sum(1)))

    rows, errors = [], {}
    for nodes in NODES[:2] if quick else NODES:
        inside = explained(lambda w, x: network(w, x.astype(jnp.bfloat16)), nodes)
        errors[nodes] = [
            error(explained(network, nodes)(weights, xs)),
            error(inside(half, xs)),
            error(explained(network, nodes)(half, xs.astype(jnp.bfloat16))),
            error(summed_as_it_is(nodes)(half, xs.astype(jnp.bfloat16))),
            *(
                error(explained(lambda w, x, bits=bits: network(w, x, bits), nodes)(weights, xs))
                for bits in BITS.values()
            ),
        ]
        rows.append([nodes, *errors[nodes]])
    return [
        Table(
            name="precision",
            title="Integrated gradients in fewer bits, a GELU network with softmax",
            caption=(
                f"The error over the size, in the sum of magnitudes, against {EXACT} nodes in "
                f"float32; the median of {EXAMPLES} examples. Sum too: also the sum over the nodes "
                "is in bfloat16, which attrax never does. Factors: those of every product of "
                "matrices are rounded, as accelerators do, here on any device."
            ),
            columns=[
                ("nodes", "d"),
                ("float32", ".0e"),
                ("bfloat16 layers", ".0e"),
                ("all bfloat16", ".0e"),
                ("sum too", ".0e"),
                *((f"factors of {name}", ".0e") for name in BITS),
            ],
            rows=rows,
            claims=[
                Claim(
                    "all bfloat16: error with 16 nodes / sum too",
                    errors[16][2] / errors[16][3],
                    at_most=1,
                )
            ],
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
