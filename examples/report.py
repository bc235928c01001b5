"""What `explain_photo` found, as pictures and as one self-contained page."""

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import attrax
from attrax import html, plot

SHOWN_CHANNELS = 5  # at each end of a ranking
STRONGEST_CHANNELS, CHANNELS_A_SIDE = 4, 6  # at each position, and of each attribution
PREVIEW = 6  # sprites beside the link to a page
_UNITS = "logits"
LARGE_GAP = 0.05  # of the change of the score
_CROP = 96  # pixels
_TEMPLATE = "report.html.jinja"


class Attribution(NamedTuple):
    """The parts of a score at one place of a network, and how far they add up to its change."""

    place: str  # "the pixels", or the name of a layer
    rule: str
    nodes: int
    values: np.ndarray
    score: float  # at the photograph
    gap: float

    @property
    def total(self) -> float:
        return float(self.values.sum(dtype=np.float64))

    @property
    def change(self) -> float:
        """Of the score, from the baseline to the photograph."""
        return self.total - self.gap

    @property
    def baseline_score(self) -> float:
        return self.score - self.change

    @property
    def relative_gap(self) -> float:
        return abs(self.gap) / max(abs(self.change), 1e-12)

    @property
    def channels(self) -> np.ndarray:
        return np.asarray(attrax.channels(jnp.asarray(self.values)))

    @property
    def positions(self) -> np.ndarray:
        return np.asarray(attrax.positions(jnp.asarray(self.values)))


class Prediction(NamedTuple):
    """One of the most probable classes."""

    name: str
    probability: float
    logit: float


class Explanation(NamedTuple):
    """All that the pictures and the page are made of."""

    photo: str  # a file name
    network: str
    device: str
    picture: np.ndarray  # (H, W, 3) in [0, 1], as the network saw it
    baseline: np.ndarray  # likewise
    predictions: list[Prediction]
    target: str
    against: str | None
    gradient: np.ndarray
    pixels: Attribution
    layer: Attribution
    channel_rule: str
    channels: dict[str, np.ndarray]
    activation: np.ndarray  # of the layer
    sprites: Mapping[int, np.ndarray]  # what channels of the layer look for, where drawn
    view: np.ndarray  # the photograph as the pages show it, cropped but larger than `picture`
    steps: np.ndarray  # positions on the path, and the pictures there
    points: np.ndarray
    layers: attrax.Layers

    @property
    def question(self) -> str:
        rather = f" rather than “{self.against}”" if self.against else ""
        return f"Why “{self.target}”{rather}?"

    @property
    def score_name(self) -> str:
        minus = f" minus the logit of {self.against}" if self.against else ""
        return f"the logit of {self.target}{minus}"

    @property
    def sides(self) -> tuple[str, str]:
        """What blue and red speak for."""
        other = f"for {self.against}" if self.against else f"against {self.target}"
        return f"for {self.target}", other


class Picture(NamedTuple):
    """A picture of the page: a PNG file, and what it shows."""

    file: str
    png: bytes
    title: str
    caption: str
    alt: str
    is_wide: bool = False

    @property
    def url(self) -> str:
        """The same pixels for a page."""
        return _url(Image.open(io.BytesIO(self.png)).convert("RGB"))


def pictures(e: Explanation) -> list[Picture]:
    """Every picture of an explanation, in the order of the page."""
    return [*_of_pixels(e), *_of_layer(e)]


def _of_pixels(e: Explanation) -> list[Picture]:
    a, picture = e.pixels.values, e.picture
    path = f"{e.pixels.nodes} points on the line from the grey baseline to the photograph"
    return [
        _picture(
            "four_panel.png",
            plot.four_panel(a, picture, e.baseline, units=_UNITS),
            "Integrated gradients at a glance",
            "Where the path starts, where it ends, the size of each pixel's attribution (summed "
            "over the three colours, without its sign), and the same over the photograph.",
            "Four pictures: a grey square, the photograph, a map of attribution sizes, and the map "
            "over the photograph.",
            is_wide=True,
        ),
        _picture(
            "heatmap.png",
            plot.heatmap(a, units=_UNITS),
            "How much",
            f"The size of each pixel's part of {e.score_name}: gradients averaged over {path}, "
            "times the distance from the baseline. The colours end at the 99th percentile.",
            "Map of attribution sizes, dark where a pixel has no part in the score.",
        ),
        _picture(
            "signed.png",
            plot.signed(a, units=_UNITS),
            "For and against",
            f"The same parts with their sign: blue pixels speak {e.sides[0]}, red ones "
            f"{e.sides[1]}. All pixels together add up to {_signed(e.pixels.total)} logits.",
            "Map of signed attributions, blue where a pixel raises the score and red where it "
            "lowers it.",
        ),
        _picture(
            "overlay.png",
            plot.overlay(a, picture, units=_UNITS),
            "Over the photograph",
            "The sizes once more, drawn over the photograph.",
            "The map of attribution sizes over the photograph.",
        ),
        _picture(
            "mask.png",
            plot.mask(np.abs(a), picture),
            "The half that matters most",
            "Attribution sizes are smoothed (5 pixels); the pixels above their median keep their "
            "brightness, the others keep a fifth of it.",
            "The photograph with the less attributed half of its pixels darkened.",
        ),
        _picture(
            "saliency.png",
            plot.saliency(e.gradient / (np.percentile(e.gradient, 99) or 1.0), picture),
            "One gradient, for comparison",
            f"The positive part of the gradient at the photograph itself: where {e.score_name} "
            "rises fastest, for each of the three colours. The brightest hundredth is clipped. It "
            "adds up to nothing in particular.",
            "The photograph, and beside it the positive part of the gradient as colours on black.",
        ),
        _picture(
            "interpolation.png",
            plot.interpolation_strip(e.points, nodes=e.steps, columns=4),
            "The path",
            f"Gradients are taken at {path}; these are some of the pictures on it.",
            "Pictures that go from grey to the photograph step by step.",
        ),
    ]


def _of_layer(e: Explanation) -> list[Picture]:
    values, name = e.layer.channels, e.layer.place
    ranking = "all of them" if len(values) <= 2 * SHOWN_CHANNELS else f"{SHOWN_CHANNELS} each"
    has_map = e.layer.values.ndim == 3
    found = [
        _picture(
            "channel_distribution.png",
            plot.channel_distribution(values, classes=e.sides, units=_UNITS, ax=_axes(3.2)),
            "All channels",
            f"Each of the {len(values)} channels of {name} is one bar, summed over positions. "
            f"Together they add up to {_signed(e.layer.total)} logits.",
            "Bars of the channel attributions in descending order.",
            is_wide=True,
        ),
        _picture(
            "channel_ranking.png",
            plot.channel_ranking(
                values,
                SHOWN_CHANNELS,
                classes=e.sides,
                sprites=_places_of_channels(e) if has_map else None,
                units=_UNITS,
                ax=_axes(8.0 if has_map else 4.0),
            ),
            "The channels that say most",
            f"The most positive and the most negative channels of {name}, {ranking}."
            + (
                " Beside each, the place in the photograph where it is attributed most."
                if has_map
                else ""
            ),
            "Bars of the most positive and the most negative channels.",
            is_wide=True,
        ),
        _picture(
            "channel_comparison.png",
            plot.channel_comparison(e.channels, SHOWN_CHANNELS, classes=e.sides, units=_UNITS),
            "Three ways to attribute channels",
            f"Linear: gradient times activation. Path integrated: {e.channel_rule} from zero "
            "activations. Stochastic path: the same steps with every channel scaled at random. "
            + _sums(e),
            "Three columns of bars on one scale: linear, path integrated and stochastic path.",
            is_wide=True,
        ),
    ]
    return [_layer_map(e), *found] if has_map else found


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _sums(e: Explanation) -> str:
    sums = ", ".join(f"{title} {_signed(v.sum())}" for title, v in e.channels.items())
    return f"They add up to: {sums}; the score changes by {_signed(e.layer.change)}."


def _layer_map(e: Explanation) -> Picture:
    height, width, _ = e.layer.values.shape
    enlarged = _enlarge(e.layer.positions, e.picture)
    figure = Figure(figsize=(10.4, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot.signed(enlarged, units=_UNITS, title=f"Signed attribution at {e.layer.place}", ax=left)
    plot.overlay(
        np.maximum(enlarged, 0), e.picture, units=_UNITS, title=e.sides[0].capitalize(), ax=right
    )
    return _picture(
        "layer_map.png",
        figure,
        f"Where, as {e.layer.place} sees it",
        f"Integrated gradients with respect to the activations of {e.layer.place}, summed over "
        f"channels: {height} × {width} positions, enlarged to the photograph. Left with the sign, "
        f"right only what speaks {e.sides[0]}.",
        "Signed map of the positions of the layer, and its positive part over the photograph.",
        is_wide=True,
    )


def _places_of_channels(e: Explanation) -> dict[int, np.ndarray]:
    """For each channel that is shown, the photograph around its largest attribution."""
    order = np.argsort(-e.layer.channels, kind="stable")
    places = {}
    for channel in dict.fromkeys([*order[:SHOWN_CHANNELS], *order[-SHOWN_CHANNELS:]]):
        sign = np.sign(e.layer.channels[channel])
        values = _enlarge(sign * e.layer.values[..., channel], e.picture)
        centre = np.unravel_index(values.argmax(), values.shape)
        room = np.array(values.shape) - _CROP
        top, left = np.clip(np.array(centre) - _CROP // 2, 0, room)
        places[int(channel)] = e.picture[top : top + _CROP, left : left + _CROP]
    return places


def _axes(height: float) -> Axes:
    return Figure(figsize=(10.4, height), layout="constrained").subplots()


def _enlarge(values: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """`values`, `(h, w)`, with the height and width of `picture`, interpolated bilinearly."""
    height, width = picture.shape[:2]
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _picture(
    file: str,
    drawn: Axes | Figure,
    title: str,
    caption: str,
    alt: str,
    *,
    is_wide: bool = False,
) -> Picture:
    figure = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    assert figure is not None
    png = _file(
        lambda buffer: figure.savefig(
            buffer, format="png", dpi=110, facecolor="white", bbox_inches="tight", pad_inches=0.12
        )
    )
    return Picture(file, png, title, caption, alt, is_wide)


class Linked(NamedTuple):
    """A page of its own, and what the report says of it."""

    file: str
    page: html.Page
    text: str
    sprites: list[str]  # as `data:` URLs


def shown_channels(activation: np.ndarray, channels: Mapping[str, np.ndarray]) -> list[int]:
    """The channels that the pages of a layer show: all that need a sprite.

    Args:
        activation: `(..., C)`.
        channels: title to attributions, `(C,)`.
    """
    strongest = np.argsort(-activation, axis=-1, kind="stable")[..., :STRONGEST_CHANNELS]
    found = set(strongest.ravel().tolist()) if activation.ndim == 3 else set()
    for values in channels.values():
        order = np.argsort(-values, kind="stable")
        found |= {*order[:CHANNELS_A_SIDE].tolist(), *order[-CHANNELS_A_SIDE:].tolist()}
    return sorted(found)


def dictionary_page(
    activation: np.ndarray,
    view: np.ndarray,
    sprites: Mapping[int, np.ndarray],
    caption: html.Caption,
) -> html.Page:
    """The semantic dictionary of a layer, of `(h, w, C)` activations."""
    return html.semantic_dictionary(
        activation,
        view,
        sprites,
        k=min(STRONGEST_CHANNELS, activation.shape[-1]),
        caption=dataclasses.replace(caption, title=f"What {caption.layer} sees"),
    )


def channel_page(
    channels: Mapping[str, np.ndarray],
    view: np.ndarray,
    sprites: Mapping[int, np.ndarray],
    classes: tuple[str, str],
    caption: html.Caption,
) -> html.Page:
    """Channel attributions of a layer, a column for each method."""
    return html.channel_attribution(
        channels,
        view,
        sprites,
        k=CHANNELS_A_SIDE,
        classes=classes,
        caption=dataclasses.replace(caption, units=_UNITS),
    )


def pages(e: Explanation) -> list[Linked]:
    """The pages that the report leads to."""
    layer, alt = e.layer.place, f"The photograph {e.photo}, cropped as the network sees it"
    found = [
        Linked(
            "channel_attribution.html",
            channel_page(
                e.channels,
                e.view,
                e.sprites,
                e.sides,
                html.Caption(e.question, alt, layer=layer),
            ),
            f"Which channels of {layer} speak {e.sides[0]} and which {e.sides[1]}: all of them, by "
            "three methods side by side, the strongest as pictures of what they look for.",
            _preview(e, np.argsort(-e.layer.channels, kind="stable")),
        )
    ]
    if e.activation.ndim == 3:
        most = np.argsort(-e.activation.max(axis=(0, 1)), kind="stable")
        dictionary = Linked(
            "semantic_dictionary.html",
            dictionary_page(e.activation, e.view, e.sprites, html.Caption(alt=alt, layer=layer)),
            f"Point at the photograph: the strongest channels of {layer} there, as pictures of "
            "what they look for.",
            _preview(e, most),
        )
        found.insert(0, dictionary)
    return found


def _preview(e: Explanation, order: np.ndarray) -> list[str]:
    """The sprites of the first channels that have one."""
    there = [channel for channel in order.tolist() if channel in e.sprites][:PREVIEW]
    pictures = [Image.fromarray(np.asarray(e.sprites[channel])) for channel in there]
    return [_url(picture, lossless=False) for picture in pictures]


def page_template():
    """The page to fill in.

    Raises:
        ImportError: Jinja2 is missing; the message is the `pip install` line.
    """
    try:
        import jinja2
    except ImportError:
        raise ImportError("The page is written with Jinja2: pip install jinja2") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def page(e: Explanation, shown: list[Picture], linked: list[Linked], command: str) -> str:
    """The explanation as one HTML page; only its links to `linked` need another file."""
    photo = Image.fromarray(np.rint(255 * e.picture).astype(np.uint8))
    return page_template().render(
        e=e,
        photo=_url(photo),
        pictures=shown,
        linked=linked,
        command=command,
        is_gap_large=max(e.pixels.relative_gap, e.layer.relative_gap) > LARGE_GAP,
        version=attrax.__version__,
    )


def _file(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _url(picture: Image.Image, *, lossless: bool = True) -> str:
    """A picture as a `data:` URL: without loss a WebP file is a third smaller than a PNG one."""
    data = _file(lambda buffer: picture.save(buffer, format="webp", lossless=lossless))
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
