"""Curves of metrics, and how integrals converge."""

from io import BytesIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import attrax
from attrax import metrics, plot, quadrature
from attrax.plot import Convergence, _canvas


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def renders(ax):
    buffer = BytesIO()
    ax.get_figure(root=True).savefig(buffer, dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


def given(line):
    """The drawn points that are not left out."""
    y = np.asarray(line.get_ydata(), float)
    return y[np.isfinite(y)].tolist()


# Curves


def test_mean_and_band():
    table = noise(30, 9)
    ax = plot.curves({"a": table, "b": table[0]}, score="probability", units="%", title="T")
    first, second = ax.lines
    np.testing.assert_allclose(first.get_xdata(), np.linspace(0, 1, 9))
    np.testing.assert_allclose(first.get_ydata(), table.mean(axis=0))
    np.testing.assert_allclose(second.get_ydata(), table[0])
    (band,) = ax.collections  # one example has none
    corners = band.get_paths()[0].vertices
    error = np.std(table, axis=0, ddof=1) / np.sqrt(30)
    for k, x in enumerate(np.linspace(0, 1, 9)):
        ends = corners[np.isclose(corners[:, 0], x), 1]
        low, high = table[:, k].mean() - 1.96 * error[k], table[:, k].mean() + 1.96 * error[k]
        assert (ends.min(), ends.max()) == pytest.approx((low, high))
    assert ax.get_ylabel() == "probability (%)" and ax.get_title() == "T"
    assert ax.get_legend().get_title().get_text() == "band: 95 % of the mean, n = 30"
    assert renders(ax)


def test_the_legend_has_the_areas_of_the_metric():
    tables = {"a": noise(5, 17) + 3, "b": noise(8, 5) + 3}
    found = legend(plot.curves(tables))
    for text, (name, table) in zip(found, tables.items(), strict=True):
        areas = np.asarray(metrics.area(jnp.asarray(table)))
        error = areas.std(ddof=1) / np.sqrt(len(areas))
        assert text == f"{name}: area {areas.mean():.3g} ± {error:.2g}"
    title = plot.curves(tables).get_legend().get_title().get_text()
    assert title == "band: 95 % of the mean, n = 5, 8"
    alone = plot.curves({"a": [0.0, 1.0]})
    assert legend(alone) == ["a: area 0.5"] and alone.get_legend().get_title().get_text() == ""


def test_methods_are_told_apart():
    ax = plot.curves({str(i): [0.0, i] for i in range(28)})
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 28


def test_curves_of_a_sum():
    # Of a sum, on paper: insertion 0, 4, 6, 7 by size; deletion is its mirror image.
    x = jnp.array([1.0, 2.0, 4.0])
    found = {
        "insertion": metrics.insertion_curve(jnp.sum, x, x, steps=3),
        "deletion": metrics.deletion_curve(jnp.sum, x, x, steps=3),
    }
    ax = plot.curves(found)
    assert [given(line) for line in ax.lines] == [[0, 4, 6, 7], [7, 3, 1, 0]]
    assert legend(ax) == ["insertion: area 4.5", "deletion: area 2.5"]


# Convergence


def test_lines_of_a_run():
    run = Convergence([4, 8, 16], [0.1, 0.01, 0.001], [0.4, 0.03, 0.002], [0.01, 0.002, 0.0005])
    other = Convergence([5, 10], estimate=[0.5, 0.25])
    ax = plot.convergence({"a": run, "b": other}, tolerance=0.02)
    drawn = {(to_hex(line.get_color()), line.get_linestyle()): given(line)
             for line in ax.lines if len(given(line)) > 1}  # fmt: skip
    first, second = _canvas.NAMED[:2]
    assert drawn.pop((to_hex("0.6"), "-")) == [0.02, 0.02]
    assert drawn == {
        (first, "-"): run.error,
        (first, "--"): run.estimate,
        (first, ":"): run.gap,
        (second, "--"): other.estimate,
    }
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert legend(ax) == ["a", "b", "error", "error estimate", "completeness gap"]
    assert [text.get_text() for text in ax.texts] == ["tolerance 0.02"]
    low, high = ax.get_xlim()
    assert low < 4 and high > 16
    assert legend(plot.convergence({"b": other})) == ["b", "error estimate"]
    assert renders(ax)


def test_zeros_are_at_the_lower_edge():
    ax = plot.convergence({"a": Convergence([4, 8, 16], [0.1, 0.0, 0.0])})
    line, zeros = ax.lines
    assert given(line) == [0.1]
    assert zeros.get_xdata().tolist() == [8.0, 16.0] and zeros.get_marker() == "v"
    assert zeros.get_transform() == ax.get_xaxis_transform()
    assert renders(ax)
    nothing = plot.convergence({"a": Convergence([4, 8], [0.0, 0.0])})
    assert [text.get_text() for text in nothing.texts] == ["all zero"]
    assert nothing.get_yscale() == "linear"
    assert renders(nothing)


def test_nothing_reaches_beyond_its_axes():
    # In a grid, where what did would squeeze the others.
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    plot.convergence({"a": Convergence([4, 8, 16], [1e-1, 1e-8, 1e-16])}, ax=axes[0, 1])
    plot.curves({"a": noise(9, 5)}, ax=axes[1, 0])
    figure.draw_without_rendering()
    assert all(ax.get_position().width > 0.4 for ax in axes.flat)


@pytest.mark.soak
def test_what_certified_gives():
    # Of a sum of functions of one entry each the attribution is known on paper.
    def fn(x, factor):
        return factor * jnp.sum(jnp.tanh(3 * x))

    xs, factors = jnp.array([[2.0, -1.0], [3.0, 0.5]]), jnp.array([1.0, 2.0])

    @jax.jit
    def certify(xs, factors, tolerances):
        return attrax.certified_integrated_gradients(
            fn, xs, factors, tolerance=tolerances, max_evaluations=65
        )

    found = [certify(xs, factors, tolerance) for tolerance in (0.5, 1e-2, 1e-5)]
    truth = factors[:, None] * jnp.tanh(3 * xs)
    for i in range(2):
        size = float(jnp.sum(jnp.abs(truth[i])))
        each = {int(one.evaluations[i]): one for one in found}
        run = Convergence(
            list(each),
            [float(jnp.sum(jnp.abs(one.value[i] - truth[i]))) / size for one in each.values()],
            [float(one.error_estimate[i]) for one in each.values()],
            [abs(float(one.completeness_gap[i])) / size for one in each.values()],
        )
        assert len(each) > 1
        ax = plot.convergence({f"example {i}": run})
        drawn = [given(line) for line in ax.lines if line.get_marker() != "v"]
        assert drawn == [[v for v in values if v] for values in (run.error, run.estimate, run.gap)]
        # Errors of opposite sign cancel in the gap.
        assert all(g <= e + 1e-6 for g, e in zip(run.gap, run.error, strict=True))


def test_a_rule_of_second_order_is_a_line_of_slope_minus_two():
    n = np.array([2, 4, 8, 16, 32])
    errors = [abs(3 * (r.weights @ r.nodes**2) - 1) for r in map(quadrature.trapezoid, n + 1)]
    ax = plot.convergence({"trapezoid": Convergence(n, errors)})
    x, y = (np.log(np.asarray(part)) for part in ax.lines[0].get_data())
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -2.0)


def test_lines_that_were_there_stay_in_the_legend():
    ax = Figure().subplots()
    ax.plot([0.0, 1.0], [0.0, 1.0], label="chance")
    assert legend(plot.curves({"_a": [0.0, 1.0]}, ax=ax)) == ["chance", "_a: area 0.5"]


def test_given_axes_are_drawn_on():
    left, right = Figure().subplots(1, 2)
    assert plot.curves({"a": [0.0, 1.0]}, ax=left) is left
    assert plot.convergence({"a": Convergence([1], [1.0])}, ax=right) is right


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.curves({}), "`methods` must hold at least one title and its curves"),
        (
            lambda: plot.curves({"a": [1.0]}),
            r"`methods\['a'\]` must be \(n, points\) or \(points,\), of at least two .*got \(1,\)",
        ),
        (lambda: plot.curves({"a": np.ones((2, 3, 4))}), r"got \(2, 3, 4\)"),
        (lambda: plot.curves({"a": [0.0, np.nan]}), r"`methods\['a'\]` must be finite"),
        (lambda: plot.convergence({}), "`runs` must hold at least one title and its `Convergence`"),
        (
            lambda: plot.convergence({"a": Convergence([1, 2])}),
            r"`runs\['a'\]` must have an `error`, an `estimate` or a `gap`",
        ),
        (
            lambda: plot.convergence({"a": Convergence([2, 2], [1.0, 1.0])}),
            r"`runs\['a'\].evaluations` must be positive and ascend; got \[2.0, 2.0\]",
        ),
        (
            lambda: plot.convergence({"a": Convergence([0, 2], [1.0, 1.0])}),
            r"must be positive and ascend; got \[0.0, 2.0\]",
        ),
        (
            lambda: plot.convergence({"a": Convergence([1, 2], [1.0])}),
            r"`runs\['a'\].error` must have one value for each of the evaluations; got \(1,\) "
            r"against \(2,\)",
        ),
        (
            lambda: plot.convergence({"a": Convergence([1, 2], gap=[1.0, -1.0])}),
            r"`runs\['a'\].gap` must not be negative; got -1.0. Take the absolute value",
        ),
        (
            lambda: plot.convergence({"a": Convergence([1], [np.inf])}),
            r"`runs\['a'\].error` must be finite",
        ),
        (
            lambda: plot.convergence({"a": Convergence([1], [1.0])}, tolerance=0.0),
            "`tolerance` must be positive and finite; got 0",
        ),
    ],
)
def test_what_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
