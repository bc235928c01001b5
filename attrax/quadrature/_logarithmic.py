"""Gauss quadrature for the weight -log t on [0, 1], by the modified Chebyshev algorithm."""

import numpy as np


def nodes_and_weights(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n nodes on [0, 1], ascending, and their weights, which sum to 1.

    The nodes are the eigenvalues of a symmetric tridiagonal matrix, and the weights the squared
    first components of its eigenvectors (Golub and Welsch).
    """
    a, b = _recurrence(n)
    off_diagonal = np.sqrt(b[1:])
    matrix = np.diag(a) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    nodes, vectors = np.linalg.eigh(matrix)
    weights = vectors[0] ** 2
    return (2 + nodes) / 4, weights / weights.sum()


def _recurrence(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients a, b of the monic polynomials in s = 4t - 2 that are orthogonal.

    `p_{i+1}(s) = (s - a_i) p_i(s) - b_i p_{i-1}(s)`

    They follow from mixed moments, `row[k]` the integral of p_i times the k-th monic Legendre
    polynomial, row by row. Powers in place of Legendre polynomials would lose a digit with every
    node. On an interval of length 4 the moments neither grow nor vanish with the degree.
    """
    k = np.arange(1, 2 * n)
    legendre = np.append(0, 4 * k**2 / (4.0 * k**2 - 1))
    # The integral of -log t P_k(2t - 1) is (-1)^k / (k (k + 1)); the product makes P_k monic.
    row = np.append(1, np.cumprod(2 * k / (2 * k - 1.0)) * (-1.0) ** k / (k * (k + 1)))
    a, b = np.zeros(n), np.zeros(n)
    a[0], b[0] = row[1], row[0]
    before = np.zeros(2 * n)
    for i in range(1, n):
        inside = slice(i, 2 * n - i)
        following = np.zeros(2 * n)
        following[inside] = (
            row[i + 1 : 2 * n - i + 1]
            - a[i - 1] * row[inside]
            - b[i - 1] * before[inside]
            + legendre[inside] * row[i - 1 : 2 * n - i - 1]
        )
        a[i] = following[i + 1] / following[i] - row[i] / row[i - 1]
        b[i] = following[i] / row[i - 1]
        before, row = row, following
    return a, b
