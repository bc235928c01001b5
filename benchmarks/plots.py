"""Pictures of a record: `python -m benchmarks.plots benchmarks/results/cpu-1core`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import report, tolerance
from .comparison import ATTRAX, CAPTUM, FOR_CPU
from .report import Record, Table

BLUE, GREY, ORANGE, RED = "#1f5fa8", "#8a8f98", "#d9730d", "#b3261e"
COLOURS = {"Gauss-Legendre": BLUE, "midpoint": ORANGE, "trapezoid": GREY}


def draw(stem: Path, record: Record) -> list[Path]:
    """What the record has figures for, as PNG beside it."""
    pictures = {"captum": against_captum(record.tables), "tolerance": to_tolerance(record.tables)}
    paths = []
    for name, figure in pictures.items():
        if figure is not None:
            paths.append(stem.with_name(f"{stem.name}-{name}.png"))
            figure.savefig(paths[-1], dpi=160)
    return paths


# -------------------------------------------------------------------------- against Captum


def comparisons(tables: Sequence[Table]) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """By question, the label of each comparison and how much faster than Captum attrax is."""
    found: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for table in tables:
        question, _, name = table.title.partition(": ")
        name = name.partition(",")[0]
        if table.name.startswith(("input_", "targets_")):
            found.setdefault(question, []).append((name, _ratios(table.raw["timings"])))
        elif table.name.startswith("layers_"):
            for place in table.raw["layers"].values():
                label = f"{name}, depth {place['depth']:.2f}"
                found.setdefault(question, []).append((label, _ratios(place["timings"])))
    kept = {q: [row for row in rows if row[1]] for q, rows in found.items()}
    return {question: rows for question, rows in kept.items() if rows}


def _ratios(timings: Mapping[str, Any]) -> dict[str, float]:
    if CAPTUM not in timings:
        return {}
    names = (ATTRAX, FOR_CPU)
    captum = timings[CAPTUM]["median"]
    return {name: captum / timings[name]["median"] for name in names if name in timings}


def against_captum(tables: Sequence[Table]) -> Figure | None:
    """Every comparison on one axis."""
    found = comparisons(tables)
    if not found:
        return None
    count = sum(len(rows) + 1 for rows in found.values())
    figure = Figure(figsize=(8, 0.9 + 0.27 * count), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1, zorder=2.5)
    places, labels, y = [], [], 0.0
    for question, rows in found.items():
        axes.text(0, y, question, transform=axes.get_yaxis_transform(), **_BOLD)
        y += 1
        for label, ratios in rows:
            axes.plot([*ratios.values(), 1], [y] * (len(ratios) + 1), color="#d0d4da", zorder=2)
            for name, ratio in ratios.items():
                best = name == list(ratios)[-1]
                axes.plot(ratio, y, "o", color=BLUE, mfc=BLUE if best else "white", zorder=3)
            places.append(y)
            labels.append(label)
            y += 1
        y += 0.2
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.4, -0.8)
    axes.set_xlabel("times faster than Captum, eager")
    low, high = axes.get_xlim()
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.5 <= t <= 1.5 * high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", color="#eceef1", zorder=0)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.plot([], [], "o", color=BLUE, label="attrax, with for_cpu where there are convolutions")
    axes.plot([], [], "o", color=BLUE, mfc="white", label="as it stands")
    figure.legend(loc="outside upper right", frameon=False, ncols=2, fontsize=9)
    return figure


_BOLD: dict[str, Any] = {"fontweight": "bold", "va": "center", "ha": "left", "fontsize": 9}


# --------------------------------------------------------------------------- to a tolerance


def to_tolerance(tables: Sequence[Table]) -> Figure | None:
    """True errors against evaluations."""
    tables = [table for table in tables if table.name.startswith("tolerance_")]
    if not tables:
        return None
    figure = Figure(figsize=(4.4 * len(tables), 4.2), layout="constrained")
    for i, table in enumerate(tables):
        axes = figure.add_subplot(1, len(tables), i + 1)
        _errors(axes, table)
        if i == 0:
            axes.set_ylabel(f"true error, {100 * tolerance.MET:.0f} % of the digits are below")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _errors(axes: Axes, table: Table) -> None:
    for rule, curve in table.raw["curves"].items():
        axes.plot(list(map(int, curve)), list(curve.values()), color=COLOURS[rule], label=rule)
    evaluations = dict(table.raw["evaluations"])
    ninety_nine = {row[0]: row[5] for row in table.rows}
    tight = [name for name in evaluations if name.startswith("tolerance")]
    axes.plot(
        [evaluations[name] for name in tight],
        [ninety_nine[name] for name in tight],
        "o",
        color="black",
        label="to a tolerance (mean)",
    )
    for name in tight:
        text = name.removeprefix("tolerance ")
        at = evaluations[name], ninety_nine[name]
        axes.annotate(text, at, (6, 4), textcoords="offset points", fontsize=9)
    captum = f"{CAPTUM}, {tolerance.HABIT}"
    if captum in evaluations:
        at = evaluations[captum], ninety_nine[captum]
        axes.plot(*at, "D", color=RED, label=f"Captum, {tolerance.HABIT} steps")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [4, 8, 16, 32, 64, 128, 256]
    axes.set_xlim(3.5, 320)
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.set_xlabel("gradients for each digit")
    axes.set_title(table.title.partition(": ")[2], fontsize=10)
    axes.grid(color="#eceef1")
    axes.spines[["right", "top"]].set_visible(False)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if found := report.stored(Path(name)):
            print(*draw(Path(name), found), sep="\n")
