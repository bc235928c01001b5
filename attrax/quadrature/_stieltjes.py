"""Sums over the differences of a function, in place of integrals of its derivative."""

import dataclasses

import jax
import numpy as np

from .._core import _checks


@dataclasses.dataclass(frozen=True, eq=False)
class Stieltjes:
    """Nodes for `integral g dz`, taken as a sum over the differences of z between neighbours.

    `sum_k ((1 - c_k) g(t_k) + c_k g(t_(k+1))) * (z(t_(k+1)) - z(t_k))`

    It needs no derivative of z, and so no smooth z: where dz/dt jumps, as behind a ReLU, the jump
    is in the differences already. Where g jumps, c_k in [0, 1] says after which share of the step:
    it is chosen so that the sum is the change of the score when z alone moves from one node to the
    other. For the `rule` of `attrax.conductance`.

    Args:
        nodes: `(n,)`, increasing from 0 to 1.
    """

    nodes: np.ndarray

    @property
    def n(self) -> int:
        """The number of evaluations."""
        return self.nodes.shape[0]


jax.tree_util.register_dataclass(Stieltjes, data_fields=["nodes"], meta_fields=[])


def stieltjes(n: int) -> Stieltjes:
    """n >= 2 equally spaced nodes with both ends, for sums over differences.

    Of order 1/n^2 on smooth networks, where a Gauss rule with the exact derivative is far better.
    On ReLU networks it is exact between nodes between which at most one unit switches.

    Example:
        >>> stieltjes(3).nodes.tolist()
        [0.0, 0.5, 1.0]

    References:
        The form of Shrikumar, Su and Kundaje (2018), arXiv:1807.09946, with both
        gradients in place of the first one, and with both ends of the path. The shares are ours.
    """
    return Stieltjes(np.linspace(0, 1, _checks.count(n, "n", least=2)))
