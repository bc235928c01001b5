"""Runs Captum beside attrax on random models: `make parity`.

Prints, for each method, the largest difference of any entry, relative to the largest attribution of
its model, or in standard errors where the peer is random. Ends with status 1 where a difference is
above its tolerance.
"""

import argparse
import importlib.metadata
import platform
import sys
import time
import warnings

import jax
import numpy as np
import torch

import attrax

from . import comparisons, twins
from .comparisons import COMPARISONS, METRICS, ROUNDING, Comparison
from .twins import Twin


def differences(comparison: Comparison, models: list[Twin]) -> list[float]:
    """The largest difference for each model and layer."""
    explain = {}
    found = []
    for twin in models:
        for at, layer in places(twin) if comparison.layers else [(None, None)]:
            if at not in explain:
                one = lambda model, x, b, t, at=at: comparison.ours(model, x, b, t, at)  # noqa: E731
                # Where baselines are drawn, each example meets all of them.
                rows = None if comparison.samples else 0
                explain[at] = jax.jit(jax.vmap(one, in_axes=(None, 0, rows, 0)))
            ours = explain[at](twin.model, twin.inputs, twin.baselines, twin.targets)
            theirs = twins.to_numpy(comparison.theirs(twin, layer))
            found.append(distance(ours, theirs, comparison.samples))
    return found


def places(twin: Twin):
    """Each layer, as both libraries name it."""
    yield from ((name, (name, False)) for name in twin.layers)
    yield from ((f"{name}:in", (name, True)) for name in twin.inputs_of)


def distance(ours, theirs, samples) -> float:
    """The largest difference, relative to the largest entry or in standard errors."""
    if samples is None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(ours)]
        scale = max(np.abs(leaf).max() for leaf in theirs)
        return largest(apart(a, b).max() for a, b in zip(leaves, theirs, strict=True)) / scale
    if isinstance(ours, attrax.Estimate):
        # Both draw from the same distribution, as often.
        values, errors = map(jax.tree.leaves, ours)
        errors = [np.sqrt(2) * np.asarray(error) for error in errors]
    else:
        values, (*theirs, error) = [ours], theirs
        errors = [error]
    return largest(
        (apart(np.asarray(a), b) / np.maximum(e, 1e-12)).max()
        for a, b, e in zip(values, theirs, errors, strict=True)
    )


def largest(values) -> float:
    """The largest, or NaN where there is one."""
    return float(np.max(list(values)))


def apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        raise ValueError(f"shapes {ours.shape} and {theirs.shape}, or a number that is not finite")
    return np.abs(ours - theirs)


def run(seeds: int, only: str) -> list[tuple[str, int, int, float, float | None, str]]:
    """Rows: the method, how many models and examples, the difference, its tolerance, its unit."""
    made = [*twins.perceptrons(seeds), *twins.convolutional(seeds), *twins.sequences(seeds)]
    rows = []
    for comparison in COMPARISONS:
        if only not in comparison.name:
            continue
        models = [
            twin
            for twin in made
            if twin.kind.split(",")[0] in comparison.kinds
            and (twin.smooth or not comparison.smooth)
        ]
        start = time.perf_counter()
        worst = largest(differences(comparison, models))
        unit = " s.e." if comparison.samples else ""
        rows.append(row(comparison.name, models, worst, comparison.tolerance, unit, start))
    models = [twin for twin in made if not twin.kind.startswith("tokens")]
    for kind in (kind for kind in METRICS if only in kind):
        start, worst = time.perf_counter(), 0.0
        for twin in models:
            ours, theirs = comparisons.metric(kind, twin)
            worst = largest([worst, apart(ours, theirs).max() / np.abs(theirs).max()])
        rows.append(row(kind, models, worst, ROUNDING, "", start))
    return rows


def row(name, models, worst, tolerance, unit, start):
    print(f"{name}: {worst:.1e}{unit} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)
    examples = sum(len(twin.targets) for twin in models)
    return name, len(models), examples, worst, tolerance, unit


def markdown(rows) -> str:
    """The table as Markdown."""
    lines = ["| method | models | examples | largest difference | tolerance |"]
    lines.append("|---|---|---|---|---|")
    for name, models, examples, worst, tolerance, unit in rows:
        value = f"{worst:.1f}{unit}" if unit else f"{worst:.0e}"
        limit = "none" if tolerance is None else f"{tolerance:g}{unit}"
        lines.append(f"| {name} | {models} | {examples} | {value} | {limit} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where a difference is above its tolerance."""
    parser = argparse.ArgumentParser(prog="make parity", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="random models of each kind")
    parser.add_argument("--only", default="", help="a part of the names of methods")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    warnings.filterwarnings("ignore", module="captum")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (Captum draws from it)
    rows = run(options.seeds, options.only)
    packages = ("captum", "torch", "jax", "flax", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(f"Python {platform.python_version()}, {', '.join(versions)}\n")
    print(markdown(rows))
    bad = [name for name, _, _, worst, limit, _ in rows if limit is not None and not worst <= limit]
    print("", *(f"ABOVE ITS TOLERANCE: {name}" for name in bad), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
