"""Attributions over time: what stands behind which moment, panels, times and units."""

import itertools
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from attrax import plot
from attrax.plot import _time_series


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def behind(panel):
    """The attribution behind the lines of a panel, and where each moment begins and ends."""
    (mesh,) = panel.collections
    corners = mesh.get_coordinates()
    assert corners[0, :, 1].tolist() == [0.0] * corners.shape[1]  # from the lower edge
    assert corners[1, :, 1].tolist() == [1.0] * corners.shape[1]  # to the upper
    return np.asarray(mesh.get_array()).ravel(), corners[0, :, 0]


def lines(panel):
    return [line.get_ydata() for line in panel.lines]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def renders(ax):
    buffer = BytesIO()
    ax.get_figure(root=True).savefig(buffer, dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


def test_a_panel_for_each_channel():
    attribution, series = noise(20, 3), noise(20, 3, seed=1)
    names = ["a (K)", "$b$", "c"]
    ax = plot.time_series(attribution, series, channels=names, limit=1.0, units="logit", title="T")
    *panels, bar = ax.child_axes
    for c, panel in enumerate(panels):
        values, edges = behind(panel)
        np.testing.assert_array_equal(values, attribution[:, c])
        np.testing.assert_array_equal(edges, np.arange(21) - 0.5)
        np.testing.assert_array_equal(lines(panel), [series[:, c]])
        assert panel.get_ylabel() == names[c] and panel.get_xlim() == (-0.5, 19.5)
        low, high = panel.get_ylim()
        assert low < series[:, c].min() and high > series[:, c].max()
        # One scale for all, symmetric.
        assert panel.collections[0].get_clim() == (-1.0, 1.0)
    assert [panel.get_xlabel() for panel in panels] == ["", "", "step"]
    assert bar.get_ylabel() == "attribution (logit)" and len(bar.patches) == 2  # clipped: arrows
    assert ax.get_title() == "T" and not ax.axison
    assert renders(ax)


def test_channels_over_their_common_attribution():
    attribution, series = noise(30), noise(30, 6, seed=1)
    ax = plot.time_series(attribution, series, channels=list("abcdef"))
    panel, _ = ax.child_axes
    np.testing.assert_array_equal(behind(panel)[0], attribution)
    np.testing.assert_array_equal(lines(panel), series.T)
    looks = {(line.get_color(), line.get_linestyle()) for line in panel.lines}
    assert len(looks) == 6
    assert [text.get_text() for text in panel.get_legend().get_texts()] == list("abcdef")
    assert renders(ax)


def test_a_series_without_channels():
    attribution, series = noise(9), noise(9, seed=1)
    ax = plot.time_series(attribution, series)
    panel, _ = ax.child_axes
    np.testing.assert_array_equal(behind(panel)[0], attribution)
    np.testing.assert_array_equal(lines(panel), [series])
    assert panel.get_ylabel() == "" and panel.get_legend() is None
    # The 99th percentile of the magnitudes ends the scale.
    assert panel.collections[0].get_clim()[1] == np.percentile(np.abs(attribution), 99)


@pytest.mark.parametrize("common", [False, True])
def test_the_line_itself_is_coloured(common):
    attribution, series = noise(8, 2), noise(8, 2, seed=1)
    given = attribution[:, 0] if common else attribution
    ax = plot.time_series(given, series, np.arange(8) ** 2, on_line=True)
    *panels, _ = ax.child_axes
    assert len(panels) == 2
    for c, panel in enumerate(panels):
        (strokes,) = panel.collections
        np.testing.assert_array_equal(strokes.get_array(), attribution[:, 0 if common else c])
        pieces = strokes.get_segments()
        # Together they are the line, and each has its own value in the middle.
        np.testing.assert_allclose(
            [piece[1] for piece in pieces], [*zip(np.arange(8) ** 2, series[:, c], strict=True)]
        )
        for before, after in itertools.pairwise(pieces):
            np.testing.assert_allclose(before[-1], after[0])
            np.testing.assert_allclose(before[-1], (before[1] + after[1]) / 2)
    assert renders(ax)
    assert to_rgba(_time_series._LINE(0.5))[:3] == pytest.approx((0.75, 0.75, 0.75), abs=0.01)


def test_times_that_are_not_equally_far():
    ax = plot.time_series([1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [1.0, 2.0, 5.0], time_units="ms")
    panel = ax.child_axes[0]
    np.testing.assert_array_equal(behind(panel)[1], [0.5, 1.5, 3.5, 6.5])
    assert panel.get_xlabel() == "time (ms)"
    np.testing.assert_array_equal(panel.lines[0].get_xdata(), [1.0, 2.0, 5.0])


@pytest.mark.parametrize("on_line", [False, True])
def test_dates(on_line):
    days = np.datetime64("2024-02-27") + np.arange(5) * np.timedelta64(12, "h")
    ax = plot.time_series(noise(5, 2), noise(5, 2), days, on_line=on_line)
    panel = ax.child_axes[1]
    ends = panel.get_xlim()
    assert np.ptp(ends) == pytest.approx(2.5)  # in days, half a step beyond both
    assert renders(ax)
    shown = [label.get_text() for label in panel.get_xticklabels()]
    assert "29" in " ".join([*shown, panel.xaxis.get_offset_text().get_text()])


def test_one_moment_and_a_constant():
    ax = plot.time_series([2.0], [5.0])
    panel = ax.child_axes[0]
    assert panel.get_xlim() == (-0.5, 0.5) and panel.get_ylim() == (4.0, 6.0)
    assert renders(ax)


@pytest.mark.parametrize("on_line", [False, True])
def test_nothing_says_so(on_line):
    ax = plot.time_series(np.zeros((6, 2)), noise(6, 2), on_line=on_line)
    assert len(ax.child_axes) == 2  # no bar, which would suggest a scale
    assert texts(ax.child_axes[0]) == ["all zero"]
    assert renders(ax)


def test_given_axes_are_drawn_on():
    left, _ = Figure().subplots(1, 2)
    assert plot.time_series([1.0], [1.0], ax=left) is left


def test_lines_can_be_read_on_every_colour():
    from attrax._show._text import luminance

    for share in np.linspace(0, 1, 101):
        background = _time_series._BEHIND(share)
        assert (
            luminance(to_hex(background)) + 0.05
        ) / 0.05 >= 3.0  # black lines, as WCAG wants of graphics


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda: plot.time_series(np.ones((2, 5, 3)), np.ones((2, 5, 3))),
            r"`series` must be that of one example, \(T, C\) or \(T,\); got \(2, 5, 3\)\. Index",
        ),
        (
            lambda: plot.time_series(np.ones(3), np.ones((5, 3))),
            r"shape of `series`, or one value for each of its times; got \(3,\) against \(5, 3\)",
        ),
        (
            lambda: plot.time_series([1.0, 2.0], [1.0, 2.0], [1.0]),
            r"`times` must hold one time for each value of `series`; got \(1,\) for 2",
        ),
        (lambda: plot.time_series([1.0, 2.0], [1.0, 2.0], [1.0, 1.0]), "`times` must ascend from"),
        (lambda: plot.time_series([1.0, 2.0], [1.0, 2.0], [0.0, np.nan]), "`times` must be finite"),
        (
            lambda: plot.time_series(
                [1.0, 2.0], [1.0, 2.0], np.array(["2024-01-01", "NaT"], "datetime64[D]")
            ),
            "`times` must ascend from each to the next; sort the series",
        ),
        (
            lambda: plot.time_series(np.ones((5, 2)), np.ones((5, 2)), channels=["a"]),
            r"`channels` must name every channel of `series`; got \['a'\] for 2 channels",
        ),
        (lambda: plot.time_series([1.0], [1.0], channels="a"), "`channels` must name .* got 'a'"),
        (lambda: plot.time_series([1.0], [1.0], percentile=0.0), r"`percentile` must lie in \(0"),
        (lambda: plot.time_series([1.0], [1.0], limit=0.0), "`limit` must be positive and finite"),
    ],
)
def test_what_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
