"""The Kronrod extension of Gauss-Legendre quadrature, by Laurie's algorithm."""

import numpy as np


def nodes_and_weights(m: int) -> tuple[np.ndarray, np.ndarray]:
    """The 2m + 1 nodes on [0, 1], ascending, and their weights, which sum to 1.

    The nodes are the eigenvalues of a symmetric tridiagonal matrix with zero diagonal (Golub and
    Welsch): 0, and both signs of the singular values of a bidiagonal matrix of half the size. The
    weight of a node is 1 over the sum of the squares of all orthonormal polynomials there.
    """
    edges = np.sqrt(_recurrence(m)[1:])
    half = np.eye(m + 1, m) * edges[::2] + np.eye(m + 1, m, -1) * edges[1::2]
    positive = np.linalg.svd(half, compute_uv=False)
    nodes = np.concatenate([-positive, [0.0], positive[::-1]])
    before, here = np.zeros_like(nodes), np.ones_like(nodes)
    total = here.copy()
    for behind, ahead in zip([0.0, *edges[:-1]], edges, strict=True):
        before, here = here, (nodes * here - behind * before) / ahead
        total += here**2
    weights = 1 / total
    # The exact rule is symmetric about the middle: halve the rounding error by imposing it.
    weights = (weights + weights[::-1]) / 2
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
        k = np.arange((row + 1) // 2, -1, -1)
        s[k + 1] = np.cumsum(b[k + m + 1] * s[k] - b[row - k] * s[k + 1])
        s, t = t, _scaled(s)
    s[1:] = s[:-1].copy()
    for row in range(m - 1, 2 * m - 2):
        k = np.arange(row + 1 - m, (row - 1) // 2 + 1)
        entry = m - 1 - (row - k)
        s[entry + 1] = np.cumsum(b[row - k] * s[entry + 2] - b[k + m + 1] * s[entry + 1])
        if row % 2:
            b[(row + 1) // 2 + m + 1] = s[entry[-1] + 1] / s[entry[-1] + 2]
        s, t = t, _scaled(s)
    return b


def _scaled(moments: np.ndarray) -> np.ndarray:
    """Moments times a power of two, so that the largest is near 1.

    Only ratios within a vector are used, and each vector is a linear function of its predecessor.
    Unscaled, the moments fall as 4^-m and are lost from m = 500 on.
    """
    return np.ldexp(moments, -np.frexp(np.max(np.abs(moments)))[1])
