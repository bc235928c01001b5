"""A rule on every one of several panels."""

from collections.abc import Sequence

import numpy as np

from .._core import _checks
from ._rule import Rule, known


def composite(rule: Rule, panels: int | Sequence[float]) -> Rule:
    r"""`rule` on every panel of [0, 1], shrunk to its length: exact to its degree on each of them.

    $$t = a_i + (a_{i+1} - a_i) t_k, \; w = (a_{i+1} - a_i) w_k
    \text{ for panels from } a_i \text{ to } a_{i+1}$$

    A path with kinks, such as `attrax.paths.polyline(a, b)` or `tokenwise(order)`, is smooth
    between them. A rule over the whole of it is of first order, however high its degree; with
    panels that end at the kinks the accuracy of `rule` comes back. There `rule` must have no node
    at an end: it would see the derivative of the next panel. On a smooth path shorter panels put
    nodes where they are needed.

    Nodes that neighbouring panels share are evaluated once, with the sum of their weights:
    `composite(simpson(3), 2)` is `simpson(5)`.

    Args:
        rule: what is done on each panel.
        panels: how many panels of equal length, or where they end: increasing numbers from 0 to 1.
            `polyline` over m waypoints has m + 1 pieces of equal length.

    Returns:
        A `Rule`. Without shared nodes it has `rule.n` nodes for each panel.

    Raises:
        TypeError: when `rule` is not a `Rule`, or is traced, or `panels` is neither an int nor
            numbers.
        ValueError: when there are no panels, or their ends do not increase from 0 to 1.

    Example:
        >>> from attrax.quadrature import midpoint
        >>> rule = composite(midpoint(1), [0.0, 0.5, 1.0])
        >>> rule.nodes.tolist(), rule.weights.tolist()
        ([0.25, 0.75], [0.5, 0.5])
    """
    rule = known(rule)
    ends = _ends(panels)
    # Exactly an end of the panel where the node is 0 or 1, so that shared nodes are found.
    nodes = ends[:-1, None] * (1 - rule.nodes) + ends[1:, None] * rule.nodes
    nodes, place = np.unique(nodes, return_inverse=True)
    weights = np.outer(np.diff(ends), rule.weights)
    return Rule(nodes, np.bincount(place.ravel(), weights.ravel()))


def _ends(panels: int | Sequence[float]) -> np.ndarray:
    """Where the panels end, 0 included."""
    if np.ndim(panels) == 0:
        n = _checks.count(panels, "panels")
        return np.arange(n + 1) / n
    ends = np.asarray(panels, np.float64)
    if ends.ndim != 1 or ends.size < 2:
        raise ValueError(f"`panels` must hold the ends of at least one panel; got {panels}.")
    if (ends[0], ends[-1]) != (0, 1) or not np.all(np.diff(ends) > 0):
        raise ValueError(f"`panels` must increase from 0 to 1; got {panels}.")
    return ends
