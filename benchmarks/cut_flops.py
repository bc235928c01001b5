"""Floating-point operations of a gradient at a layer against the layer's depth."""

import functools
from collections.abc import Callable
from typing import Any

import jax

import attrax

from . import network
from .report import Claim, Table, main

FEW, MANY = 2, 4


def flops(fn: Callable[..., Any], *args: Any) -> float:
    """The floating-point operations of a program without loops, by XLA's count.

    Counted before optimisation, and in a program without loops, because XLA counts the body of a
    loop once, however often it runs.
    """
    costs = jax.jit(fn).lower(*args).cost_analysis()
    if not isinstance(costs, dict) or costs.get("flops", -1) <= 0:
        raise RuntimeError(f"XLA counts no operations on {jax.default_backend()}: {costs}.")
    return float(costs["flops"])


def depth(model: attrax.Model, x: jax.Array, at: str) -> float:
    """The share of the forward pass's operations that lie upstream of a layer."""
    z, tail = jax.eval_shape(lambda model, x: attrax.cut(model, x, at=at), model, x)
    whole = flops(lambda model, x: model(x), model, x)
    return 1 - flops(lambda tail, z: tail(z), tail, z) / whole


def cut_node(net: network.Network, at: str) -> float:
    """The operations that one more node costs, in one program with the cut in it.

    Taken from programs with few and with more nodes, so that the one pass to the layer and whatever
    else happens once drops out, and nothing that happens at each node does.
    """

    def program(model: attrax.Model, x: jax.Array, target: jax.Array, nodes: int) -> jax.Array:
        z, tail = attrax.cut(model, x, at=at)
        score = attrax.scores.logit(target)
        rule = attrax.quadrature.gauss_legendre(nodes)
        # One chunk: no loop.
        return attrax.integrated_gradients(lambda z: score(tail(z)), z, rule=rule, batch_size=nodes)

    args = net.model, net.pictures[0], net.targets[0]
    few, many = (flops(functools.partial(program, nodes=n), *args) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def perturbed_node(net: network.Network, at: str) -> float:
    """The operations of one gradient at the layer where the layers before it run, too.

    So it is wherever the layer's activation is read or changed by a hook in a full forward pass.
    """
    return flops(
        lambda model, x, target: attrax.gradients_at(
            model, x, score=attrax.scores.logit(target), at=[at]
        ),
        net.model,
        net.pictures[0],
        net.targets[0],
    )


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    net = network.load()
    whole = flops(lambda model, x: model(x), net.model, net.pictures[0])
    rows = []
    for block in range(1, 16, 6) if quick else range(16):
        at = f"block{block}"
        d = depth(net.model, net.pictures[0], at)
        cut, perturbed = (node(net, at) / whole for node in (cut_node, perturbed_node))
        rows.append([at, d, cut, 2 * (1 - d), cut / (2 * (1 - d)), perturbed, perturbed / cut])
    return [
        Table(
            name="cut_flops",
            title=f"Operations of a gradient at a layer, {network.NAME}",
            caption=(
                f"Per node of integrated gradients, in forward passes of the network "
                f"({whole / 1e9:.2f} GFLOP), counted by XLA before optimisation. Depth d: the "
                "share of the forward pass that lies before the layer. Law: 2(1 - d), a forward "
                "and a backward pass behind the layer and nothing before it. Uncut: the whole "
                "forward pass, and the backward pass to the layer, 2 - d."
            ),
            columns=[
                ("cut at", ""),
                ("depth d", ".3f"),
                ("with cut", ".3f"),
                ("2(1 - d)", ".3f"),
                ("with cut / law", ".3f"),
                ("uncut", ".3f"),
                ("uncut / with cut", ".2f"),
            ],
            rows=rows,
            claims=[
                Claim(
                    "with cut / law, the largest of all layers",
                    max(row[4] for row in rows),
                    at_most=1.05,
                )
            ],
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
