"""Gradients at a layer along a path in input space.

Elsewhere in the library the path runs where the gradient is taken. Here it runs in the input, and
every point on it has its own activation and its own function behind the layer. So these methods
take the division of the model itself, `split(x) -> (z, fn)`, where `fn(z)` is the score:

    split = lambda x: attrax.cut(model, x, at="block", score=score)
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .. import scores
from .._core import _checks
from .._core._loops import weighted_sum
from .._core._safe import quotient
from .._core._types import (
    Array,
    Curve,
    Distribution,
    PyTree,
    ScalarFn,
    cast_like,
    tree_dtype,
    widen,
)
from ..paths import straight
from ..quadrature import Rule, Stieltjes, gauss_legendre
from ..quadrature._tables import nodes_and_weights
from ._gradient import gradient

Jvp: TypeAlias = Callable[..., Any]
"""`jax.jvp`, or a function like it."""

Split: TypeAlias = Callable[..., tuple[PyTree, ScalarFn]]
"""`x -> (z, fn)`: the activation of a layer, and the scalar function of it that is explained."""


def internal_influence(
    split: Split,
    x: PyTree,
    distribution: Distribution,
    *,
    rule: Rule,
    key: Array | None = None,
    batch_size: int = 8,
) -> PyTree:
    r"""The gradient at a layer, averaged over a distribution of interest in input space.

    $$\sum_k w_k \frac{\partial fn}{\partial z}(p(t_k, key_k)) \text{ with } p = distribution(x)
    \text{ and } (z, fn) = split(p)$$

    Multiplied by nothing, and not complete, also not when it is multiplied by the activation.
    Where the path itself is to run at the layer, use `attrax.influence` or
    `attrax.integrated_gradients` on the tail: that is another question, with other numbers.

    Args:
        split: `x -> (z, fn)`: the activation of the layer, and the score as a function of it.
        x: what `split` takes, any pytree of floating arrays.
        distribution: `distribution(x) -> ((t, key) -> point)`, points like `x`:
            `attrax.distributions.point`, `linear()`, `gaussian(sigma)`, or your own.
        rule: the nodes t and their weights.
        key: where the distribution is random; each node gets a key of its own.
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of z; units of the score per unit of z.

    Raises:
        TypeError: when `x` or z is not floating, or `rule` is not a `Rule`.
        ValueError: when `fn` does not return a scalar, the points do not match the shapes of `x`,
            or the distribution needs a key and there is none.

    Example:
        >>> from attrax.distributions import linear
        >>> split = lambda x: (x**2, lambda z: z @ z)  # the gradient is 2 z, and z is t^2 x^2
        >>> x, rule = jnp.array([3.0, 6.0]), gauss_legendre(8)
        >>> found = internal_influence(split, x, linear(), rule=rule)
        >>> found.round(4).tolist()
        [6.0, 24.0]

    References:
        Leino et al. (2018), arXiv:1802.03788, definition 1, for the slice that `split` makes; the
        expectation is a weighted sum.
    """
    x = _checks.floating(x)
    sampler = distribution(widen(x))
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))
    keys = None if key is None else jax.random.split(key, nodes.shape[0])

    def integrand(where: tuple[Array, Array | None]) -> PyTree:
        z, fn = _divide(split, _checks.like(sampler(*where), x, "distribution"))
        return gradient(fn, z)

    total = weighted_sum(integrand, (nodes, keys), weights, batch_size=batch_size)
    return cast_like(total, _layer(split, x))


def conductance(
    split: Split,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    rule: Rule | Stieltjes = gauss_legendre(32),
    jvp: Jvp = jax.jvp,
    batch_size: int = 8,
) -> PyTree:
    r"""How much of the score's change flows through each neuron of a layer.

    $$\int_0^1 \frac{\partial fn}{\partial z}(x_t) \odot \frac{d z}{d t}(x_t) \, dt
    \text{ with } x_t = b + t (x - b)$$

    Complete where every path from input to output crosses the layer: there the sum is
    `score(x) - score(b)`, up to the error of the rule. **Not complete where a skip connection goes
    around the layer**: what flows there is missing from the sum, however fine the rule. Neurons are
    weighed by how they change along the line in input space; a straight line at the layer itself is
    `attrax.integrated_gradients` of the tail.

    With a `Rule` both derivatives are exact, in one pass forward through the layers before z and
    one backward through those behind it: about two forward passes of the model for each node. That
    is the choice for smooth networks (GELU, tanh, softmax). **At ReLU layers dz/dt jumps**, and any
    such rule is of first order; there take `rule=attrax.quadrature.stieltjes(n)`, a sum over the
    differences of z between neighbouring nodes, which needs no derivative of z.

    Args:
        split: `x -> (z, fn)`: the activation of the layer, and the score as a function of it.
        x: what `split` takes, any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        rule: the nodes on the line: a `Rule` for exact derivatives of z, or a `Stieltjes` for its
            differences. On smooth feed-forward networks 16 to 32 nodes of Gauss-Legendre reach the
            rounding error of float32. Recurrent networks need more, and behind a norm with a
            baseline of zeros no rule is accurate: see `attrax.certified_conductance`.
        jvp: how z is differentiated along the line: `jax.jvp`, or `attrax.reverse_jvp` where
            something before the layer has no forward derivative (`jax.custom_vjp`).
        batch_size: points evaluated at once.

    Returns:
        The structure, shapes and dtypes of z; units of the score.

    Raises:
        TypeError: when `x` or z is not floating, or `rule` is neither a `Rule` nor a `Stieltjes`.
        ValueError: when `fn` does not return a scalar, or `baseline` does not match the shapes of
            `x`.

    Example:
        >>> split = lambda x: (x**2, lambda z: z[0] * z[1])
        >>> found = conductance(split, jnp.array([1.0, 3.0]))
        >>> found.round(4).tolist()  # halves of 1 * 9: both factors grow as t^2
        [4.5, 4.5]

    References:
        Dhamdhere, Sundararajan and Yan (2018), arXiv:1805.12233, the conductance of a neuron; in
        the form of Shrikumar, Su and Kundaje (2018), arXiv:1807.09946, with the derivative of z in
        place of differences between neighbouring points, and any quadrature rule.
    """
    x = _checks.floating(x)
    line = straight(x, _checks.baseline_like(baseline, x))
    if isinstance(rule, Stieltjes):
        nodes = jnp.asarray(rule.nodes, tree_dtype(x))
        return cast_like(_differences(split, line, nodes, batch_size), _layer(split, x))
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))

    through = flow(split, line, jvp)
    total = weighted_sum(lambda t: through(t)[1], nodes, weights, batch_size=batch_size)
    return cast_like(total, _layer(split, x))


def _differences(split: Split, curve: Curve, nodes: Array, batch_size: int) -> PyTree:
    """`sum_k ((1 - c_k) g_k + c_k g_(k+1)) * (z_(k+1) - z_k)`, g the gradient at z on a curve."""

    def at(t: Array) -> tuple[PyTree, PyTree]:
        z, fn = _divide(split, curve(t))
        return widen(z), widen(gradient(fn, z))

    def interval(before: tuple[PyTree, PyTree], t: Array) -> PyTree:
        (z0, slope0), (z1, slope1) = before, at(t)
        z, fn = _divide(split, curve(t))
        steps = jax.tree.map(jnp.subtract, z1, z0)
        turns = jax.tree.map(jnp.subtract, slope1, slope0)
        change = _checks.scalar_valued(fn)
        through = (change(z) - change(cast_like(z0, z))).astype(nodes.dtype)
        share = _share(through, _inner(slope0, steps), _inner(turns, steps))
        return jax.tree.map(lambda g, turn, step: (g + share * turn) * step, slope0, turns, steps)

    def step(before: tuple[PyTree, PyTree], times: Array) -> tuple[tuple[PyTree, PyTree], PyTree]:
        here = jax.vmap(at)(times)
        all_before = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), before, here)
        parts = jax.vmap(interval)(all_before, times)
        last = jax.tree.map(lambda leaf: leaf[-1], here)
        return last, jax.tree.map(lambda leaf: jnp.sum(leaf, 0), parts)

    chunks = -(-(nodes.shape[0] - 1) // _checks.count(batch_size, "batch_size"))
    size = -(-(nodes.shape[0] - 1) // chunks)
    # Beyond the last node it is repeated: between equal nodes there is no difference.
    index = jnp.minimum(1 + jnp.arange(chunks * size), nodes.shape[0] - 1)
    checkpointed = jax.checkpoint(step, prevent_cse=False)
    _, parts = jax.lax.scan(checkpointed, at(nodes[0]), nodes[index].reshape(chunks, size))
    return jax.tree.map(lambda leaf: jnp.sum(leaf, 0), parts)


def _inner(first: PyTree, second: PyTree) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda a, b: jnp.sum(a * b), first, second))


def _share(through: Array, before: Array, turn: Array) -> Array:
    """The share of the second gradient with which the sum is the change through the layer.

    Exact where the gradient jumps once in between; 1/2 where it changes by no more than rounding.
    """
    noise = 64 * jnp.finfo(through.dtype).eps * (jnp.abs(through) + jnp.abs(before))
    seen = jnp.abs(turn) > noise
    share = quotient(through - before, jnp.where(seen, turn, 0), 0.5)
    return jnp.where(seen, jnp.clip(share, 0, 1), 0.5)


def flow(split: Split, curve: Curve, jvp: Jvp = jax.jvp) -> Callable[[Array], tuple[Array, PyTree]]:
    """`t -> (fn, (d fn / d z) * (d z / d t))` on a curve in input space, for `conductance`."""

    def integrand(t: Array) -> tuple[Array, PyTree]:
        def along(t: Array) -> Any:
            return _divide(split, curve(t))

        z, velocity, fn = _forward(jvp, along, t)
        fn = _checks.scalar_valued(_outside(fn, split, curve(t)))
        value, slope = jax.value_and_grad(fn)(z)
        return value, jax.tree.map(jnp.multiply, widen(slope), widen(velocity))

    return integrand


def _forward(jvp: Jvp, along: Callable[[Array], Any], t: Array) -> tuple[PyTree, PyTree, Any]:
    """The value, its derivative and what comes beside it, or an error that names the option."""
    try:
        return jvp(along, (t,), (jnp.ones_like(t),), has_aux=True)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "Something before the layer has a backward rule only (`jax.custom_vjp`), so that "
            "`jax.jvp` cannot differentiate it; pass `jvp=attrax.reverse_jvp`."
        ) from error


def neuron_conductance(
    split: Split,
    x: PyTree,
    baseline: PyTree | None = None,
    *,
    neuron: int | Array | tuple[int | Array, ...] | None = None,
    rule: Rule = gauss_legendre(32),
    batch_size: int = 8,
) -> PyTree:
    r"""How much of the score's change each input feature sends through each neuron of a layer.

    $$(x_i - b_i) \int_0^1 \frac{\partial fn}{\partial z_j}(x_t)
    \frac{\partial z_j}{\partial x_i}(x_t) \, dt$$

    The sum over all input features is `conductance`, exactly, with the same rule; what is said
    there of completeness holds here. All neurons share the forward pass and the gradient at the
    layer; each costs one backward pass through the layers before it, and as much memory as its
    neighbour, at every point of a chunk. For a layer of many neurons choose some: `neuron` may be
    traced, so that `jax.vmap` or `jax.lax.map` over it takes any set of them.

    Args:
        split: `x -> (z, fn)`: the activation of the layer, and the score as a function of it.
        x: what `split` takes, any pytree of floating arrays.
        baseline: the same structure and shapes; None is zeros.
        neuron: one neuron of z, an index for each of its axes; None is all of them.
        rule: where the derivatives are taken on the line, and their weights.
        batch_size: points evaluated at once.

    Returns:
        For one neuron the structure, shapes and dtypes of `x`. For all of them the structure of z,
        and at each of its leaves that of `x`, where the axes of z come first: `(*z.shape,
        *x.shape)`. Units of the score.

    Raises:
        TypeError: when `x` or z is not floating, or `rule` is not a `Rule`; when z is not one array
            and `neuron` is given.
        ValueError: when `fn` does not return a scalar, `baseline` does not match the shapes of `x`,
            or `neuron` is out of range or has not one index for each axis.

    Example:
        >>> split = lambda x: (x**2, lambda z: z[0] * z[1])
        >>> found = neuron_conductance(split, jnp.array([1.0, 3.0]))
        >>> found.round(4).tolist()
        [[4.5, 0.0], [0.0, 4.5]]

    References:
        Dhamdhere, Sundararajan and Yan (2018), arXiv:1805.12233, the conductance of a neuron for
        one input feature, with any quadrature rule.
    """
    x = _checks.floating(x)
    baseline = _checks.baseline_like(baseline, x)
    line = straight(x, baseline)
    step = jax.tree.map(jnp.subtract, widen(x), widen(baseline))
    nodes, weights = nodes_and_weights(rule, tree_dtype(x))
    chosen = _chosen(neuron)

    def activation(x: PyTree) -> tuple[PyTree, Any]:
        z, fn = _divide(split, x)
        return chosen(z), (z, fn)

    rows_at = jax.jacrev(activation, has_aux=True)

    def integrand(t: Array) -> PyTree:
        rows, (z, fn) = rows_at(line(t))
        slope = chosen(gradient(_outside(fn, split, line(t)), z))
        return jax.tree.map(lambda g, row: _times(g, row, step), widen(slope), widen(rows))

    total = weighted_sum(integrand, nodes, weights, batch_size=batch_size)
    return cast_like(total, jax.eval_shape(lambda x: rows_at(x)[0], x))


def _times(slope: Array, rows: PyTree, step: PyTree) -> PyTree:
    """The derivatives of the neurons of one array, axes in front, times slope and step."""

    def product(row: Array, step: Array) -> Array:
        in_front = slope.reshape(*slope.shape, *[1] * step.ndim)
        behind = step.reshape(*[1] * slope.ndim, *step.shape)
        return in_front * row * behind

    return jax.tree.map(product, rows, step)


def reverse_jvp(
    fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False
) -> tuple[Any, ...]:
    r"""The derivative along a direction, as `jax.jvp` gives it, by reverse mode alone.

    $$(fun(x), J v) \text{ with the Jacobian } J \text{ of } fun \text{ at } x$$

    $u^T J$, which is linear in u, is differentiated by u, in the direction v.

    Exact, for functions that have a reverse derivative only: `jax.custom_vjp`. Their backward rule
    must itself have a reverse derivative, and is taken to be linear. Inside `jax.jit` it costs what
    `jax.jvp` costs, and the memory of a gradient.

    Args:
        fun: a function of arrays.
        primals: a tuple of its arguments.
        tangents: a tuple like `primals`.
        has_aux: whether `fun` returns a pair, of which only the first is differentiated.

    Returns:
        `(value, derivative)`, or `(value, derivative, aux)`.

    Example:
        >>> value, derivative = reverse_jvp(jnp.square, (jnp.float32(3.0),), (jnp.float32(1.0),))
        >>> value.item(), derivative.item()
        (9.0, 6.0)
    """
    pair = fun if has_aux else lambda *args: (fun(*args), None)
    value, pullback, aux = jax.vjp(pair, *primals, has_aux=True)
    _, forward = jax.vjp(pullback, jax.tree.map(jnp.zeros_like, value))
    (derivative,) = forward(tuple(tangents))
    return (value, derivative, aux) if has_aux else (value, derivative)


def _divide(split: Split, x: PyTree) -> tuple[PyTree, ScalarFn]:
    """What `split` returns, with an activation that has a gradient."""
    z, fn = split(x)
    return _checks.floating(z, "z"), fn


def _outside(fn: ScalarFn, split: Split, x: PyTree) -> ScalarFn:
    """A function that was made inside a derivative, for use outside of it.

    JAX takes the arrays of a pytree out of a derivative. It cannot do so with what a plain function
    closes over: that one is made a second time. Both make the same values, and a compiled program
    computes them once.
    """
    return split(x)[1] if jax.tree_util.all_leaves([fn]) else fn


def _layer(split: Split, x: PyTree) -> PyTree:
    """The shapes and dtypes of the activation."""
    return jax.eval_shape(lambda x: split(x)[0], x)


def _chosen(neuron: Any) -> Callable[[PyTree], PyTree]:
    """What is taken from an activation, and from a gradient like it."""
    if neuron is None:
        return lambda z: z
    return scores.neuron(*(neuron if isinstance(neuron, tuple) else (neuron,)))
