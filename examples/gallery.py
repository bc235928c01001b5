"""The pages of attrax for real photographs and sentences, and an index of them.

    python examples/gallery.py
    python examples/gallery.py --photos coffee chelsea --pages dictionary channels
    python examples/gallery.py --image cat.jpg dog.jpg

For each photograph: semantic dictionaries of two layers of EfficientNet-Lite0, channel attribution
between the two most probable classes by three methods, attribution maps of three methods, spatial
attribution from the output and from layer to layer, neuron groups, and the activation grid; and for
sentences, tokens of MiniLM and of an LSTM whose weights were set by hand. Writes
`out/gallery/index.html`; each page is one file that opens by itself. The photographs are ten whose
licences allow showing them, or up to twenty of your own, or (`--labelled`) twenty to look at, not
to publish.

Sprites are kept in `out/sprites`, tiles of grids too: a run that is broken off goes on where it
stopped. Most of the time goes into them, half a second a sprite on a CPU core; a GPU draws a layer
in a few calls of the same program.
"""

import argparse
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import attrax
import explain_photo
import minilm
import pretrained
import report
import sprites
import text_sentiment
import toy_sentiment
from attrax import distributions, html, plot, scores, visualise
from attrax.quadrature import gauss_legendre, midpoint
from channel_attribution import channel_attributions
from explain_photo import Refusal, Stages

# Textures and parts of things, at 14 x 14 positions both; and things, at 7 x 7.
EARLY, LATE, LAST = "block6", "block10", "block15"
MOST_PHOTOS = 20
LIMIT = 3_000_000  # bytes of a page
NUM_GROUPS = 6
# Icons of groups and tiles of the activation grid: directions need fewer steps than channels.
GROUP_SIZE, TILE_SIZE, TILE_STEPS = 64, 48, 48
NODES, LINKS_AT_ONCE = 32, 7
UNITS = "logits"

# ----------------------------------------------------------------------------------- looking


class Inside(NamedTuple):
    """What one photograph does inside the network.

    Attributes:
        early: the activation of the early layer.
        late: that of the late one, `(h, w, C)`.
        channels: of the late layer, attributions to the contrast of the two classes, `(C,)` each.
        gradients: of each class at the late layer, averaged on the way from no activation to it,
            `(2, h, w, C)`.
        methods: maps of the late layer for the first class, `(h, w)` or `(h, w, C)` each.
        positions: of the last layer, what they add to each class, `(2, h2, w2)`.
        links: what those draw on in the late layer, `(h2, w2, h, w)`.
    """

    early: Any
    late: Any
    channels: dict[str, Any]
    gradients: Any
    methods: dict[str, Any]
    positions: Any
    links: Any


def links_between(model: Any, z: jax.Array, at: str) -> jax.Array:
    """What each position of a layer draws on at each position of `z`: `(h2, w2, h1, w1)`.

    `sum_c z[p, q, c] d|b[i, j]| / d z[p, q, c]`, b the activation of the layer `at`
    """
    lengths, pull = jax.vjp(lambda z: jnp.linalg.norm(attrax.capture(model, z, at=at), axis=-1), z)
    one_each = jnp.eye(lengths.size).reshape(-1, *lengths.shape)
    rows = jax.lax.map(
        lambda one: attrax.positions(z * pull(one)[0]), one_each, batch_size=LINKS_AT_ONCE
    )
    return rows.reshape(*lengths.shape, *z.shape[:-1])


def mean_gradients(model: Any, z: jax.Array, classes: jax.Array) -> jax.Array:
    """The gradient of each logit, averaged from no activation to `z`: `(classes, *z.shape)`.

    Times `z` it is integrated gradients.
    """
    rule = gauss_legendre(NODES)
    return jax.vmap(
        lambda c: attrax.influence(
            lambda z: scores.logit(c)(model(z)), z, distributions.linear(), rule=rule
        )
    )(classes)


def _look_inside(model: Any, x: jax.Array, classes: jax.Array, key: jax.Array) -> Inside:
    early, rest = attrax.cut(model, x, at=EARLY)
    late, tail = attrax.cut(rest, early, at=LATE)
    last, head = attrax.cut(tail, late, at=LAST)
    contrast, first = scores.contrast(classes[0], classes[1]), scores.logit(classes[0])
    gradients = mean_gradients(tail, late, classes)
    return Inside(
        early,
        late,
        channel_attributions(lambda z: contrast(tail(z)), late, key=key),
        gradients,
        {
            "Gradient times activation": attrax.gradient_times_input(
                lambda z: first(tail(z)), late
            ),
            "Integrated gradients": late * gradients[0],
            "LayerCAM": attrax.layer_cam(lambda z: first(tail(z)), late),
        },
        attrax.positions(last[None] * mean_gradients(head, last, classes)),
        links_between(tail, late, LAST),
    )


# Compiled once: the classes are arguments.
look_inside = jax.jit(attrax.for_cpu(_look_inside))


class Photo(NamedTuple):
    """A photograph of the gallery."""

    name: str  # of its folder
    image: Image.Image
    credit: str


class Subject(NamedTuple):
    """A photograph, all that was found out about it, and where its pictures are kept."""

    photo: Photo
    view: np.ndarray
    classes: tuple[str, str]  # the two most probable
    probabilities: tuple[float, float]
    inside: Inside
    sprites: dict[str, dict[int, np.ndarray]]  # by layer and channel
    model: Any
    stages: Stages
    options: argparse.Namespace

    @property
    def alt(self) -> str:
        return f"The photograph “{self.photo.name}”, cropped as the network sees it"

    @property
    def credit(self) -> str:
        return f"Photograph: {self.photo.credit}; cropped."


def look(stages: Stages, model: Any, photo: Photo, options: argparse.Namespace) -> Subject:
    """One photograph; its sprites are drawn later, for all photographs at once."""
    x = jnp.asarray(pretrained.preprocess(photo.image))
    probabilities = np.asarray(jax.nn.softmax(explain_photo.predict(model, x)))
    first, second = (int(i) for i in np.argsort(-probabilities)[:2])
    names = pretrained.labels()
    side = explain_photo.VIEW
    inside = look_inside(model, x, jnp.array([first, second]), jax.random.key(0))
    return Subject(
        photo,
        np.asarray(pretrained.crop(photo.image).resize((side, side), Image.Resampling.BICUBIC)),
        (names[first], names[second]),
        (float(probabilities[first]), float(probabilities[second])),
        jax.device_get(inside),
        {},
        model,
        stages,
        options,
    )


def kept(
    subject: Subject, variant: str, recipe: dict[str, Any], draw: Callable[[Path], np.ndarray]
) -> np.ndarray:
    """Pictures from the registry, or drawn and put there: `(n, H, W, 3)`.

    Args:
        subject: the photograph that they belong to.
        variant: what of the layer they show.
        recipe: how they are made; others are not taken for them.
        draw: makes them, and keeps those that are finished in the store it is given.
    """
    folder, variant = subject.options.sprites, f"{variant} of {subject.photo.name}"
    recipe |= {"activation": zlib.crc32(subject.inside.late.tobytes())}
    if (sprites.MODEL, LATE, variant) in visualise.spritemaps(folder):
        found = visualise.load_spritemap(folder, sprites.MODEL, LATE, variant)
        if found.recipe == recipe:
            return found.sprites
    file = visualise.spritemap_file(folder, sprites.MODEL, LATE, variant)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(
        f"unfinished-{zlib.crc32(repr((variant, recipe)).encode()):08x}.zarr"
    )
    images = draw(unfinished)
    visualise.Spritemap(images, sprites.MODEL, LATE, variant, recipe=recipe).save(folder)
    shutil.rmtree(unfinished)
    return images


def direction(z: jax.Array, vector: jax.Array) -> jax.Array:
    """The objective of groups and positions: their direction, and little else."""
    return visualise.cosine_direction(z, vector, 2.0)


# ------------------------------------------------------------------------------------- pages


def caption(subject: Subject, title: str = "", *, layer: str = "", units: str = "") -> html.Caption:
    """What is written on every page of a photograph."""
    return html.Caption(title, subject.alt, subject.credit, layer=layer, units=units)


def dictionary(subject: Subject) -> dict[str, html.Page]:
    """Semantic dictionaries of both layers."""
    layers = {EARLY: subject.inside.early, LATE: subject.inside.late}
    return {
        f"Semantic dictionary, {layer}": report.dictionary_page(
            z, subject.view, subject.sprites[layer], caption(subject, layer=layer)
        )
        for layer, z in layers.items()
    }


def channels(subject: Subject) -> dict[str, html.Page]:
    """Channel attribution between the two classes, by three methods."""
    first, second = subject.classes
    page = report.channel_page(
        subject.inside.channels,
        subject.view,
        subject.sprites[LATE],
        (f"for {first}", f"for {second}"),
        caption(subject, f"Why “{first}” rather than “{second}”?", layer=LATE),
    )
    return {"Channel attribution": page}


def maps(subject: Subject) -> dict[str, html.Page]:
    """Where the most probable class is, by three methods at the late layer."""
    first = subject.classes[0]
    page = html.attribution_maps(
        subject.inside.methods,
        subject.view,
        classes=(f"for {first}", f"against {first}"),
        caption=caption(subject, f"Where {LATE} sees “{first}”"),
    )
    return {"Attribution maps": page}


def spatial(subject: Subject) -> dict[str, html.Page]:
    """Which positions speak for each class, and what positions draw on layer to layer."""
    page = html.spatial_attribution(
        subject.inside.links,
        subject.view,
        outputs=dict(zip(subject.classes, subject.inside.positions, strict=True)),
        layers=(LATE, LAST),
        caption=caption(subject, f"Where “{subject.classes[0]}” comes from"),
    )
    return {"Spatial attribution": page}


def groups(subject: Subject) -> dict[str, html.Page]:
    """The neurons of the late layer in six groups, each with its sprite and its attributions.

    What is factorised is the positive part of the activations; what negative ones add to a score
    is in none of the groups.
    """
    found = visualise.neuron_groups(
        jnp.maximum(subject.inside.late, 0), NUM_GROUPS, key=jax.random.key(0)
    )
    steps = subject.options.tile_steps
    draw = sprites.draw(LATE, GROUP_SIZE, steps, direction)

    def drawn(store: Path) -> np.ndarray:
        return visualise.sprites(
            draw, subject.model, found.channels, key=jax.random.key(0), store=store
        )

    recipe = {"size": GROUP_SIZE, "steps": steps, "groups": NUM_GROUPS}
    positive = 100 * np.mean(subject.inside.late > 0)
    effects = np.einsum("khw,kc,nhwc->nk", *found, subject.inside.gradients)
    page = html.neuron_groups(
        found.positions,
        subject.view,
        kept(subject, "group", recipe, drawn),
        attributions=dict(zip(subject.classes, effects, strict=True)),
        caption=caption(
            subject,
            f"{LATE} in {NUM_GROUPS} groups of neurons",
            layer=f"{LATE} (its positive activations, {positive:.0f} % of all)",
            units=UNITS,
        ),
    )
    return {"Neuron groups": page}


def grid(subject: Subject) -> dict[str, html.Page]:
    """The photograph redrawn as what each position of the late layer sees."""
    z, steps = subject.inside.late, subject.options.tile_steps
    draw = sprites.draw(LATE, TILE_SIZE, steps, direction)

    def tiles(store: Path) -> np.ndarray:
        title = f"activation grid of {subject.photo.name}"
        with subject.stages.counted(title, z.shape[0] * z.shape[1]) as progress:
            found = visualise.activation_tiles(
                draw,
                subject.model,
                jnp.asarray(z),
                key=jax.random.key(0),
                store=store,
                progress=progress,
            )
        return found.reshape(-1, *found.shape[2:])

    found = kept(subject, "position", {"size": TILE_SIZE, "steps": steps}, tiles)
    page = html.activation_grid(
        z,
        subject.view,
        found.reshape(*z.shape[:2], *found.shape[1:]),
        subject.sprites[LATE],
        caption=caption(subject, f"The picture as {LATE} sees it", layer=LATE),
    )
    return {"Activation grid": page}


PAGES = {
    "dictionary": dictionary,
    "channels": channels,
    "maps": maps,
    "spatial": spatial,
    "groups": groups,
    "grid": grid,
}
TOKENS = "tokens"  # not of a photograph
# The pages that show sprites of a layer.
SPRITES = {EARLY: {"dictionary"}, LATE: {"dictionary", "channels", "grid"}}


# -------------------------------------------------------------------------------------- text


def review_texts() -> list[attrax.text.Text]:
    """Sentences about films, what each word says for MiniLM, in logits of a positive one."""
    tokenizer = minilm.Tokenizer.load()
    model, _ = text_sentiment.trained(tokenizer)
    ids, mask = tokenizer.batch(text_sentiment.SENTENCES)
    explain = jax.jit(
        lambda model, *texts: jax.vmap(lambda *one: text_sentiment.explain(model, *one))(*texts)
    )
    found = explain(model, ids, mask, text_sentiment.without_words(ids, tokenizer))
    texts = []
    for i, length in enumerate(mask.sum(axis=1).tolist()):
        words = slice(1, length - 1)  # between [CLS] and [SEP], which the baseline has too
        texts.append(
            attrax.text.Text(
                tokenizer.decode(ids[i])[words],
                np.asarray(found.attributions[i])[words],
                prediction="positive" if found.score[i] > 0 else "negative",
            )
        )
    return texts


def toy_texts() -> list[attrax.text.Text]:
    """Random sentences of three words, what each says for every class of the LSTM."""
    model = attrax.from_linen(*toy_sentiment.toy_sentiment())
    start = jnp.asarray(toy_sentiment.START, jnp.float32)
    ids, truth = toy_sentiment.sentences(5, 5, key=jax.random.key(30))
    explain = jax.jit(
        lambda model, ids: jax.vmap(
            lambda ids: toy_sentiment.explain(model, ids, start, rule=midpoint(8192))
        )(ids)
    )
    found = jax.device_get(explain(model, ids))
    return [
        attrax.text.Text(
            toy_sentiment.decode(ids[i]),
            found["words"][i],
            toy_sentiment.CLASSES[int(truth[i])],
            toy_sentiment.CLASSES[int(found["probability"][i].argmax())],
        )
        for i in range(len(ids))
    ]


def text_items(out: Path, save: Callable[[html.Page, Path], None]) -> list[html.Item]:
    """The pages of texts, saved, and their cards."""
    reviews, toys, classes = review_texts(), toy_texts(), toy_sentiment.CLASSES
    pages = {
        "reviews.html": html.tokens(
            reviews,
            spelling=attrax.text.word_pieces,
            units=UNITS,
            title="Which words make a review positive?",
        ),
        "toy.html": html.tokens(
            toys, classes=classes, units="probability", title="Which words does the LSTM read?"
        ),
    }
    for file, page in pages.items():
        save(page, out / file)
    return [
        html.Item(
            _thumbnail(reviews[0], spelling=attrax.text.word_pieces, columns=22),
            {"Tokens": "reviews.html"},
            title="Film reviews",
            text="MiniLM with a head trained on 1,500 sentences",
            alt="A sentence with its words coloured by their attribution",
        ),
        html.Item(
            _thumbnail(toys[-1], classes=classes, columns=38),
            {"Tokens of every class": "toy.html"},
            title="A toy LSTM",
            text="Its weights were set by hand: everybody sees what it should look at",
            alt="A sentence of three words, coloured once for every class",
        ),
    ]


def _thumbnail(text: attrax.text.Text, **options: Any) -> np.ndarray:
    """A text as a square picture."""
    figure = Figure(figsize=(4, 4), dpi=160, layout="constrained")
    plot.tokens(text, ax=figure.subplots(), **options)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


# ----------------------------------------------------------------------------------- the job


def photos(options: argparse.Namespace) -> list[Photo]:
    """The photographs that were asked for."""
    if options.image:
        found = [
            Photo(path.stem, explain_photo.read_image(path).convert("RGB"), "your own")
            for path in options.image
        ]
        if len({photo.name for photo in found}) < len(found):
            raise Refusal("--image: the files must have different names.")
    elif options.labelled:
        names = pretrained.labels()
        found = [
            Photo(
                f"{i:02d} {names[photo.label]}",
                Image.fromarray(photo.image),
                "to look at, not to publish",
            )
            for i, photo in enumerate(pretrained.labelled_photos())
        ]
    else:
        known = {photo.name: photo for photo in pretrained.credited_photos()}
        for name in options.photos or ():
            explain_photo.choose("--photos", name, list(known))
        found = [
            Photo(name, Image.fromarray(known[name].image), known[name].credit)
            for name in dict.fromkeys(options.photos or known)
        ]
    if len(found) > MOST_PHOTOS:
        raise Refusal(f"--image: at most {MOST_PHOTOS} photographs; got {len(found)}.")
    return found


def make(options: argparse.Namespace) -> dict[Path, int]:
    """Make the gallery; the bytes of every page."""
    kinds = options.pages or [*PAGES, TOKENS]
    for kind in kinds:
        explain_photo.choose("--pages", kind, [*PAGES, TOKENS])
    if min(options.sprite_steps, options.tile_steps) < 1:
        raise Refusal("--sprite-steps and --tile-steps must be at least 1.")
    found = photos(options)
    sizes: dict[Path, int] = {}

    def save(page: html.Page, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        sizes[file] = page.save(file).stat().st_size

    items, texts = [], []
    with Stages() as stages:
        if TOKENS in kinds:  # first, for it needs more packages than the others
            with stages.stage("texts"):
                texts = text_items(options.out, save)
        if any(kind in PAGES for kind in kinds):
            model = attrax.from_linen(*pretrained.efficientnet_lite0())
            subjects = []
            with stages.stage(f"looking at {len(found)} photographs", len(found)) as advance:
                for photo in found:
                    subjects.append(look(stages, model, photo, options))
                    advance(1)
            wanted = {
                EARLY: {c for s in subjects for c in report.shown_channels(s.inside.early, {})},
                LATE: {
                    c
                    for s in subjects
                    for c in report.shown_channels(s.inside.late, s.inside.channels)
                },
            }
            tiles = {
                layer: explain_photo.draw_sprites(
                    stages, model, layer, options.sprites, channels, steps=options.sprite_steps
                )
                for layer, channels in wanted.items()
                if SPRITES[layer] & set(kinds)
            }
            for subject in subjects:
                items.append(card(subject._replace(sprites=tiles), kinds, options.out, save))
    text = "Every link is one file that opens by itself."
    if items:
        text = f"EfficientNet-Lite0 with its ImageNet weights, at {EARLY} and {LATE}. {text}"
    save(
        html.gallery([*items, *texts], title="What networks see", text=text),
        options.out / "index.html",
    )
    return sizes


def card(
    subject: Subject, kinds: Sequence[str], out: Path, save: Callable[[html.Page, Path], None]
) -> html.Item:
    """The pages of a photograph, saved, and its card on the index."""
    links = {}
    for kind in kinds:
        if kind in PAGES:
            for title, page in PAGES[kind](subject).items():
                file = f"{title.lower().replace(', ', '-').replace(' ', '-')}.html"
                links[title] = f"{subject.photo.name}/{file}"
                save(page, out / links[title])
    chances = ", ".join(
        f"{name} {100 * probability:.0f} %"
        for name, probability in zip(subject.classes, subject.probabilities, strict=True)
    )
    return html.Item(
        subject.view,
        links,
        title=subject.photo.name,
        text=f"{chances}. {subject.credit}",
        alt=subject.alt,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the gallery, and print how large its pages are."""
    parser = argparse.ArgumentParser(description="Pages of real photographs, with an index.")
    add = parser.add_argument
    add("--photos", nargs="+", metavar="NAME", help="some of the photographs that come along")
    add("--image", nargs="+", type=Path, metavar="FILE", help="your own in their place")
    add("--labelled", action="store_true", help="twenty photographs of foolbox in their place")
    add("--pages", nargs="+", metavar="KIND", help=f"of {', '.join([*PAGES, TOKENS])}")
    add("--sprite-steps", type=int, default=sprites.STEPS, help="of a sprite; %(default)s")
    add("--tile-steps", type=int, default=TILE_STEPS, help="of groups and tiles; %(default)s")
    add("--sprites", type=Path, default=Path("out") / "sprites", help="registry; %(default)s")
    add("--out", type=Path, default=Path("out") / "gallery", help="%(default)s")
    options = parser.parse_args(arguments)
    try:
        sizes = make(options)
    except (Refusal, ImportError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    largest = max(sizes, key=lambda file: sizes[file])
    print(
        f"{options.out / 'index.html'}: {len(sizes)} pages, "
        f"{sum(sizes.values()) / 1e6:.1f} MB; the largest, {largest}, {sizes[largest] / 1e6:.2f} MB"
    )
    if sizes[largest] > LIMIT:
        print(f"gallery: a page must stay below {LIMIT / 1e6:.0f} MB.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
