"""How the tests compare numbers: relative to the largest, leaf by leaf."""

import jax
import numpy as np


def close(actual, expected, tolerance=1e-5):
    """Each leaf of a pytree has the shape expected, and is equal within `tolerance` of its largest.

    Where `actual` is one array, `expected` may be nested lists of numbers. Computed in float64. A
    leaf of zeros must be met exactly, but for 1e-30.
    """
    if jax.tree_util.all_leaves([actual]):
        expected = np.asarray(expected)
    leaves, structure = jax.tree.flatten(expected)
    found, same = jax.tree.flatten(actual)
    assert same == structure, f"{same} against {structure}"
    for got, wanted in zip(found, leaves, strict=True):
        got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
        assert got.shape == wanted.shape, f"{got.shape} against {wanted.shape}"
        scale = max(np.abs(wanted[np.isfinite(wanted)]).max(initial=0), 1e-30)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)
