"""A rule with as many nodes as devices can share evenly."""

import numpy as np

from .._core import _checks
from ._rule import Rule, known


def padded(rule: Rule, multiple: int) -> Rule:
    """`rule` with its last node repeated at weight zero, until `multiple` divides their number.

    Every sum over the nodes stays what it is. So 50 nodes can be divided among 8 devices, and rules
    of 49 to 56 nodes share one compiled program. It is a real node that is repeated: a made-up one
    could have an infinite gradient, and 0 x inf is NaN.

    Args:
        rule: what is padded.
        multiple: of what the number of nodes is to be a multiple.

    Returns:
        A `Rule` of at least `rule.n` nodes, and fewer than `rule.n + multiple`.

    Raises:
        TypeError: when `rule` is not a `Rule`, or is traced, or `multiple` is not an int.
        ValueError: when `multiple` is below 1.

    Example:
        >>> from attrax.quadrature import midpoint
        >>> rule = padded(midpoint(2), 4)
        >>> rule.nodes.tolist(), rule.weights.tolist()
        ([0.25, 0.75, 0.75, 0.75], [0.5, 0.5, 0.0, 0.0])
    """
    rule = known(rule)
    more = -rule.n % _checks.count(multiple, "multiple")
    return Rule(np.pad(rule.nodes, (0, more), mode="edge"), np.pad(rule.weights, (0, more)))
