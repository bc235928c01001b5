"""Gauss-Legendre quadrature, by Newton's method from asymptotic positions of the nodes."""

import numpy as np

_STEPS = 4
"""Newton's steps. The first positions are within 1e-2 / n^2, and each step doubles the digits."""


def nodes_and_weights(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n nodes on [0, 1], ascending, and their weights, which sum to 1.

    n passes over the nodes for each step: an eigenvalue problem would cost n^3.
    """
    # Tricomi's positions of the zeros on [-1, 1], those of one half.
    k = np.arange(1, (n + 1) // 2 + 1)
    x = (1 - (1 - 1 / n) / (8 * n**2)) * np.cos(np.pi * (4 * k - 1) / (4 * n + 2))
    for _ in range(_STEPS):
        value, slope = _polynomial(x, n)
        x = x - value / slope
    if n % 2:
        x[-1] = 0
    _, slope = _polynomial(x, n)
    half = 2 / ((1 - x) * (1 + x) * slope**2)
    mirror = slice(-1 - n % 2, None, -1)  # The middle node once.
    nodes = np.concatenate([(1 - x) / 2, (1 + x[mirror]) / 2])
    weights = np.concatenate([half, half[mirror]])
    return nodes, weights / weights.sum()


def _polynomial(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-th Legendre polynomial and its derivative at x, inside (-1, 1)."""
    before, here = np.ones_like(x), x
    for i in range(2, n + 1):
        before, here = here, ((2 * i - 1) * x * here - (i - 1) * before) / i
    return here, n * (before - x * here) / ((1 - x) * (1 + x))
