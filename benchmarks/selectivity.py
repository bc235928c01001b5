"""Whether a sprite shows what its channel looks for, by the answers of all channels."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attrax
from attrax import visualise

from . import network
from .report import Claim, Table, main

VIEWS = 8
SHARE = 0.9
TOP = 0.01


def held_out(key: jax.Array, image: jax.Array) -> jax.Array:
    """A view of a sprite by transforms that no sprite was made with.

    A mirrored border in place of a grey one, sizes and turns between and beyond those of
    `visualise.STANDARD`, less contrast, another brightness, and noise.
    """
    warp, contrast, brightness, noise = jax.random.split(key, 4)
    view = visualise.compose(
        visualise.reflect(12),
        visualise.affine([0.87, 0.93, 1.07, 1.15, 1.2], [-13.5, -7.5, 7.5, 13.5]),
        visualise.jitter(8),
    )(warp, image)
    gain = jax.random.uniform(contrast, (), minval=0.6, maxval=0.9)
    shift = jax.random.uniform(brightness, (), minval=-0.1, maxval=0.1)
    view = 0.5 + gain * (view - 0.5) + shift + 0.04 * jax.random.normal(noise, view.shape)
    return jnp.clip(view, 0, 1)


def crops(pretrained: Any, side: int) -> jax.Array:
    """Windows of natural photographs, in [0, 1], of the size of the views: nine of each."""
    pictures = [pretrained.photo(name) for name in ("chelsea", "coffee", "motorcycle", "rocket")]
    pictures += [photo.image for photo in pretrained.labelled_photos()]
    pictures += [photo.image for photo in pretrained.cat_photos()]
    windows = []
    for picture in pictures:
        image = pretrained.display(pretrained.preprocess(picture))
        for top in np.linspace(0, len(image) - side, 3).astype(int):
            for left in np.linspace(0, len(image) - side, 3).astype(int):
                windows.append(image[top : top + side, left : left + side])
    return jnp.asarray(np.stack(windows))


def ranks(
    answers: np.ndarray, natural: np.ndarray, channels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The place of each sprite's own channel among all of the layer, and its z-score.

    Args:
        answers: `(sprites, C)`, how strongly each channel answers to each sprite.
        natural: `(photographs, C)`.
        channels: of the sprites.

    Returns:
        `(sprites,)` twice; place 1 is the strongest z-score of all channels.
    """
    scores = (answers - natural.mean(axis=0)) / natural.std(axis=0)
    own = scores[np.arange(len(answers)), list(channels)]
    return 1 + np.sum(scores > own[:, None], axis=1), own


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    net = network.load()
    pretrained = importlib.import_module("pretrained")
    recipe = importlib.import_module("sprites")
    side = recipe.SIZE + 24 - 8
    photographs = crops(pretrained, side)
    rows, hits, total, raw = [], 0, 0, {}
    for layer in recipe.LAYERS:
        count = recipe.number_of_channels(net.model, layer)
        rng = np.random.default_rng(0)
        channels = np.sort(rng.choice(count, 4 if quick else count, replace=False))
        images = visualise.sprites(
            recipe.draw(layer),
            net.model,
            jnp.asarray(channels),
            key=jax.random.key(1),
            batch_size=recipe.BATCH_SIZE,
        )

        @jax.jit
        def answer(model: attrax.Model, image: jax.Array, layer: str = layer) -> jax.Array:
            return jnp.mean(attrax.capture(model, recipe.prepare(image), at=layer), axis=(0, 1))

        @jax.jit
        def seen(model: attrax.Model, image: jax.Array, answer: Any = answer) -> jax.Array:
            keys = jax.random.split(jax.random.key(2), VIEWS)
            return jnp.mean(
                jax.lax.map(lambda key: answer(model, held_out(key, image)), keys), axis=0
            )

        natural = np.stack([answer(net.model, crop) for crop in photographs])
        shown = jnp.asarray(images, jnp.float32) / 255
        answers = np.stack([seen(net.model, image) for image in shown])
        noise = jax.random.uniform(jax.random.key(3), shown.shape)
        control = np.stack([seen(net.model, image) for image in noise])
        place, own = ranks(answers, natural, channels)
        chance, _ = ranks(control, natural, channels)
        limit = max(1, int(TOP * count))
        hits, total = hits + int(np.sum(place <= limit)), total + len(channels)
        rows.append(
            [
                layer,
                count,
                len(channels),
                float(np.mean(place <= limit)),
                limit,
                float(np.median(own)),
                int(place.max()),
                float(np.mean(chance <= limit)),
            ]
        )
        raw[layer] = {
            "channels": channels.tolist(),
            "place": place.tolist(),
            "z": own.round(2).tolist(),
        }
    return [
        Table(
            name="selectivity",
            title="Selectivity of sprites, EfficientNet-Lite0",
            caption=(
                f"{'Four channels of each layer' if quick else 'All channels'}, their sprites "
                f"({recipe.SIZE} pixels, {recipe.STEPS} steps) seen in {VIEWS} views by "
                "transforms that the optimisation did not use. All channels of the layer answer, "
                "each by its mean over positions; the answers are compared as z-scores against "
                f"windows of natural photographs ({len(photographs)} of them). The top 1 % of few "
                "channels is the first place."
            ),
            columns=[
                ("layer", ""),
                ("channels", "d"),
                ("sampled", "d"),
                ("own channel in top 1 %", ".0%"),
                ("top 1 % is place", "d"),
                ("median z", ".1f"),
                ("worst place", "d"),
                ("noise images", ".0%"),
            ],
            rows=rows,
            claims=[
                Claim("share of sprites in the top 1 %", hits / total, at_least=SHARE),
            ],
            raw=raw,
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
