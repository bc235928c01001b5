"""The loop that makes an objective large."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from .._core import _checks
from .._core._types import Array, PyTree
from ._images import Parameterisation
from ._transforms import STANDARD, Transform

Objective: TypeAlias = Callable[[Array], Array]
"""`image -> scalar`, to be made large."""

ADAM = optax.adam(0.05)
"""Lucid's optimiser."""


class State(NamedTuple):
    """The state of a rendering: all that the next step needs."""

    params: PyTree
    optimiser: PyTree
    step: Array


class Rendering(NamedTuple):
    """What a renderer returns.

    Attributes:
        image: `(H, W, C)`, in [0, 1], after the last step.
        snapshots: `(snapshots, H, W, C)`, evenly spaced; the last is `image`.
        values: `(steps,)`, objective plus prior before each step, transforms included.
        state: to go on from.
    """

    image: Array
    snapshots: Array
    values: Array
    state: State


def render(
    objective: Objective,
    parameterisation: Parameterisation,
    *,
    key: Array,
    steps: int,
    transform: Transform = STANDARD,
    prior: Objective | None = None,
    optimiser: optax.GradientTransformation = ADAM,
    snapshots: int = 1,
    start: PyTree | State | None = None,
) -> Rendering:
    """An image that makes an objective large under random transforms.

    `argmax_p E[objective(transform(key, image(p)))] + prior(image(p))`, by `steps` steps of
    `optimiser`, each with one draw of the transform

    The image is a local optimum from a random start. Another key gives another image, and only
    differences that recur for several keys mean anything. Any layer of any model can be asked for
    through `attrax.capture`; the part of the network after the layer is not computed.

    One scan, whose body is compiled once. Wrap it in `jax.jit` with the model as an argument, map
    it over keys or channels with `jax.vmap`. To show progress, call it for a few steps at a time
    and pass `state` on: the same keys are drawn as in one call, and the result is the same.

    Args:
        objective: `image -> scalar`, of the transformed image, `(H', W', C)`. It brings [0, 1] to
            what the network takes.
        parameterisation: `fourier(...)`, `pixels(...)`, `maco(...)`, or one of your own. Of
            `stacked(...)` each image is transformed by itself, and `objective` and `prior` take all
            of them, `(n, H, W, C)`.
        key: a key of `jax.random`: for the start and all transforms.
        steps: how many.
        transform: `(key, image) -> image`; `compose()` is none.
        prior: `image -> scalar` of the image as it is, before transforms, such as
            `lambda image: -0.1 * detail(image)`; None is 0.
        optimiser: of Optax. It minimises, and is given the gradient of what is to be made large
            with its sign reversed.
        snapshots: how many images to keep on the way; a divisor of `steps`.
        start: parameters, as from `parameterisation.invert(image)`; or the `state` of an earlier
            rendering, to continue it; None draws them from `key`.

    Returns:
        `Rendering(image, snapshots, values, state)`.

    Raises:
        TypeError: when `steps` or `snapshots` is not an int, or `parameterisation` is not one.
        ValueError: when `steps` or `snapshots` is below 1, `snapshots` does not divide `steps`,
            there is no key, or an objective is not a scalar.

    Example:
        >>> from attrax import visualise
        >>> bright = visualise.render(
        ...     jnp.mean, visualise.pixels((8, 8)), key=jax.random.key(0), steps=64,
        ...     transform=visualise.compose())
        >>> bool(bright.image.min() > 0.7), bright.values.shape
        (True, (64,))

    References:
        Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007. Lucid makes one step more
        than it is told, and draws the image before the last update.
    """
    steps, snapshots = _checks.count(steps, "steps"), _checks.count(snapshots, "snapshots")
    if steps % snapshots:
        raise ValueError(f"`snapshots` must divide `steps`; got {snapshots} and {steps}.")
    hint = "made by `fourier(...)`, `pixels(...)` or `maco(...)`"
    _checks.instance(parameterisation, Parameterisation, "parameterisation", hint)
    first, draws = jax.random.split(_checks.random_key(key, "render"))
    if isinstance(start, State):
        state = start
    else:
        params = parameterisation.init(first) if start is None else start
        state = State(params, optimiser.init(params), jnp.zeros((), jnp.int32))

    def total(params: PyTree, key: Array) -> Array:
        image = parameterisation.image(params)
        value = _scalar(objective(_transformed(transform, key, image)), "objective")
        if prior is not None:
            value = value + _scalar(prior(image), "prior")
        return value

    def step(state: State, _: None) -> tuple[State, Array]:
        key = jax.random.fold_in(draws, state.step)
        value, gradient = jax.value_and_grad(total)(state.params, key)
        # Optax makes small. The sign is turned here, not in `total`: `redirected_relu` looks at it.
        downhill = jax.tree.map(jnp.negative, gradient)
        updates, kept = optimiser.update(downhill, state.optimiser, state.params)
        return State(optax.apply_updates(state.params, updates), kept, state.step + 1), value

    def stage(state: State, _: None) -> tuple[State, tuple[Array, Array]]:
        state, values = jax.lax.scan(step, state, length=steps // snapshots)
        return state, (parameterisation.image(state.params), values)

    state, (images, values) = jax.lax.scan(stage, state, length=snapshots)
    return Rendering(images[-1], images, values.reshape(steps), state)


def _transformed(transform: Transform, key: Array, image: Array) -> Array:
    """The transformed image; several images each with a key of their own."""
    if image.ndim == 3:
        return transform(key, image)
    return jax.vmap(lambda key, one: _transformed(transform, key, one))(
        jax.random.split(key, len(image)), image
    )


def _scalar(value: Array, name: str) -> Array:
    if jnp.shape(value) != ():
        raise ValueError(
            f"`{name}` must return a scalar; got shape {jnp.shape(value)}. Reduce it, as by "
            "`jnp.sum`."
        )
    return jnp.asarray(value)
