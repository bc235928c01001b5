"""What plots and pages accept: every public function of both, with every kind of bad input."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import attrax
from attrax import html, plot
from attrax.text import Text

pytest.importorskip("jinja2")
pytest.importorskip("PIL")

SIZE = (8, 12)
IMAGE = np.full((*SIZE, 3), 0.5)
MAP = np.linspace(-1.0, 1.0, 96).reshape(SIZE)
ROW = np.array([0.5, -2.0, 3.0])
GRID = np.ones((4, 6, 3))
RUN = {"evaluations": [1, 2, 3], "error": ROW**2}


class Argument(NamedTuple):
    """An argument that holds an array: how it is given, what is good, and how errors name it."""

    call: Any
    good: Any
    name: str


def of(function, good, name, call):
    return pytest.param(function, Argument(call, good, name), id=f"{function}-{name}")


# An entry for each argument of each function that holds an array, or a mapping of arrays.
ARGUMENTS = [
    of("plot.heatmap", MAP, "attribution", plot.heatmap),
    of("plot.signed", MAP, "attribution", plot.signed),
    of("plot.overlay", MAP, "attribution", lambda a: plot.overlay(a, IMAGE)),
    of("plot.overlay", IMAGE, "image", lambda a: plot.overlay(MAP, a)),
    of("plot.mask", MAP, "attribution", lambda a: plot.mask(a, IMAGE)),
    of("plot.mask", IMAGE, "image", lambda a: plot.mask(MAP, a)),
    of("plot.mask_array", MAP, "attribution", lambda a: plot.mask_array(a, IMAGE)),
    of("plot.mask_array", IMAGE, "image", lambda a: plot.mask_array(MAP, a)),
    of("plot.saliency_array", MAP, "attribution", plot.saliency_array),
    of("plot.saliency", MAP, "attribution", lambda a: plot.saliency(a, IMAGE)),
    of("plot.saliency", IMAGE, "image", lambda a: plot.saliency(MAP, a)),
    of("plot.four_panel", MAP, "attribution", lambda a: plot.four_panel(a, IMAGE)),
    of("plot.four_panel", IMAGE, "image", lambda a: plot.four_panel(MAP, a)),
    of("plot.four_panel", IMAGE, "baseline", lambda a: plot.four_panel(MAP, IMAGE, a)),
    of("plot.interpolation_strip", IMAGE[None], "points", plot.interpolation_strip),
    of(
        "plot.interpolation_strip",
        ROW,
        "nodes",
        lambda a: plot.interpolation_strip(IMAGE[None].repeat(3, 0), nodes=a),
    ),
    of("plot.channel_distribution", ROW, "channel_attribution", plot.channel_distribution),
    of("plot.channel_ranking", ROW, "channel_attribution", plot.channel_ranking),
    of(
        "plot.channel_ranking",
        IMAGE[None].repeat(3, 0),
        "sprites",
        lambda a: plot.channel_ranking(ROW, sprites=a),
    ),
    of(
        "plot.channel_comparison",
        ROW,
        "channel_attributions['a']",
        lambda a: plot.channel_comparison({"a": a}),
    ),
    of(
        "plot.channel_comparison",
        IMAGE[None].repeat(3, 0),
        "sprites",
        lambda a: plot.channel_comparison({"a": ROW}, sprites=a),
    ),
    of("plot.features", ROW, "attribution", plot.features),
    of("plot.features", ROW, "x", lambda a: plot.features(ROW, a)),
    of("plot.summary", ROW[None], "attributions", plot.summary),
    of("plot.summary", ROW[None], "xs", lambda a: plot.summary(ROW[None], a)),
    of("plot.time_series", ROW, "attribution", lambda a: plot.time_series(a, ROW)),
    of("plot.time_series", ROW, "series", lambda a: plot.time_series(ROW, a)),
    of("plot.time_series", [1, 2, 4], "times", lambda a: plot.time_series(ROW, ROW, a)),
    of("plot.tokens", ROW, "attribution", lambda a: plot.tokens(Text(list("abc"), a))),
    of("plot.curves", ROW, "methods['a']", lambda a: plot.curves({"a": a})),
    of(
        "plot.convergence",
        [1, 2, 3],
        "runs['a'].evaluations",
        lambda a: plot.convergence({"a": plot.Convergence(**{**RUN, "evaluations": a})}),
    ),
    of(
        "plot.convergence",
        ROW**2,
        "runs['a'].error",
        lambda a: plot.convergence({"a": plot.Convergence(**{**RUN, "error": a})}),
    ),
    of("html.tokens", ROW, "attribution", lambda a: html.tokens([Text(list("abc"), a)])),
    of(
        "html.plain_tokens", ROW, "attribution", lambda a: html.plain_tokens([Text(list("abc"), a)])
    ),
    of("html.features", ROW, "attributions['a']", lambda a: html.features({"a": a})),
    of("html.features", ROW, "x", lambda a: html.features({"a": ROW}, a)),
    of(
        "html.attribution_maps",
        MAP,
        "attributions['a']",
        lambda a: html.attribution_maps({"a": a}, IMAGE),
    ),
    of("html.attribution_maps", IMAGE, "image", lambda a: html.attribution_maps({"a": MAP}, a)),
    of(
        "html.channel_attribution",
        ROW,
        "attributions['a']",
        lambda a: html.channel_attribution({"a": a}),
    ),
    of(
        "html.channel_attribution",
        IMAGE,
        "image",
        lambda a: html.channel_attribution({"a": ROW}, a),
    ),
    of(
        "html.channel_attribution",
        IMAGE[None].repeat(3, 0),
        "sprites",
        lambda a: html.channel_attribution({"a": ROW}, sprites=a),
    ),
    of(
        "html.semantic_dictionary",
        GRID,
        "activation",
        lambda a: html.semantic_dictionary(a, IMAGE, k=1),
    ),
    of(
        "html.semantic_dictionary",
        IMAGE,
        "image",
        lambda a: html.semantic_dictionary(GRID, a, k=1),
    ),
    of(
        "html.activation_grid",
        GRID,
        "activation",
        lambda a: html.activation_grid(a, IMAGE, np.ones((4, 6, 2, 2, 3)), k=1),
    ),
    of(
        "html.activation_grid",
        np.ones((4, 6, 2, 2, 3)),
        "tiles",
        lambda a: html.activation_grid(GRID, IMAGE, a, k=1),
    ),
    of(
        "html.activation_grid",
        IMAGE,
        "image",
        lambda a: html.activation_grid(GRID, a, np.ones((4, 6, 2, 2, 3)), k=1),
    ),
    of(
        "html.neuron_groups",
        np.ones((3, 4, 6)),
        "positions",
        lambda a: html.neuron_groups(a, IMAGE),
    ),
    of(
        "html.neuron_groups",
        IMAGE,
        "image",
        lambda a: html.neuron_groups(np.ones((3, 4, 6)), a),
    ),
    of(
        "html.neuron_groups",
        ROW,
        "attributions['a']",
        lambda a: html.neuron_groups(np.ones((3, 4, 6)), IMAGE, attributions={"a": a}),
    ),
    of(
        "html.spatial_attribution",
        np.ones((2, 3, 4, 6)),
        "between",
        lambda a: html.spatial_attribution(a, IMAGE),
    ),
    of(
        "html.spatial_attribution",
        IMAGE,
        "image",
        lambda a: html.spatial_attribution(np.ones((2, 3, 4, 6)), a),
    ),
    of(
        "html.spatial_attribution",
        np.ones((2, 3)),
        "outputs['a']",
        lambda a: html.spatial_attribution(None, IMAGE, outputs={"a": a}),
    ),
    of("html.gallery", IMAGE, "items[0].image", lambda a: html.gallery([html.Item(a)])),
]

MAPPINGS = {
    "plot.channel_comparison": ("channel_attributions", plot.channel_comparison),
    "plot.curves": ("methods", plot.curves),
    "plot.convergence": ("runs", plot.convergence),
    "html.features": ("attributions", html.features),
    "html.attribution_maps": ("attributions", lambda a: html.attribution_maps(a, IMAGE)),
    "html.channel_attribution": ("attributions", html.channel_attribution),
    "html.neuron_groups": (
        "attributions",
        lambda a: html.neuron_groups(np.ones((3, 4, 6)), IMAGE, attributions=a),
    ),
    "html.spatial_attribution": (
        "outputs",
        lambda a: html.spatial_attribution(None, IMAGE, outputs=a),
    ),
}


@dataclass
class Result:
    """What somebody's function returns."""

    value: Any


def holding(good, value):
    """`good` with one entry that is `value`."""
    array = np.array(good, np.float64)
    array.flat[-1] = value
    return array


def certified(good):
    one = np.ones(1)
    return attrax.Certified(good, one, one, one, one)


# What is given in place of a good array, and what the message says.
BAD = {
    "Estimate": (lambda good: attrax.Estimate(good, good), r"Estimate\(.*Pass its `\.value`"),
    "Certified": (certified, r"Certified\(.*Pass its `\.value`"),
    "another result": (lambda good: attrax.ChannelRanking(good, good, good, good), "Pass one of"),
    "an object": (Result, "Result"),
    "a dict": (lambda good: {"layer": good}, "got a dict of 'layer'. Pass one of its values"),
    "a list of arrays": (lambda good: [np.asarray(good), np.ones((2, 3))], "array|shape"),
    "a tuple of a result": (lambda good: (attrax.Estimate(good, good),), "Estimate|shape"),
    "None in a list": (lambda good: [None, None], "real numbers|shape|or text"),
    "texts": (lambda good: np.full(np.shape(good), "a"), "real numbers"),
    "complex": (lambda good: np.asarray(good) * 1j, "real numbers; got .*complex"),
    "nothing": (lambda good: np.asarray(good)[:0], "empty|shape|one array|hold|must be"),
    "NaN": (lambda good: holding(good, np.nan), "finite|ascend"),
    "infinity": (lambda good: holding(good, -np.inf), "finite|ascend"),
    "another rank": (lambda good: np.asarray(good)[None, None, None], "got .*1, 1, 1, "),
    "a number": (lambda good: 1.0, r"\(\)|must be|hold"),
}


def test_every_public_function_is_here():
    covered = {str(entry.values[0]) for entry in ARGUMENTS}
    functions = {
        f"{module.__name__.removeprefix('attrax.')}.{name}"
        for module in (plot, html)
        for name in dir(module)
        if not name.startswith("_") and callable(getattr(module, name)) and name[0].islower()
    }
    assert functions == covered


@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_what_is_good_is_accepted(function, argument):
    argument.call(argument.good)
    argument.call(jnp.asarray(argument.good))


# Sprites may be a mapping, an example of a table may hold texts, and one recipe takes any shape.
GOOD = {
    ("sprites", "a dict"),
    ("x", "texts"),
    ("plot.saliency_array", "another rank"),
    ("plot.saliency_array", "a number"),
}


@pytest.mark.parametrize(
    ("function", "argument", "kind"),
    [
        pytest.param(*entry.values, kind, id=f"{entry.id}-{kind}")
        for entry in ARGUMENTS
        for kind in BAD
        if not {(entry.values[0], kind), (entry.values[1].name, kind)} & GOOD
    ],
)
def test_what_is_bad_is_refused(function, argument, kind):
    make, message = BAD[kind]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        argument.call(make(argument.good))
    assert re.match(rf"`{re.escape(argument.name)}[\[.`]", str(caught.value)), caught.value


@pytest.mark.parametrize("function", MAPPINGS)
@pytest.mark.parametrize("bad", [ROW, attrax.Estimate(ROW, ROW), [("a", ROW)], "a"])
def test_what_maps_titles_to_arrays_is_a_mapping(function, bad):
    name, call = MAPPINGS[function]
    with pytest.raises(TypeError, match=f"`{name}` must map a title to"):
        call(bad)
    with pytest.raises(ValueError, match=f"`{name}` must hold at least one title"):
        call({})


@pytest.mark.parametrize("draw", [html.tokens, html.plain_tokens])
@pytest.mark.parametrize("bad", [attrax.Estimate(ROW, ROW), {"a": 1}, 3, [ROW], ["not good"]])
def test_texts_are_texts(draw, bad):
    with pytest.raises(TypeError, match=r"`texts.*` must be a.*`.*Text"):
        draw(bad)
    with pytest.raises(TypeError, match=r"`text` must be an `attrax\.text.Text"):
        plot.tokens(bad)


def test_runs_and_items_are_what_they_must_be():
    with pytest.raises(TypeError, match=r"`runs\['a'\]` must be a `Convergence\(.*got a Estimate"):
        plot.convergence({"a": attrax.Estimate([1, 2], [0.1, 0.2])})
    with pytest.raises(TypeError, match=r"`items` must hold `attrax\.html\.Item.*got a ndarray"):
        html.gallery([IMAGE])
    with pytest.raises(TypeError, match="`items` must be a sequence of `Item`; got a Item"):
        html.gallery(html.Item(IMAGE))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 24, 32), (1, 9, 8)])
def test_channels_first_is_refused_alone(shape):
    for draw in (plot.heatmap, plot.signed):
        with pytest.raises(ValueError, match=r"channels last.*`np.moveaxis\(attribution, 0, -1\)`"):
            draw(np.ones(shape))
        draw(np.moveaxis(np.ones(shape), 0, -1))
        draw(np.ones(shape).sum(-1))  # three rows, said so


@pytest.mark.parametrize("shape", [(7, 7, 64), (3, 4, 5), (1, 12, 2), (3, 3, 512), (2, 8, 8)])
def test_small_layers_are_maps(shape):
    plot.heatmap(np.ones(shape))


@pytest.mark.parametrize("channels", [1, 3, 16, 64])
def test_channels_first_is_refused_beside_a_picture(channels):
    first, picture = np.ones((channels, *SIZE)), IMAGE
    hint = r"channels last.*np\.moveaxis\(.*, 0, -1\)"
    for draw in (plot.overlay, plot.saliency, plot.mask, plot.four_panel):
        with pytest.raises(ValueError, match=hint):
            draw(first, picture)
        draw(np.moveaxis(first, 0, -1), picture)
    with pytest.raises(ValueError, match=hint):
        html.attribution_maps({"a": first}, picture)
    with pytest.raises(ValueError, match=hint):
        html.semantic_dictionary(first, picture, k=1)


def test_layers_with_channels_first_are_refused_beside_a_picture():
    with pytest.raises(ValueError, match=r"channels last.*`np\.moveaxis\(activation, 0, -1\)`"):
        html.semantic_dictionary(np.ones((16, 4, 6)), IMAGE, k=1)
    html.semantic_dictionary(np.ones((4, 6, 16)), IMAGE, k=1)


def test_groups_come_first():
    with pytest.raises(ValueError, match=r"groups first.*`np.moveaxis\(positions, -1, 0\)`"):
        html.neuron_groups(np.ones((4, 6, 30)), IMAGE)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_with_channels_first_are_told_how_to_turn(channels):
    picture = np.full((channels, *SIZE), 0.5)
    message = r"`image` must be one image, .* got \(.*\)\. Channels come last: `np\.moveaxis\(image"
    for draw in (plot.overlay, plot.saliency, plot.mask, plot.four_panel):
        with pytest.raises(ValueError, match=message):
            draw(MAP, picture)
    with pytest.raises(ValueError, match=message):
        html.attribution_maps({"a": MAP}, picture)
    with pytest.raises(ValueError, match=r"`points\[0\]` must be one image.*moveaxis"):
        plot.interpolation_strip(picture[None])


def test_a_series_or_a_volume_is_no_picture():
    series, volume = np.ones(20), np.ones((5, 8, 12, 1))
    for draw in (plot.heatmap, plot.signed, lambda a: plot.overlay(a, IMAGE)):
        with pytest.raises(ValueError, match=r"got \(20,\).*`plot.time_series` draws a series"):
            draw(series)
        with pytest.raises(ValueError, match=r"Index the batch axis first; of a volume .* slice"):
            draw(volume)
    with pytest.raises(ValueError, match=r"`image` .* got \(20,\)\. `plot.time_series` draws"):
        plot.overlay(MAP, series)
    with pytest.raises(ValueError, match=r"`image` must lie in \[0, 1\].*`plot.time_series`"):
        plot.overlay(np.ones((60, 3)), 20 * np.ones((60, 3)))
    with pytest.raises(ValueError, match=r"`image` .* of a volume draw one slice at a time"):
        plot.overlay(MAP, volume)


HALF = "a\ud83d"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.heatmap(MAP, title=HALF, units=HALF),
        lambda: plot.features(ROW, [HALF, 1, 2], [HALF, "b", "c"], classes=(HALF, HALF)),
        lambda: plot.channel_comparison({HALF: ROW}, classes=(HALF, HALF)),
        lambda: plot.curves({HALF: ROW}, score=HALF, features=HALF),
        lambda: plot.convergence({HALF: plot.Convergence([1], [1.0])}, title=HALF),
        lambda: plot.time_series(ROW, np.ones((3, 2)), channels=[HALF, "b"]),
        lambda: plot.tokens(Text([HALF], [1.0], HALF, HALF), classes=[HALF], title=HALF),
    ],
)
def test_half_a_surrogate_pair_can_be_drawn(draw):
    drawn = draw()
    figure = drawn if hasattr(drawn, "savefig") else drawn.get_figure(root=True)
    figure.savefig(BytesIO(), format="svg")


def test_nothing_controls_a_terminal():
    codes = [*range(32), *range(127, 160)]
    every = "".join(map(chr, codes))
    plain = html.plain_tokens([Text([every], [[1.0], [2.0]], every, every)], classes=[every, "b"])
    assert not {ord(letter) for letter in plain.replace("\n", "")} & set(codes)
    assert len(plain.split("\n")) == 3


def test_half_a_surrogate_pair_can_be_printed_and_written(tmp_path):
    text = Text([HALF, "\ud83d\ude00"], [[1.0, 2.0], [2.0, 0.0]], HALF, "\udfff")
    plain = html.plain_tokens([text], classes=[HALF, "b"])
    assert plain.encode().decode() == plain and "a\ufffd" in plain and "😀" in plain
    html.tokens([text], classes=[HALF, "b"], title=HALF).save(tmp_path / "page.html")
