"""A whole dataset explained, stored, and looked at.

    python examples/dataset.py

A network learns the handwritten digits of scikit-learn, and integrated gradients explain what it
says about each of the 1797: a store on disk that can be stopped and resumed at any moment. Try it:
press Ctrl-C and run it again. Then the store is read back: which pixels speak for each class, over
all pictures, and which pictures are explained least like the others of their class. Writes
`out/digits.zarr` and `out/dataset.png`.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import attrax
import handwriting
from attrax import datasets, scores
from attrax.quadrature import gauss_legendre

CLASSES, TRAINING, STEPS, BATCH = 10, 1297, 400, 64
ADAM = optax.adam(2e-3)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures `(1797, 8, 8, 1)` from 0 to 1, and their labels.

    Raises:
        ImportError: scikit-learn is missing.
    """
    pictures, labels = handwriting.digits()
    return pictures[..., None].astype("float32"), labels.astype("int32")


class Network(nnx.Module):
    """Logits of one picture, through two convolutions."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4 * 4 * 32, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.gelu(self.second(nnx.gelu(self.first(x)))).ravel())


def train(images: np.ndarray, labels: np.ndarray, *, steps: int = STEPS) -> attrax.Model:
    """A network that has learned them; always the same one."""
    model: Any = attrax.from_nnx(Network(rngs=nnx.Rngs(0)))

    @jax.jit
    def step(model, state, xs, ys):
        def loss(model):
            logits = jax.vmap(model)(xs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, ys).mean()

        updates, state = ADAM.update(jax.grad(loss)(model), state, model)
        return jax.tree.map(jnp.add, model, updates), state

    state, rng = ADAM.init(model), np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(0, len(images), BATCH)
        model, state = step(model, state, images[chosen], labels[chosen])
    return model


def method(model: attrax.Model, image: jax.Array) -> dict[str, jax.Array]:
    """Integrated gradients of the class that the network says, and its probability."""
    logits = model(image)
    best = jnp.argmax(logits)
    attribution = attrax.integrated_gradients(
        lambda x: scores.logit(best)(model(x)), image, rule=gauss_legendre(16)
    )
    return {
        "attribution": attribution,
        "predicted": best,
        "probability": scores.probability(best)(logits),
    }


def explain(
    model: attrax.Model, images: np.ndarray, labels: np.ndarray, store: Path
) -> datasets.Results:
    """What the network says about every picture, and why."""
    return datasets.explain(
        jax.vmap(method, in_axes=(None, 0)),
        model,
        datasets.batches(images, BATCH, beside={"label": labels}),
        store=store,
        metadata={"classes": list(range(CLASSES)), "training": TRAINING},
        progress=True,
    )


def unusual(results: datasets.Results, digit: int) -> tuple[np.ndarray, int]:
    """The mean attribution of the pictures that are taken for a digit, and the least like it.

    Likeness is the cosine of the angle between the two attributions.
    """
    (found,) = np.nonzero(results["predicted"][:] == digit)
    maps = results["attribution"][found][..., 0]
    mean = maps.mean(axis=0)
    cosine = (maps * mean).sum((1, 2)) / np.linalg.norm(maps, axis=(1, 2))
    return mean, int(found[cosine.argmin()])


def draw(results: datasets.Results, images: np.ndarray) -> Figure:
    """A column for each digit: what speaks for it on the average, and its most unusual picture."""
    figure, axes = plt.subplots(3, CLASSES, figsize=(13, 4.8), layout="constrained")
    figure.suptitle("Integrated gradients: blue speaks for the answer, red against it")
    names = ("mean\nattribution", "most\nunusual", "and its\nattribution")
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(name)
    attributions, labels = results["attribution"], results["label"][:]
    for digit, column in enumerate(axes.T):
        mean, index = unusual(results, digit)
        column[0].set_title(f"says {digit}")
        own = attributions[index][..., 0]
        for ax, values in ((column[0], mean), (column[2], own)):
            limit = np.abs(values).max()
            ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
        column[1].imshow(images[index, ..., 0], cmap="gray_r")
        column[1].set_title(f"no. {index}: a {labels[index]}", size=9)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def main() -> None:
    """Train, explain, and read the store back."""
    images, labels = digits()
    model = train(images[:TRAINING], labels[:TRAINING])
    store = Path("out") / "digits.zarr"
    explain(model, images, labels, store)

    results = datasets.open(store)
    print(f"{store}: {len(results)} examples; " + ", ".join(sorted(results.arrays)))
    right = results["predicted"][:] == results["label"][:]
    print(f"right on {right[TRAINING:].mean():.1%} of the {len(right[TRAINING:])} not trained on")
    print(f"not finite: {results.not_finite}; unreadable: {results.unreadable}")
    print(f"a single one, read from disk: {results['attribution'][1234].shape}")
    file = Path("out") / "dataset.png"
    draw(results, images).savefig(file, dpi=120)
    print(file)


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        print(f"dataset: {error}", file=sys.stderr)
        sys.exit(2)
