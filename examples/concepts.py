"""Does the class *zebra* look for stripes? Concepts tested on a pretrained network (TCAV).

    python examples/concepts.py

A concept is given by pictures: crops of photographs with stripes painted over them, with dots, in
green, and, as a concept that should mean nothing to the network, mirrored. Logistic regression
tells the channels of `block14` in such pictures from those in crops as they are. The normal
of its plane is the direction of the concept, and the TCAV score of a class is the fraction of
photographs whose logit grows along it. The p-value compares twenty such fits with twenty fits of
plain crops against other plain crops, and is multiplied by the number of tests.

Two things are not as in the paper. No photographs of zebras come with the packages, so that
the logit is differentiated at 28 photographs of other things: would stripes make this more
of a zebra? And every fit has pictures of its own, of the concept too. If all fits shared one set of
pictures they would agree about its accidents: of 1,000 tests of concepts without meaning 38 % are
then significant (p < 0.05 without correction), and 2 % in this way.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import attrax
import pretrained
from attrax import scores

LAYER = "block14"
CLASSES = ("zebra", "ladybug", "cucumber")
FITS, EXAMPLES = 20, 12  # independent fits, and pictures on each side of one
SIZE = 112  # Channel means hardly depend on the size of a picture; its cost does.


# ---------------------------------------------------------------------------------- pictures


def photographs() -> list[np.ndarray]:
    """28 photographs, uint8 (h, w, 3)."""
    labelled = pretrained.labelled_photos() + pretrained.cat_photos()
    names = ("chelsea", "coffee", "motorcycle", "rocket")
    return [photo.image for photo in labelled] + [pretrained.photo(name) for name in names]


def crop(photos: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A random square of a random photograph, (SIZE, SIZE, 3) in [0, 1]."""
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    side = int(rng.uniform(0.35, 0.8) * min(height, width))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = Image.fromarray(photo[top : top + side, left : left + side])
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255


def _painted(picture: np.ndarray, dark: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pattern of a dark and a light colour over a picture that shines through."""
    colours = [np.clip(rng.uniform(*shades) + rng.uniform(-0.1, 0.1, 3), 0, 1) for shades in SHADES]
    pattern = dark[..., None] * colours[0] + (1 - dark[..., None]) * colours[1]
    return 0.25 * picture + 0.75 * pattern


SHADES = ((0.0, 0.35), (0.65, 1.0))
_ROWS, _COLUMNS = np.mgrid[:SIZE, :SIZE]


def striped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wavy stripes of any direction."""
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(16, 48), rng.uniform(0, 2 * np.pi)
    along = _ROWS * np.cos(angle) - _COLUMNS * np.sin(angle)
    across = _COLUMNS * np.cos(angle) + _ROWS * np.sin(angle)
    across = across + rng.uniform(0, 8) * np.sin(along / rng.uniform(10, 30))
    wave = np.sin(2 * np.pi * across / period + phase)
    return _painted(picture, 1 / (1 + np.exp(-6 * wave)), rng)


def dotted(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round dots, roughly on a grid."""
    cell = rng.uniform(28, 56)
    centres = np.arange(0, SIZE + cell, cell)
    dark = np.zeros((SIZE, SIZE))
    for row in centres:
        for column in centres:
            y, x = np.array([row, column]) + rng.uniform(-0.25, 0.25, 2) * cell
            beyond = np.hypot(_ROWS - y, _COLUMNS - x) - rng.uniform(0.2, 0.35) * cell
            dark = np.maximum(dark, 1 / (1 + np.exp(np.minimum(beyond, 50))))
    return _painted(picture, dark, rng)


def green(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture in shades of green."""
    colour = rng.uniform((0.1, 0.6, 0.0), (0.3, 1.0, 0.2))
    brightness = picture.mean(-1, keepdims=True)
    return 0.25 * picture + 0.75 * (0.3 + 0.7 * brightness) * colour


def mirrored(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with left and right exchanged."""
    return picture[:, ::-1]


CONCEPTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "striped": striped,
    "dotted": dotted,
    "green": green,
    "mirrored": mirrored,
}


# ---------------------------------------------------------------------------------- directions


@jax.jit
def _channel_means(model: attrax.Model, xs: jax.Array) -> jax.Array:
    layer = jax.vmap(lambda x: attrax.capture(model, x, at=LAYER))(xs)
    return jnp.mean(layer, axis=(1, 2))


def activations(model: attrax.Model, pictures: list[np.ndarray], batch: int = 20) -> np.ndarray:
    """The channels of `LAYER`, averaged over positions: (pictures, channels)."""
    xs = (255 * np.clip(pictures, 0, 1).astype(np.float32) - 127) / 128
    parts = [_channel_means(model, xs[i : i + batch]) for i in range(0, len(xs), batch)]
    return np.concatenate(parts)


class Fit(NamedTuple):
    """A concept as a direction of channels, of length 1, and how well it tells new pictures."""

    direction: np.ndarray
    accuracy: float


def fit(concept: np.ndarray, others: np.ndarray, new: tuple[np.ndarray, np.ndarray]) -> Fit:
    """The direction towards a concept, by logistic regression.

    Args:
        concept: activations of pictures of the concept, (n, channels).
        others: those of other pictures, (m, channels).
        new: activations of both kinds that the fit has not seen.

    Raises:
        ImportError: scikit-learn is missing; the message is the `pip install` line.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(
            "Directions of concepts are fitted with scikit-learn: pip install scikit-learn"
        ) from error

    def labelled(concept: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([concept, others]), np.repeat([1, 0], [len(concept), len(others)])

    scaler, classifier = StandardScaler(), LogisticRegression()
    pipeline = make_pipeline(scaler, classifier).fit(*labelled(concept, others))
    direction = classifier.coef_[0] / np.asarray(scaler.scale_)
    accuracy = float(pipeline.score(*labelled(*new)))
    return Fit((direction / np.linalg.norm(direction)).astype(np.float32), accuracy)


def fits(concept: np.ndarray, others: np.ndarray) -> list[Fit]:
    """One fit for each set of pictures, (sets, pictures, channels), judged by the next set."""
    following = np.roll(np.arange(len(concept)), -1)
    return [fit(concept[i], others[i], (concept[j], others[j])) for i, j in enumerate(following)]


# ------------------------------------------------------------------------------ sensitivities


@jax.jit
def channel_gradients(model: attrax.Model, xs: jax.Array, classes: jax.Array) -> jax.Array:
    """The gradient of each class at `LAYER`, summed over positions: (classes, pictures, channels).

    Its product with a direction is `attrax.concepts.concept_sensitivity` along that direction at
    every position. One backward pass for all directions.
    """

    def of_one(x: jax.Array) -> jax.Array:
        z, tail = attrax.cut(model, x, at=LAYER)
        slope = lambda i: attrax.gradient(lambda z: scores.logit(i)(tail(z)), z)  # noqa: E731
        return jax.vmap(lambda i: attrax.channels(slope(i)))(classes)

    return jnp.swapaxes(jax.lax.map(of_one, xs), 0, 1)


@jax.jit
def tcav_scores(gradients: jax.Array, directions: jax.Array) -> jax.Array:
    """(classes, pictures, channels) and (fits, channels) to the score of each: (classes, fits)."""
    sensitivities = jnp.einsum("npc,fc->nfp", gradients, directions)
    return jax.vmap(jax.vmap(attrax.concepts.tcav_score))(sensitivities)


# --------------------------------------------------------------------------------------- table


class Result(NamedTuple):
    """What the fits of one concept say of each class."""

    accuracy: float
    scores: jax.Array  # (classes, fits)
    p_values: jax.Array | None  # (classes,), corrected; None for the random concepts themselves


def concept_results(
    model: attrax.Model, photos: list[np.ndarray], *, seed: int = 0
) -> dict[str, Result]:
    """Each concept's scores for `CLASSES` at all photographs, and those of random concepts."""
    rng = np.random.default_rng(seed)

    def sets(paint: Callable[..., np.ndarray] = lambda picture, rng: picture) -> np.ndarray:
        pictures = [paint(crop(photos, rng), rng) for _ in range(FITS * EXAMPLES)]
        return activations(model, pictures).reshape(FITS, EXAMPLES, -1)

    plain = sets()
    found = {"random": fits(sets(), plain)}
    found |= {name: fits(sets(paint), plain) for name, paint in CONCEPTS.items()}
    classes = jnp.array([pretrained.class_index(name) for name in CLASSES])
    xs = np.stack([pretrained.preprocess(photo) for photo in photos])
    gradients = channel_gradients(model, xs, classes)

    values = {
        name: tcav_scores(gradients, np.stack([fit.direction for fit in list_of]))
        for name, list_of in found.items()
    }
    tests = len(CONCEPTS) * len(CLASSES)
    p_value = jax.jit(jax.vmap(lambda a, b: attrax.concepts.tcav_significance(a, b).p_value))
    results = {}
    for name, list_of in found.items():
        accuracy = float(np.mean([fit.accuracy for fit in list_of]))
        p_values = None
        if name != "random":
            p_values = jnp.minimum(1, tests * p_value(values[name], values["random"]))
        results[name] = Result(accuracy, values[name], p_values)
    return results


def table(results: dict[str, Result]) -> str:
    """One row for each concept, one column for each class."""
    head = "concept   accuracy  " + "".join(f"{name:28s}" for name in CLASSES)
    lines = [head.rstrip()]
    for name, result in results.items():
        cells = []
        for i, values in enumerate(np.asarray(result.scores)):
            cell = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
            if result.p_values is not None:
                p = float(result.p_values[i])
                cell += f"  p = {p:.1g} {'*' if p < 0.05 else ''}"
            cells.append(f"{cell:28s}")
        lines.append(f"{name:10s}{result.accuracy:8.2f}  {''.join(cells)}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Print what the concepts mean to the classes."""
    photos = photographs()
    model = attrax.from_linen(*pretrained.efficientnet_lite0())
    print(
        f"TCAV scores at {LAYER}: for which fraction of {len(photos)} photographs the logit of a "
        f"class grows\nalong the direction of a concept; mean and spread of {FITS} fits. "
        "* significantly unlike a random concept.\n"
    )
    print(table(concept_results(model, photos)))


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"concepts: {error}", file=sys.stderr)
        sys.exit(2)
