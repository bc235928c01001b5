"""The Kronrod extension of Gauss-Legendre quadrature, by Laurie's algorithm."""

import numpy as np


def nodes_and_weights(m: int) -> tuple[np.ndarray, np.ndarray]:
    """The 2m + 1 nodes on [0, 1], ascending, and their weights, which sum to 1.

    The nodes are the eigenvalues of a symmetric tridiagonal matrix with zero diagonal, and the
    weights the squared first components of its eigenvectors (Golub and Welsch).
    """
    off_diagonal = np.sqrt(_recurrence(m)[1:])
    matrix = np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    nodes, vectors = np.linalg.eigh(matrix)
    weights = vectors[0] ** 2
    # The exact rule is symmetric about the middle: halve the rounding error by imposing it.
    nodes, weights = (nodes - nodes[::-1]) / 2, (weights + weights[::-1]) / 2
    return (1 + nodes) / 2, weights / weights.sum()


def _recurrence(m: int) -> np.ndarray:
    """The 2m + 1 coefficients b of the three-term recurrence behind the Kronrod rule.

    The first ceil(3m/2) + 1 are those of the Legendre polynomials. The others follow from mixed
    moments s, t of Legendre polynomials with the trailing ones, eliminated diagonal by diagonal.
    Because the Legendre weight is even, the diagonal coefficients of the recurrence vanish, and
    Laurie's formulas lose half of their terms.
    """
    b = np.zeros(2 * m + 1)
    known = np.arange(1, -(-3 * m // 2) + 1)
    b[0] = 2.0
    b[known] = known**2 / (4.0 * known**2 - 1)
    # Entry k of a moment vector is stored at k + 1, so that entry -1 exists and is zero.
    s, t = np.zeros(m // 2 + 2), np.zeros(m // 2 + 2)
    t[1] = b[m + 1]
    for row in range(m - 1):
        total = 0.0
        for k in range((row + 1) // 2, -1, -1):
            total += b[k + m + 1] * s[k] - b[row - k] * s[k + 1]
            s[k + 1] = total
        s, t = t, s
    s[1:] = s[:-1].copy()
    for row in range(m - 1, 2 * m - 2):
        total, entry = 0.0, 0
        for k in range(row + 1 - m, (row - 1) // 2 + 1):
            entry = m - 1 - (row - k)
            total += b[row - k] * s[entry + 2] - b[k + m + 1] * s[entry + 1]
            s[entry + 1] = total
        if row % 2:
            b[(row + 1) // 2 + m + 1] = s[entry + 1] / s[entry + 2]
        s, t = t, s
    return b
