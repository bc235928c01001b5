"""Functions with their own derivative rule, and the tracers that such a rule may hold on to."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ._equations import Body, Value, bodies_of, input_avals, open_jaxpr, run


def holds_dead_tracer(tail: Body, num_values: int, alive: Sequence[Value]) -> bool:
    """Whether the gradient of a tail needs a value of the trace that the tail was made in.

    A `custom_jvp` or `custom_vjp` function is kept as it is, and its rule runs when the tail is
    differentiated. A rule that uses a traced value it was not given as an argument then finds a
    tracer of a trace that has ended. `alive` are the values closed over from a trace outside.
    """
    avals = input_avals(tail)
    floating = [jnp.issubdtype(a.dtype, jnp.floating) for a in avals]
    where = [i for i in range(len(avals) - num_values, len(avals)) if floating[i]]

    def gradient(*args):
        def outputs(*z):
            given = dict(zip(where, z, strict=True))
            values = run(tail, [given.get(i, a) for i, a in enumerate(args)])
            return [v for v in values if jnp.issubdtype(v.dtype, jnp.floating)]

        values, pull = jax.vjp(outputs, *(args[i] for i in where))
        return pull([jnp.ones_like(v) for v in values])

    found = getattr(jax.make_jaxpr(gradient)(*avals), "consts", ())
    return any(isinstance(c, Tracer) and not any(c is a for a in alive) for c in found)


def closes_over_values(jaxpr: Body) -> bool:
    """Whether a function with its own rule uses traced values that are not its arguments.

    To be asked of a program as it was traced: evaluating it again makes them arguments.
    """
    return any(
        eqn.params.get("num_consts", 0)
        if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call")
        else any(closes_over_values(body) for body in bodies_of(eqn))
        for eqn in open_jaxpr(jaxpr).eqns
    )
