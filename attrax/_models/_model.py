"""Models: callable pytrees whose weights are leaves, and what is static in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from .._core._types import PyTree, Score
from ._advice import scoring
from ._containers import in_order, key_orders
from ._fixed import Fixed
from ._taps import is_array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["program"]
)
@dataclass(frozen=True, eq=False)
class Model:
    """A function with its weights: `model(*inputs) = program(weights, *inputs)`.

    A pytree: the weights are leaves, the program is static. Pass a model as an argument of a jitted
    function and its weights are inputs of the compiled program, never constants in it.
    """

    weights: PyTree
    program: Callable[..., Any]

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.program(self.weights, *inputs, **kwargs)

    def then(self, score: Score) -> Callable[..., Any]:
        """The model followed by a score: the scalar function that methods explain.

        `model.then(score)(*inputs) = score(model(*inputs))`

        Args:
            score: `outputs -> scalar`, as in `attrax.scores`.

        Returns:
            A plain function of the inputs, with the weights closed over: write it inside the
            function that you jit, with the model as an argument of that.

        Raises:
            TypeError: `score` is not a function.

        Example:
            >>> import attrax, jax, jax.numpy as jnp
            >>> model = attrax.as_model(lambda x: x ** 2)
            >>> attrax.gradient(model.then(attrax.scores.logit(1)), jnp.array([1.0, 3.0]))
            Array([0., 6.], dtype=float32)
        """
        as_score(score)

        def scored(*inputs: Any, **kwargs: Any) -> Any:
            outputs = self(*inputs, **kwargs)
            with scoring(inputs, kwargs):
                return score(outputs)

        return scored


def as_score(score: object) -> None:
    """Refuse what is not a score.

    Raises:
        TypeError: `score` cannot be called.
    """
    if not callable(score):
        index = score if isinstance(score, int | np.integer) else 3
        raise TypeError(
            "`score` must be a function of the model's output, such as "
            f"`attrax.scores.logit({index})`; got {score!r}."
        )


def divide(tree: PyTree) -> tuple[list[Any], Static]:
    """The arrays of a pytree, and everything else."""
    leaves, structure = jax.tree.flatten(tree)
    rest = tuple(None if is_array(leaf) else _constant(leaf) for leaf in leaves)
    arrays = [leaf for leaf in leaves if is_array(leaf)]
    return arrays, Static(structure, rest, key_orders(tree))


class _Constant(NamedTuple):
    """A static value that is not equal to one of another type: 1, 1.0 and True differ."""

    kind: type
    value: Any


def _constant(value: Any) -> _Constant:
    plain = isinstance(value, (bool, int, str, bytes, type(None)))
    return _Constant(type(value), value if plain else Fixed(value))


class Static(NamedTuple):
    """What `divide` leaves of a pytree when its arrays are taken out."""

    structure: Any
    rest: tuple[_Constant | None, ...]
    orders: tuple[tuple[Any, ...] | None, ...]

    def join(self, arrays: Sequence[Any]) -> PyTree:
        remaining = iter(arrays)
        leaves = [next(remaining) if rest is None else unwrapped(rest.value) for rest in self.rest]
        return in_order(jax.tree.unflatten(self.structure, leaves), self.orders)


def unwrapped(value: Any) -> Any:
    """The value of a `Fixed`."""
    return value.value if isinstance(value, Fixed) else value


def copied(tree: PyTree) -> PyTree:
    """The same pytree in containers of its own, so that what is done to `tree` does not change it.

    JAX arrays cannot change and are shared; NumPy arrays are copied. Keys of dicts are sorted, as
    after `jax.tree.map`: variables are looked up by their names.
    """
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def copied_in_order(tree: PyTree) -> PyTree:
    """`copied`, with the keys of dicts in the order in which they are."""
    return in_order(copied(tree), key_orders(tree))
