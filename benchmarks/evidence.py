"""Maps of the labelled photographs, and what becomes of the score when they are believed."""

import functools
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import attrax
from attrax import metrics, paths, scores

from .maps import BLUR, SIZE, Effort, Method, Seen

PATCH = 14
GRID = SIZE // PATCH
RESAMPLES = 10_000

# ---------------------------------------------------------------------------------- programs


class Photos(NamedTuple):
    """Photographs and what belongs to each, with a leading axis of their number."""

    x: jax.Array
    label: jax.Array
    key: jax.Array
    place: jax.Array

    def part(self, first: int, count: int) -> "Photos":
        return jax.tree.map(lambda leaf: leaf[first : first + count], self)


Program = Callable[..., jax.Array]


def program(method: Method, module: nn.Module) -> Program:
    """`(variables, fresh, stage, photos, xs) -> (n, 224, 224)`, one photograph after another.

    Each has a network of its own: `variables`, where the layers of `walk` up to `stage` have the
    parameters of its row of `fresh`. At stage -1 that is the trained network.
    """

    def run(variables, fresh, stage, photos: Photos, xs) -> jax.Array:
        def one(where: tuple[Photos, Any]) -> jax.Array:
            photo, other = where
            mixed = metrics.randomised(variables, other, stage, order=walk(variables))
            rest = (photo.place + 1 + jnp.arange(len(xs) - 1)) % len(xs)
            return method.explain(Seen(module, mixed, photo.x, photo.label, photo.key, xs[rest]))

        return jax.lax.map(one, (photos, fresh))

    return jax.jit(attrax.for_cpu(run))


def walk(variables: Any) -> tuple[str, ...]:
    """The layers with parameters, from the output to the input."""
    blocks = [name for name in variables["params"] if name.startswith("block")]
    blocks.sort(key=lambda name: -int(name.removeprefix("block")))
    return ("classifier", "head_bn", "head", *blocks, "stem_bn", "stem")


def patches(pictures: jax.Array) -> jax.Array:
    """`(224, 224, ...)` as `(16, 16, 14, 14, ...)`."""
    _, _, *rest = pictures.shape
    return jnp.swapaxes(pictures.reshape(GRID, PATCH, GRID, PATCH, *rest), 1, 2)


@functools.partial(jax.jit, static_argnames="points")
def areas(model, photos: Photos, blurred, rankings, *, points: int) -> tuple[jax.Array, jax.Array]:
    """The areas under insertion and deletion, `(n,)` each, for rankings `(n, 16, 16)`."""

    def one(where: tuple[Photos, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        photo, start, ranking = where

        def fn(x: jax.Array) -> jax.Array:
            picture = jnp.swapaxes(x, 1, 2).reshape(SIZE, SIZE, 3)
            return scores.probability(photo.label)(model(picture))

        x = patches(photo.x)
        inserted = metrics.insertion_curve(
            fn, ranking, x, patches(start), steps=points, batch_size=1
        )
        deleted = metrics.deletion_curve(fn, ranking, x, steps=points, batch_size=1)
        return metrics.area(inserted), metrics.area(deleted)

    return jax.lax.map(one, (photos, blurred, rankings))


@jax.jit
def pooled(maps: jax.Array) -> jax.Array:
    """The sum over each patch: `(n, 224, 224)` to `(n, 16, 16)`."""
    return jax.vmap(lambda values: jnp.sum(patches(values), axis=(2, 3)))(maps)


@jax.jit
def correlations(maps: jax.Array, others: jax.Array) -> jax.Array:
    """The rank correlation of each map with its other."""
    return jax.lax.map(lambda both: metrics.rank_correlation(*both), (maps, others))


@jax.jit
def logits(model, xs: jax.Array) -> jax.Array:
    """`(n, 1000)`."""
    return jax.lax.map(model, xs)


@jax.jit
def speeds(model, xs: jax.Array, labels: jax.Array, nodes: jax.Array) -> jax.Array:
    """How fast the logit changes along the line from grey, `(n, nodes)`.

    What integrated gradients add up to is the integral of this: the gap needs no gradient.
    """

    def one(where: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, label = where

        def score(t: jax.Array) -> jax.Array:
            return scores.logit(label)(model(t * x))

        return jax.lax.map(lambda t: jax.jvp(score, (t,), (jnp.ones_like(t),))[1], nodes)

    return jax.lax.map(one, (xs, labels))


def centre_first(xs: jax.Array) -> jax.Array:
    """A map that knows nothing: photographers put the object in the middle."""
    place = jnp.arange(SIZE) - (SIZE - 1) / 2
    return jnp.broadcast_to(-jnp.hypot(place[:, None], place[None, :]), xs.shape[:3])


def edges_first(xs: jax.Array) -> jax.Array:
    """A map that knows the picture and not the network: where it changes most."""
    down, right = (jnp.gradient(xs, axis=axis) for axis in (1, 2))
    return jnp.sum(jnp.hypot(down, right), axis=-1)


# ------------------------------------------------------------------------------- measurements


class Interval(NamedTuple):
    """A mean over photographs, and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def interval(values: np.ndarray) -> Interval:
    """The mean of the photographs' numbers; the photographs are resampled with replacement."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


class Evidence(NamedTuple):
    """What one map shows: in each array one number for each photograph.

    `gap`: of completeness, over the change of the score. `signed`, `absolute`, `coarse`: the rank
    correlation with the map of a random network, as it is, of absolute values, of patches.
    """

    insertion: np.ndarray
    deletion: np.ndarray
    gap: np.ndarray | None = None
    signed: np.ndarray | None = None
    absolute: np.ndarray | None = None
    coarse: np.ndarray | None = None


class Measured(NamedTuple):
    """The evidence on every method, on rankings without a network, and on random ones."""

    methods: dict[str, Evidence]
    references: dict[str, Evidence]
    random_patches: list[Evidence]
    random_layers: list[Evidence]

    def chance(self, method: Method) -> Evidence:
        """What a ranking as coarse as the method's map gets by chance."""
        return mean_of(self.random_layers if method.layer else self.random_patches)


def mean_of(rankings: Sequence[Evidence]) -> Evidence:
    """The mean over several rankings of each photograph."""
    both = [e.insertion for e in rankings], [e.deletion for e in rankings]
    return Evidence(*(np.mean(areas, axis=0) for areas in both))


def load() -> tuple[nn.Module, Any, jax.Array, jax.Array]:
    """The network, its variables, the photographs `(n, 224, 224, 3)` and their labels.

    Raises:
        ImportError: a package is missing; the message is the `pip install` line.
    """
    examples = str(Path(__file__).parents[1] / "examples")
    if examples not in sys.path:
        sys.path.insert(0, examples)
    pretrained = importlib.import_module("pretrained")
    module, variables = pretrained.efficientnet_lite0()
    found = pretrained.labelled_photos()
    xs = jnp.stack([pretrained.preprocess(photo.image) for photo in found])
    return module, variables, xs, jnp.array([photo.label for photo in found])


def measure(effort: Effort, chosen: dict[str, Method]) -> Measured:
    """Explain the photographs, and judge the maps."""
    module, variables, xs, labels = load()
    model = attrax.for_cpu(attrax.from_linen(module, variables))
    n, size = effort.photos, effort.randomised
    for_methods, for_networks, for_rankings = jax.random.split(jax.random.key(0), 3)
    xs = xs[:n]
    photos = Photos(xs, labels[:n], jax.random.split(for_methods, n), jnp.arange(n))
    blurred = jax.vmap(lambda x: paths.blur(BLUR)(x)(0.0))(xs)
    fresh = jax.jit(lambda keys: jax.lax.map(lambda key: module.init(key, xs[0]), keys))(
        jax.random.split(for_networks, size)
    )

    def judged(rankings: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        found = areas(model, photos, blurred, rankings, points=effort.points)
        return tuple(np.asarray(area, np.float64) for area in found)

    changes = changes_of_score(logits(model, xs), logits(model, blurred), model, labels[:n])
    last = len(walk(variables)) - 1
    evidence = {}
    for name, method in chosen.items():
        start = time.perf_counter()
        explain = program(method, module)
        parts = [
            explain(variables, fresh, -1, photos.part(first, size), xs)
            for first in range(0, n, size)
        ]
        maps = jnp.concatenate(parts)
        mine, other = parts[0], explain(variables, fresh, last, photos.part(0, size), xs)
        alike = [
            correlations(mine, other),
            correlations(jnp.abs(mine), jnp.abs(other)),
            correlations(pooled(mine), pooled(other)),
        ]
        gap = None
        if method.start:
            total = np.asarray(jnp.sum(maps, axis=(1, 2)), np.float64)
            gap = np.abs(total - changes[method.start]) / np.abs(changes[method.start])
        alike = [np.asarray(found, np.float64) for found in alike]
        evidence[name] = Evidence(*judged(pooled(maps)), gap, *alike)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    references = {
        name: Evidence(*judged(pooled(maps)))
        for name, maps in {
            "the centre first": centre_first(xs),
            "edges first": edges_first(xs),
        }.items()
    }
    for_patches, for_layers = jax.random.split(for_rankings)
    count = (effort.rankings, n)
    fine = jax.random.uniform(for_patches, (*count, GRID, GRID))
    coarse = jax.random.uniform(for_layers, (*count, 7, 7))
    large = jax.jit(jax.vmap(lambda values: attrax.upsample(values, (SIZE, SIZE))))
    return Measured(
        evidence,
        references,
        [Evidence(*judged(rankings)) for rankings in fine],
        [Evidence(*judged(pooled(large(maps)))) for maps in coarse],
    )


def changes_of_score(
    sharp: jax.Array, blurred: jax.Array, model: attrax.Model, labels: jax.Array
) -> dict[str, np.ndarray]:
    """What a complete attribution adds up to, `(n,)`, by where it starts."""
    n = len(labels)
    sharp, blurred = (np.asarray(found, np.float64)[:, labels] for found in (sharp, blurred))
    grey = np.asarray(logits(model, jnp.zeros((1, SIZE, SIZE, 3)))[0], np.float64)[labels]
    own = np.diagonal(sharp)
    return {
        "grey": own - grey,
        "blurred": own - np.diagonal(blurred),
        "others": own - (sharp.sum(axis=0) - own) / (n - 1),
    }
