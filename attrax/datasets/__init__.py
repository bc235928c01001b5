"""Attributions of whole datasets, written to disk as they are computed, and resumed after a stop.

    def method(model, x, y):
        return attrax.integrated_gradients(lambda x: attrax.scores.logit(y)(model(x)), x)

    batches = datasets.batches((xs, ys), 64)
    explain = jax.vmap(method, in_axes=(None, 0, 0))  # `method(model, x, y)` is of one example
    results = datasets.explain(explain, model, batches, store="out/digits.zarr")
    results["value"][1234]

`explain` runs a method over any iterable of batches: one program, compiled once. What it has
finished is on disk, in a Zarr store. The same call after a stop of any kind goes on where it was,
and the store is then that of a run that was never stopped. `open` reads a store, also one that is
still being written; so does anything that reads Zarr version 3.

`batches` makes batches of a reader of single examples; one that cannot be read is reported, and the
rest goes on. `Batch` is for iterables that bring labels or other arrays to be stored beside the
attributions, or that know themselves which examples they could not read.
"""

from .._core._names import shown
from ._batches import Batch as Batch
from ._batches import batches as batches
from ._explain import explain as explain
from ._results import Results as Results
from ._results import Stored as Stored
from ._results import open as open

__dir__ = shown(__name__)
del shown
