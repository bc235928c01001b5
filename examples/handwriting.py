"""The handwritten digits of scikit-learn, for the examples that learn from them."""

import functools

import numpy as np


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures `(1797, 8, 8)` from 0 to 1, and their labels.

    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "This example reads the digits of scikit-learn, which is not installed: "
            "pip install scikit-learn",
            name="sklearn",
        ) from error
    flat, labels = load_digits(return_X_y=True)
    return flat.reshape(-1, 8, 8) / 16, labels
