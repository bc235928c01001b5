"""A quadrature rule: a table of nodes and weights."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """Nodes and weights on [0, 1]: the integral of f is near `sum_k weights[k] f(nodes[k])`.

    A rule is a pytree, so that it can be an argument of a compiled function: another rule with as
    many nodes then costs no compilation. Two rules are equal when they are the same object.

    Args:
        nodes: `(n,)`, each in [0, 1].
        weights: `(n,)`. They sum to 1 for a mean over the path; this is not checked.

    Raises:
        ValueError: when shapes differ, or a node lies outside [0, 1].

    Example:
        >>> rule = Rule([0.25, 0.75], [0.5, 0.5])
        >>> rule.n, float(rule.weights @ rule.nodes)
        (2, 0.5)
    """

    nodes: Any
    weights: Any

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _table(getattr(self, field.name)))
        if len(np.shape(self.nodes)) != 1 or not np.shape(self.nodes)[0]:
            raise ValueError(f"`nodes` must be one-dimensional; got shape {np.shape(self.nodes)}.")
        if np.shape(self.weights) != np.shape(self.nodes):
            raise ValueError(
                "`weights` must have the shape of `nodes`; "
                f"got {np.shape(self.weights)} against {np.shape(self.nodes)}."
            )
        if isinstance(self.nodes, np.ndarray):
            outside = self.nodes[~((self.nodes >= 0) & (self.nodes <= 1))]
            if outside.size:
                raise ValueError(f"`nodes` must lie in [0, 1]; got {outside[0]}.")

    @property
    def n(self) -> int:
        """The number of evaluations."""
        return self.nodes.shape[0]


def _table(values: Any) -> Any:
    """A read-only float64 copy of what is known now; traced values as they are."""
    if isinstance(values, Tracer):
        return values
    table = np.array(values, dtype=np.float64)
    table.setflags(write=False)
    return table


def _flatten(rule: Rule) -> tuple[list[tuple[Any, Any]], None]:
    keys = (field.name for field in dataclasses.fields(rule))
    return [(jax.tree_util.GetAttrKey(key), getattr(rule, key)) for key in keys], None


def _unflatten(_: None, children: Any) -> Rule:
    # Not through __init__: transformations put tracers, batches and placeholders in the fields.
    rule = object.__new__(Rule)
    for field, child in zip(dataclasses.fields(Rule), children, strict=True):
        object.__setattr__(rule, field.name, child)
    return rule


jax.tree_util.register_pytree_with_keys(Rule, _flatten, _unflatten)


def known(rule: Any) -> Rule:
    """`rule`, provided that its tables are known now."""
    if not (isinstance(rule, Rule) and isinstance(rule.nodes, np.ndarray)):
        raise TypeError(
            "`rule` must be a Rule of known nodes, such as `attrax.quadrature.gauss_legendre(8)`; "
            f"got {rule!r}."
        )
    return rule
