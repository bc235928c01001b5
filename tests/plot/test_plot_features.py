"""Pictures of tables: bars of one example, and the summary of many."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from attrax import plot
from attrax.plot import _canvas, _features


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def dots(ax):
    """The positions of the dots of each row."""
    return [np.asarray(found.get_offsets()) for found in ax.collections]


def colours(ax, row):
    found = ax.collections[row]
    ax.figure.draw_without_rendering()
    return [to_hex(colour) for colour in found.get_facecolors()]


def renders(ax):
    buffer = BytesIO()
    ax.get_figure(root=True).savefig(buffer, dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


# Bars


def test_bars_add_up():
    values = noise(12)
    ax = plot.features(values, k=4, units="mmol", title="One patient")
    order = np.argsort(-np.abs(values))
    assert labels(ax) == [*map(str, order[:4]), "8 others"]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, [*values[order[:4]], values[order[4:]].sum()])
    assert sum(widths) == pytest.approx(values.sum())
    assert [bar.get_facecolor()[:3] for bar in ax.patches] == [
        to_rgba(_canvas.POSITIVE if width > 0 else _canvas.NEGATIVE)[:3] for width in widths
    ]
    assert [bar.get_alpha() for bar in ax.patches] == [1.0] * 4 + [0.45]
    tops = [bar.get_y() for bar in ax.patches]
    assert tops == sorted(tops, reverse=True)
    assert ax.get_xlabel() == "attribution (mmol)" and ax.get_title() == "One patient"
    assert ax.get_legend() is None
    assert renders(ax)


@pytest.mark.parametrize(("k", "rows"), [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (50, 5)])
def test_a_single_other_is_drawn_by_itself(k, rows):
    ax = plot.features([1.0, -2.0, 3.0, -4.0, 5.0], k=k)
    assert len(labels(ax)) == rows
    assert ("others" in labels(ax)[-1]) == (rows < 5)


def test_equal_magnitudes_keep_their_order():
    assert labels(plot.features([1.0, -2.0, 2.0, -1.0])) == ["1", "2", "0", "3"]


def test_values_stand_behind_the_names():
    x = ["red", 61, 0.000123456, True, -1234567.0, np.float32(2.0), np.bool(False), 12.3456]
    names = [*"abcdef", "g", "$h$"]
    ax = plot.features(np.arange(8.0, 0.0, -1.0), x, names)
    assert labels(ax) == [
        *("a = red", "b = 61", "c = 0.000123", "d = True", "e = −1.23e+06", "f = 2"),
        *("g = False", "$h$ = 12.3"),
    ]
    assert not ax.get_yticklabels()[-1].get_parse_math()
    assert labels(plot.features([2.0, 1.0], np.float32([0.5, 7]))) == ["0 = 0.5", "1 = 7"]


def test_bars_on_one_scale():
    one, other = plot.features([1.0, -2.0], limit=5.0), plot.features([0.25, -5.0], limit=5.0)
    assert one.get_xlim() == other.get_xlim()
    assert "all zero" in texts(plot.features([0.0, 0.0]))
    ax = plot.features([1.0, -2.0], classes=("sick", "well"))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sick", "well"]


# Summary


def test_a_dot_stands_at_its_attribution():
    values = noise(50, 7) * [1, 5, 2, 0.1, 0.2, 3, 0.3]
    ax = plot.summary(values, k=3, units="points")
    assert labels(ax) == ["1", "5", "2", "4 others"]
    for row, column in zip(dots(ax), [1, 5, 2], strict=False):
        np.testing.assert_array_equal(row[:, 0], values[:, column])
    np.testing.assert_allclose(dots(ax)[3][:, 0], values[:, [0, 3, 4, 6]].sum(axis=1))
    for row, height in zip(dots(ax), [3, 2, 1, 0], strict=True):
        assert np.abs(row[:, 1] - height).max() <= 0.4
    (beside,) = ax.child_axes
    widths = [bar.get_width() for bar in beside.patches]
    np.testing.assert_allclose(widths[:3], np.abs(values).mean(axis=0)[[1, 5, 2]])
    assert beside.get_xlabel() == "mean |a| (points)" and ax.get_xlabel() == "attribution (points)"
    assert renders(ax)


def test_piles_are_the_same_every_time_and_do_not_overlap():
    values, order = noise(400), noise(400, seed=1)
    offsets = _features.piles(values, order, 0.1, 0.02)
    np.testing.assert_array_equal(offsets, _features.piles(values, order, 0.1, 0.02))
    columns = np.floor(values / 0.1 + 0.5)
    for column in np.unique(columns):
        found = columns == column
        heights = offsets[found][np.argsort(order[found])]  # low values of the feature are below
        np.testing.assert_allclose(np.diff(heights), 0.02)
        np.testing.assert_allclose(heights.sum(), 0.0, atol=1e-12)
    # Where a pile would be higher than its row, it is pressed together.
    offsets = _features.piles(np.zeros(400), order, 0.1, 0.02)
    assert np.ptp(offsets) == pytest.approx(0.8) and len(np.unique(offsets)) == 400


def test_dots_have_the_colour_of_their_value():
    xs = np.stack([np.linspace(-5, 5, 101), np.full(101, 3.0), np.arange(101) == 7], axis=1)
    ax = plot.summary(noise(101, 3) * [3, 2, 1], xs, ["ramp", "constant", "rare"])
    assert labels(ax) == ["ramp", "constant", "rare"]
    ramp, constant, rare = (colours(ax, row) for row in range(3))
    low, high = (to_hex(_features._VALUES(end)) for end in (0.0, 1.0))
    # Five of a hundred lie beyond each end.
    assert ramp[:6] == [low] * 6 and ramp[-6:] == [high] * 6 and low not in ramp[6:-6]
    assert set(constant) == {to_hex("0.6")}
    assert rare == [high if i == 7 else low for i in range(101)]
    bar = ax.child_axes[-1]
    assert bar.get_ylabel() == "feature value" and labels(bar) == ["low", "high"]
    assert renders(ax)


def test_without_values_dots_have_the_colour_of_their_sign():
    ax = plot.summary([[1.0], [-1.0], [0.0]], means=False)
    assert colours(ax, 0) == [_canvas.POSITIVE, _canvas.NEGATIVE, to_hex("0.55")]
    assert ax.child_axes == []


def test_summary_of_nothing_says_so():
    ax = plot.summary(np.zeros((4, 2)), np.ones((4, 2)))
    assert texts(ax) == ["all zero"]
    assert renders(ax)


def test_given_axes_are_drawn_on():
    left, right = Figure().subplots(1, 2)
    assert plot.features([1.0, 2.0], ax=left) is left
    assert plot.summary([[1.0, 2.0]], ax=right) is right


@pytest.mark.parametrize("means", [False, True])
def test_what_stands_beside_stays_in_the_figure(means):
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = plot.summary(noise(9, 3), noise(9, 3), units="points", means=means, ax=figure.subplots())
    figure.draw_without_rendering()
    ends = [inset.get_tightbbox().x1 for inset in ax.child_axes]
    # Nor is much room left over.
    assert figure.bbox.x1 - 20 < max(ends) <= figure.bbox.x1


# What is refused


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: plot.features([[1.0, 2.0]]),
            r"one example, \(N,\), one value a feature; got \(1, 2\)\. `plot.summary` draws many",
        ),
        (
            lambda: plot.features([1.0, 2.0], [1.0]),
            r"`x` must hold one number or text a feature, \(2,\); got \(1,\)",
        ),
        (
            lambda: plot.features([1.0, 2.0], names=["a"]),
            r"`names` must name each of the 2 features; got \['a'\]",
        ),
        (lambda: plot.features([1.0, 2.0], names="ab"), "`names` must name each .* got 'ab'"),
        (lambda: plot.features([1.0], k=0), "`k` must be at least 1; got 0"),
        (lambda: plot.features([1.0], limit=-1.0), "`limit` must be positive and finite; got -1"),
        (
            lambda: plot.summary([1.0, 2.0]),
            r"\(n, N\), examples by features; got \(2,\)\. `plot.features` draws one example",
        ),
        (
            lambda: plot.summary([[1.0, 2.0]], [[1.0]]),
            r"`xs` must hold the value of every attribution; got \(1, 1\) against \(1, 2\)",
        ),
        (lambda: plot.summary([[1.0]], names=[]), r"each of the 1 features; got \[\]"),
        (lambda: plot.summary([[1.0]], k=0), "`k` must be at least 1; got 0"),
    ],
)
def test_what_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_only_real_numbers():
    with pytest.raises(TypeError, match="`xs` must hold real numbers; got dtype"):
        plot.summary([[1.0]], [["red"]])
    with pytest.raises(TypeError, match="`x` must hold real numbers; got dtype complex"):
        plot.features([1.0], [1j])
