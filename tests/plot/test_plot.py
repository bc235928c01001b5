"""Pictures: the arrays drawn, their scales and texts, errors, and that each one renders."""

import doctest
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from attrax import plot
from attrax._show import _arrays, _inputs
from attrax.plot import _canvas, _channel_bars, _maps, _panels

PARITY = json.loads((Path(__file__).parents[1] / "data" / "trulens_mask.json").read_text())


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def picture(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape)


def size_in_png(drawn: Axes | Figure) -> tuple[int, int]:
    """Renders to memory; the width and height written in the PNG header."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert figure is not None
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    data = buffer.getvalue()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def shown(ax):
    return [np.asarray(image.get_array()) for image in ax.images]


def patches(ax) -> list[Any]:
    return list(ax.patches)


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bar_axes(ax):
    """The axes of the colour bar beside `ax`."""
    (inset,) = ax.child_axes
    return inset


# Array recipes


def test_mask_blurs_before_it_ranks():
    # sigma 0.5 is cut off at two pixels, and mirrored edge values are repeated.
    weights = np.exp(-0.5 * (np.array([-2, -1, 0, 1, 2]) / 0.5) ** 2)
    weights /= weights.sum()
    row = [1.0, 5.0, 4.9, 0.0]
    mirrored = [row[1], row[0], *row, row[3], row[2]]
    blurred = np.array([np.dot(weights, mirrored[i : i + 5]) for i in range(4)])
    assert blurred[2] < blurred[1] and blurred[3] > blurred[0] - 1.5
    attribution, image = np.tile(row, (3, 1)), np.tile([0.0, 1.0, 1.0, 1.0], (3, 1))
    for threshold in (0.2, 0.5, 0.7):
        kept = plot.mask_array(attribution, image, blur=0.5, threshold=threshold, opacity=0.5)
        expected = np.where(blurred > np.percentile(np.tile(blurred, 3), 100 * threshold), 1, 0.5)
        np.testing.assert_allclose(kept, np.tile(expected * [0, 1, 1, 1], (3, 1)))


@pytest.mark.parametrize("case", PARITY["cases"], ids=lambda case: case["id"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_mask_agrees_with_trulens(case, dtype, rtol):
    config = case["config"]
    items = zip(PARITY["attributions"], PARITY["x"], case["expected"]["masked"], strict=True)
    for attribution, x, expected in items:
        masked = plot.mask_array(
            np.asarray(attribution, dtype),
            np.asarray(x, dtype),
            blur=config["blur"],
            threshold=config["threshold"],
            opacity=config["masked_opacity"],
            combine_channels=config["combine_channels"],
        )
        # Relative to the largest value: the smallest pixel is exactly 0 in float64 only.
        np.testing.assert_allclose(masked, expected, rtol=rtol, atol=rtol)


def test_mask_keeps_strictly_above_the_quantile():
    attribution = np.array([[0.0, 1.0], [2.0, 3.0], [3.0, 3.0]])
    image = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    # The median is 2.5; at threshold 0.4 the quantile is one of the values, 2, and is darkened.
    kept = plot.mask_array(attribution, image, blur=0, threshold=0.4, opacity=0.5)
    np.testing.assert_allclose(kept, [[0.0, 0.5], [0.5, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(
        plot.mask_array(np.ones((2, 2)), np.array([[0.0, 1.0], [1.0, 1.0]])),
        [[0.0, 0.2], [0.2, 0.2]],
    )


def test_mask_scales_the_image_by_its_own_range():
    attribution = np.arange(4.0).reshape(2, 2)
    image = np.array([[-3.0, 5.0], [1.0, 5.0]])
    masked = plot.mask_array(attribution, image, blur=0, threshold=0, opacity=0)
    np.testing.assert_allclose(masked, [[0.0, 1.0], [0.5, 1.0]])
    constant = plot.mask_array(attribution, np.full((2, 2), 0.5), blur=0, opacity=0)
    np.testing.assert_allclose(constant, [[0.0, 0.0], [0.5, 0.5]])
    uint8 = plot.mask_array(attribution, np.full((2, 2), 255, np.uint8), blur=0, opacity=0)
    np.testing.assert_allclose(uint8, [[0.0, 0.0], [1.0, 1.0]])


def test_mask_keeps_the_shape_of_the_image():
    for shape in [(5, 4), (5, 4, 1), (5, 4, 3)]:
        assert plot.mask_array(noise(5, 4, 2), picture(*shape)).shape == shape


def test_saliency_clips_and_scales():
    values = np.array([[-3.0, 0.0], [0.1, 0.2]])
    np.testing.assert_allclose(plot.saliency_array(values), [[0.0, 0.0], [0.5, 1.0]])
    np.testing.assert_allclose(plot.saliency_array([0.5, 7.0]), [0.5, 1.0])  # 1 is the ceiling
    np.testing.assert_array_equal(plot.saliency_array([-1.0, 0.0]), [0.0, 0.0])


@pytest.mark.parametrize("module", [_arrays, _inputs, _canvas, _channel_bars, _maps, _panels])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


# Maps


@pytest.mark.parametrize(
    "draw",
    [
        lambda name: plot.curves({name: [0.0, 1.0]}),
        lambda name: plot.convergence({name: plot.Convergence([1], [1.0])}),
        lambda name: plot.features([1.0], classes=(name, "")),
        lambda name: plot.channel_distribution([1.0], classes=(name, "")),
        lambda name: plot.channel_comparison({"": [1.0]}, classes=(name, "")).legends[0],
        lambda name: plot.time_series([1.0], [[1.0, 2.0]], channels=[name, ""]).child_axes[0],
    ],
)
@pytest.mark.parametrize("name", ["$5 to $6", "_private"])
def test_names_in_legends_are_as_written(draw, name):
    drawn = draw(name)
    legend = drawn.get_legend() if isinstance(drawn, Axes) else drawn
    assert legend.get_texts()[0].get_text().startswith(name)
    assert not any(text.get_parse_math() for text in legend.get_texts())


def test_heatmap_shows_summed_magnitudes():
    attribution = noise(6, 5, 3)
    ax = plot.heatmap(attribution, percentile=90, units="logit", title="Dog")
    magnitudes = np.abs(attribution).sum(axis=-1)
    np.testing.assert_allclose(shown(ax)[0], magnitudes)
    assert ax.images[0].get_clim() == (0.0, np.percentile(magnitudes, 90))
    assert ax.get_title() == "Dog"
    assert bar_axes(ax).get_ylabel() == "|attribution| (logit)"


def test_signed_is_symmetric_and_white_at_zero():
    attribution = noise(6, 5, 3) + 1.0
    ax = plot.signed(attribution, percentile=80)
    total = attribution.sum(axis=-1)
    np.testing.assert_allclose(shown(ax)[0], total)
    high = np.percentile(np.abs(total), 80)
    assert ax.images[0].get_clim() == (-high, high)
    assert bar_axes(ax).get_ylabel() == "attribution"
    cmap, norm = ax.images[0].get_cmap(), ax.images[0].norm
    colours = np.asarray(cmap(norm(np.array([-0.7 * high, 0.0, 0.7 * high]))))
    negative, zero, positive = colours
    np.testing.assert_array_equal(zero, 1.0)
    assert positive[2] > positive[0] and negative[0] > negative[2]  # blue, red


@pytest.mark.parametrize("draw", [plot.heatmap, plot.signed])
def test_scale_ends_where_asked(draw):
    attribution = np.zeros((10, 10))
    attribution[3, 3] = 8.0
    # One pixel of a hundred: its 90th percentile is 0, so the maximum is used.
    assert draw(attribution, percentile=90).images[0].get_clim()[1] == 8.0
    assert draw(attribution, percentile=100).images[0].get_clim()[1] == 8.0
    assert draw(attribution, limit=2.0).images[0].get_clim()[1] == 2.0


def test_colour_bar_has_arrows_where_values_are_clipped():
    values = np.array([[1.0, -3.0], [0.5, 2.0]])

    def arrows(ax):
        return len(bar_axes(ax).patches)

    assert arrows(plot.heatmap(values, percentile=100)) == 0
    assert arrows(plot.heatmap(values, limit=2.5)) == 1
    assert arrows(plot.signed(values, limit=1.5)) == 2
    assert arrows(plot.signed(values, limit=2.5)) == 1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (1, 1)])
@pytest.mark.parametrize("draw", [plot.heatmap, plot.signed])
def test_all_zero_maps_are_blank_and_say_so(draw, shape):
    ax = draw(np.zeros(shape))
    assert texts(ax) == ["all zero"]
    assert ax.child_axes == []  # a bar would suggest a scale
    low, high = ax.images[0].get_clim()
    np.testing.assert_allclose(ax.images[0].get_cmap()((0.0 - low) / (high - low)), 1.0)


@pytest.mark.parametrize("draw", [plot.heatmap, plot.signed])
@pytest.mark.parametrize("value", [3.0, -3.0])
def test_constant_maps_have_a_scale(draw, value):
    ax = draw(np.full((4, 5, 1), value))
    assert ax.images[0].get_clim()[1] == 3.0
    assert texts(ax) == []


def test_jax_arrays_and_low_precision():
    attribution = noise(4, 5, 3).astype(np.float32)
    low = jnp.asarray(attribution, jnp.bfloat16)
    np.testing.assert_allclose(shown(plot.signed(low))[0], attribution.sum(-1), atol=0.05)
    x = jnp.linspace(0.0, 1.0, 60).reshape(4, 5, 3)
    np.testing.assert_allclose(shown(plot.overlay(low, x))[0], x, atol=1e-7)


def test_overlay_blends_map_and_image():
    attribution, image = noise(8, 8, 3), picture(8, 8, 3)
    ax = plot.overlay(attribution, image, alpha=0.25, units="logit")
    below, above = ax.images
    np.testing.assert_allclose(np.asarray(below.get_array()), image)
    np.testing.assert_allclose(np.asarray(above.get_array()), np.abs(attribution).sum(-1))
    assert below.get_alpha() is None and above.get_alpha() == 0.25
    zero = plot.overlay(np.zeros((8, 8)), image)
    assert len(zero.images) == 1 and texts(zero) == ["all zero"]


def test_mask_picture():
    attribution, image = noise(12, 9, 3), picture(12, 9, 3)
    ax = plot.mask(attribution, image, blur=1.0, threshold=0.7, opacity=0.1)
    expected = plot.mask_array(attribution, image, blur=1.0, threshold=0.7, opacity=0.1)
    np.testing.assert_allclose(shown(ax)[0], expected)
    assert texts(plot.mask(np.zeros((12, 9)), image)) == ["all zero"]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_images_of_each_kind(shape):
    for image in [picture(*shape), (255 * picture(*shape)).astype(np.uint8)]:
        ax = plot.overlay(noise(6, 5, 3), image)
        scale = 255.0 if image.dtype == np.uint8 else 1.0
        np.testing.assert_allclose(shown(ax)[0].reshape(shape), image / scale)


def test_images_that_leave_the_range_by_rounding_are_clipped():
    image = np.array([[-0.003, 0.5], [0.25, 1.004]])
    ax = plot.overlay(np.ones((2, 2)), image)
    np.testing.assert_array_equal(shown(ax)[0], [[0.0, 0.5], [0.25, 1.0]])


def test_given_axes_are_drawn_on():
    figure = Figure()
    axes = figure.subplots(2, 3).flat
    attribution, image, channels = noise(4, 4, 3), picture(4, 4, 3), noise(9)
    assert plot.heatmap(attribution, ax=axes[0]) is axes[0]
    assert plot.signed(attribution, ax=axes[1]) is axes[1]
    assert plot.overlay(attribution, image, ax=axes[2]) is axes[2]
    assert plot.mask(attribution, image, ax=axes[3]) is axes[3]
    assert plot.channel_distribution(channels, ax=axes[4]) is axes[4]
    assert plot.channel_ranking(channels, 2, ax=axes[5]) is axes[5]
    size_in_png(figure)


# Panels


def test_saliency_beside_the_image():
    attribution, image = noise(6, 8, 3), picture(6, 8, 3)
    left, right = plot.saliency(attribution, image).axes
    np.testing.assert_allclose(shown(left)[0], image)
    np.testing.assert_allclose(shown(right)[0], plot.saliency_array(attribution))
    assert [left.get_title(), right.get_title()] == ["Image", "Saliency"]
    # Other numbers of channels: the largest, in grey.
    _, right = plot.saliency(attribution[..., :2], image).axes
    np.testing.assert_allclose(
        shown(right)[0], plot.saliency_array(attribution[..., :2]).max(axis=-1)
    )


def test_saliency_of_nothing_says_so():
    image = picture(3, 4)
    assert texts(plot.saliency(-np.ones((3, 4)), image).axes[1]) == ["nothing positive"]
    assert texts(plot.saliency(np.zeros((3, 4)), image).axes[1]) == ["all zero"]


def test_interpolation_strip():
    nodes = np.linspace(0.0, 1.0, 5)
    points = nodes[:, None, None, None] * picture(4, 6, 3)
    axes = plot.interpolation_strip(points, nodes=nodes, columns=3).axes
    assert len(axes) == 5  # the sixth cell of the two rows is empty
    assert [ax.get_title() for ax in axes] == ["t = 0", "t = 0.25", "t = 0.5", "t = 0.75", "t = 1"]
    for ax, point in zip(axes, points, strict=True):
        np.testing.assert_allclose(shown(ax)[0], point)
    assert [ax.get_title() for ax in plot.interpolation_strip(points[:2]).axes] == ["0", "1"]


def test_four_panel():
    attribution, image = noise(6, 5, 3), picture(6, 5, 3)
    figure = plot.four_panel(attribution, image, 0.5 * image, alpha=0.3, percentile=100)
    titles = ["Baseline image", "Original image", "Attribution mask", "Overlay"]
    assert [ax.get_title() for ax in figure.axes] == titles
    start, original, mask, overlay = figure.axes
    np.testing.assert_allclose(shown(start)[0], 0.5 * image)
    np.testing.assert_allclose(shown(original)[0], image)
    np.testing.assert_allclose(shown(mask)[0], np.abs(attribution).sum(-1))
    assert mask.images[0].get_clim() == overlay.images[1].get_clim()
    assert overlay.images[1].get_alpha() == 0.3
    np.testing.assert_array_equal(shown(plot.four_panel(attribution, image).axes[0])[0], 0.0)


# Channels


def test_distribution_is_sorted_and_not_normalised():
    values = noise(300)
    ax = plot.channel_distribution(values, units="logit", classes=("cat", "dog"))
    positive, negative = patches(ax)
    ordered = np.sort(values)[::-1]
    np.testing.assert_allclose(positive.get_data().values + negative.get_data().values, ordered)
    assert positive.get_facecolor() == to_rgba(_canvas.POSITIVE)
    assert negative.get_facecolor() == to_rgba(_canvas.NEGATIVE)
    assert ax.get_ylabel() == "attribution (logit)"
    assert legend_texts(ax) == ["cat", "dog"]
    low, high = plot.channel_distribution(values, limit=10.0).get_ylim()
    assert low == -10.5 and high == 10.5
    assert texts(plot.channel_distribution(np.zeros(4))) == ["all zero"]


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_ranking_rows():
    values = np.array([0.5, -2.0, 3.0, 0.1, -0.25, 1e-5])
    ax = plot.channel_ranking(values, 2, units="logit")
    assert labels(ax) == ["2", "0", "...", "4", "1"]
    assert texts(ax) == ["+3", "+0.5", "−0.25", "−2"]
    assert [bar.get_width() for bar in patches(ax)] == [3.0, 0.5, -0.25, -2.0]
    tops = [bar.get_y() for bar in patches(ax)]
    assert tops == sorted(tops, reverse=True)
    assert [bar.get_facecolor() for bar in patches(ax)] == [
        to_rgba(color) for color in [_canvas.POSITIVE] * 2 + [_canvas.NEGATIVE] * 2
    ]
    assert ax.get_xlabel() == "attribution (logit)" and ax.get_ylabel() == "channel"
    assert ax.get_legend() is None


def test_ranking_texts_keep_exponents():
    values = [1.2345e-5, 4.0e12, -9.87654e-20, 0.0, -0.0]
    written = texts(plot.channel_ranking(values, 5))
    assert written == ["+4e+12", "+1.23e−05", "0", "0", "−9.88e−20"]
    numbers = [float(text.replace("−", "-")) for text in written]
    np.testing.assert_allclose(numbers, sorted(values, reverse=True), rtol=5e-3)


@pytest.mark.parametrize("k", [2, 3, 50])
def test_ranking_draws_each_channel_once(k):
    assert labels(plot.channel_ranking([1.0, -1.0, 2.0, 1.0], k)) == ["2", "0", "3", "1"]


def test_ranking_of_one_sign_and_of_nothing():
    ax = plot.channel_ranking(np.arange(1.0, 9.0), 2, classes=("cat", "dog"))
    assert ax.get_xlim()[0] == 0.0
    assert legend_texts(ax) == ["cat", "dog"]
    assert plot.channel_ranking(-np.arange(1.0, 9.0), 2).get_xlim()[1] == 0.0
    assert "all zero" in texts(plot.channel_ranking(np.zeros(3), 1, limit=2.0))
    assert labels(plot.channel_ranking([2.0])) == ["0"]


def test_ranking_numbers_stay_inside():
    ax = plot.channel_ranking([1.0e-5, -9.87e-6, 1e-5, -1e-5], 2)
    ax.figure.canvas.draw()
    frame = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1


def test_ranking_pictures():
    values, pictures = noise(9), picture(9, 4, 4, 3)
    order = np.argsort(-values)[[0, 1, -2, -1]]
    ax = plot.channel_ranking(values, 2, sprites=pictures)
    for inset, channel in zip(ax.child_axes, order, strict=True):
        np.testing.assert_allclose(shown(inset)[0], pictures[channel])
    some = {int(order[3]): pictures[0]}
    (inset,) = plot.channel_ranking(values, 2, sprites=some).child_axes
    np.testing.assert_allclose(shown(inset)[0], pictures[0])


def test_comparison_has_one_scale():
    linear, integrated = noise(40), 0.3 * noise(40, seed=2)
    figure = plot.channel_comparison(
        {"Linear": linear, "Path integrated": integrated, "Nothing": np.zeros(40)},
        3,
        classes=("cat", "dog"),
        units="logit",
    )
    top, bottom = figure.axes[:3], figure.axes[3:]
    assert [ax.get_title() for ax in top] == ["Linear", "Path integrated", "Nothing"]
    limit = np.abs(linear).max()
    assert top[0].get_ylim() == top[1].get_ylim() == (-1.05 * limit, 1.05 * limit)
    assert bottom[0].get_xlim() == bottom[1].get_xlim()
    assert labels(bottom[1]) == labels(plot.channel_ranking(integrated, 3))
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["cat", "dog"]
    assert all(ax.get_legend() is None for ax in figure.axes)


# Every picture renders


EVERY = {
    "heatmap": lambda: plot.heatmap(noise(9, 12, 3), units="logit"),
    "heatmap zero": lambda: plot.heatmap(np.zeros((9, 12))),
    "signed": lambda: plot.signed(noise(9, 12, 3)),
    "signed tiny": lambda: plot.signed(1e-30 * noise(9, 12, 3)),
    "overlay": lambda: plot.overlay(noise(9, 12), picture(9, 12, 3)),
    "mask": lambda: plot.mask(noise(9, 12), picture(9, 12, 3)),
    "saliency": lambda: plot.saliency(noise(9, 12, 3), picture(9, 12)),
    "strip": lambda: plot.interpolation_strip(picture(10, 9, 12, 3)),
    "four_panel": lambda: plot.four_panel(noise(30, 4, 3), picture(30, 4, 3)),
    "distribution": lambda: plot.channel_distribution(noise(528)),
    "distribution of one": lambda: plot.channel_distribution([1.0]),
    "ranking": lambda: plot.channel_ranking(noise(528), classes=("cat", "dog")),
    "ranking with pictures": lambda: plot.channel_ranking(noise(9), sprites=picture(9, 4, 4, 3)),
    "ranking zero": lambda: plot.channel_ranking(np.zeros(5)),
    "comparison": lambda: plot.channel_comparison({"a": noise(30), "b": np.zeros(30)}),
    "comparison of zeros": lambda: plot.channel_comparison({"a": np.zeros(3)}),
}


@pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY.keys())
def test_renders(draw):
    width, height = size_in_png(draw())
    assert 100 < width < 1000 and 40 < height < 2000


def test_nothing_leaks_into_pyplot():
    code = (
        "import sys; from attrax import plot;"
        "plot.heatmap([[1.0]]).figure.savefig(sys.stderr.buffer);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# Errors


def with_nan():
    values = np.zeros((4, 5, 3))
    values[2, 1, 0] = np.nan
    values[3, 0, 2] = np.inf
    return values


GOOD = np.ones((4, 5, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot.heatmap(with_nan()),
            r"`attribution` must be finite; 2 of its 60 values are not, the first at "
            r"\(2, 1, 0\) is nan\.",
        ),
        (
            lambda: plot.channel_ranking([0.0, np.nan]),
            r"`channel_attribution` must be finite; 1 of its 2 values are not, the first at \(1,\)",
        ),
        (lambda: plot.heatmap(np.zeros((0, 3))), r"must not be empty; got shape \(0, 3\)"),
        (
            lambda: plot.heatmap(np.ones((2, 4, 5, 3))),
            r"`attribution` must be that of one example, \(H, W, C\) or \(H, W\); "
            r"got \(2, 4, 5, 3\)\. Index the batch axis",
        ),
        (
            lambda: plot.overlay(GOOD, np.ones((4, 5, 4))),
            r"`image` must be one image, .* got \(4, 5, 4\)",
        ),
        (
            lambda: plot.overlay(np.ones((7, 7, 3)), GOOD),
            r"got \(7, 7, 3\) against \(4, 5, 3\)\. .*`attrax\.upsample\(attribution, \(4, 5\)\)`",
        ),
        (
            lambda: plot.four_panel(np.ones((7, 7)), GOOD),
            r"same height and width; got \(7, 7, 1\) against \(4, 5, 3\)",
        ),
        (
            lambda: plot.saliency(np.ones((7, 7)), GOOD),
            r"same height and width; got \(7, 7, 1\) against \(4, 5, 3\)",
        ),
        (
            lambda: plot.mask(np.ones((7, 7)), GOOD),
            r"same height and width; got \(7, 7, 1\) against \(4, 5, 3\)",
        ),
        (
            lambda: plot.mask_array(np.ones((4, 5)), GOOD, combine_channels=False),
            r"channels of `image` when `combine_channels` is False; "
            r"got \(4, 5, 1\) against \(4, 5, 3\)",
        ),
        (
            lambda: plot.overlay(GOOD, 200.0 * GOOD),
            r"`image` must lie in \[0, 1\] or be uint8; got values from 200 to 200\. Undo",
        ),
        (lambda: plot.four_panel(GOOD, GOOD, -GOOD), r"`baseline` must lie in \[0, 1\]"),
        (
            lambda: plot.four_panel(GOOD, GOOD, np.ones((4, 5))),
            r"`baseline` must have the shape of `image`; got \(4, 5\) against \(4, 5, 3\)",
        ),
        (lambda: plot.overlay(GOOD, GOOD, alpha=1.5), r"`alpha` must lie in \[0, 1\]; got 1\.5"),
        (lambda: plot.mask(GOOD, GOOD, threshold=50), r"`threshold` must lie in \[0, 1\]; got 50"),
        (lambda: plot.mask(GOOD, GOOD, opacity=-1), r"`opacity` must lie in \[0, 1\]; got -1"),
        (lambda: plot.mask(GOOD, GOOD, blur=-1), "`blur` must be a finite number of pixels, 0 or"),
        (lambda: plot.heatmap(GOOD, percentile=0), r"`percentile` must lie in \(0, 100\].*got 0"),
        (lambda: plot.heatmap(GOOD, limit=0.0), "`limit` must be positive and finite; got 0.0"),
        (
            lambda: plot.interpolation_strip(np.ones((4, 5))),
            r"`points` must be n images, .* got \(4, 5\)",
        ),
        (
            lambda: plot.interpolation_strip(np.ones((4, 5, 5)), nodes=[0.0, 1.0]),
            r"`nodes` must hold one position an image of `points`; got \(2,\) against \(4, 5, 5\)",
        ),
        (
            lambda: plot.interpolation_strip(3 * np.ones((4, 5, 5))),
            r"`points\[0\]` must lie in \[0, 1\]",
        ),
        (lambda: plot.interpolation_strip(np.ones((4, 5, 5)), columns=0), "`columns` must be at"),
        (
            lambda: plot.channel_distribution(GOOD),
            r"`channel_attribution` must have shape \(C,\), one value a channel; got \(4, 5, 3\)\. "
            "Reduce an attribution with `attrax.channels`",
        ),
        (lambda: plot.channel_ranking([1.0], 0), "`k` must be at least 1; got 0"),
        (
            lambda: plot.channel_ranking([1.0, 2.0], sprites=np.ones((3, 4, 4, 3))),
            r"`sprites` must hold one picture for each, .* got \(3, 4, 4, 3\) for 2",
        ),
        (
            lambda: plot.channel_ranking([1.0], sprites={0: np.ones((4, 4, 2))}),
            r"`sprites\[0\]` must be one image",
        ),
        (
            lambda: plot.channel_comparison({"a": [1.0], "b": [1.0, 2.0]}),
            r"must all have the same shape; got \{'a': \(1,\), 'b': \(2,\)\}",
        ),
        (
            lambda: plot.channel_comparison({"a": [np.nan]}),
            r"`channel_attributions\['a'\]` must be finite",
        ),
        (lambda: plot.channel_comparison({}), "at least one title"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [[["a"]], [[1j]], [[None]]])
def test_only_real_numbers(value):
    with pytest.raises(TypeError, match="`attribution` must hold real numbers; got dtype"):
        plot.heatmap(value)
