"""Tables of measurements: as plain text, as markdown, as JSON."""

import argparse
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import timing

RESULTS = Path(__file__).parent / "results"
WIDTH = 100


@dataclass(frozen=True)
class Claim:
    """One number against a limit: what `value` is, and whether it must be at most or at least."""

    text: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the number is within its limits."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def __str__(self) -> str:
        limits = [("at least", self.at_least), ("at most", self.at_most)]
        wanted = ", ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
        return f"{self.text}: {self.value:.3g} ({wanted}): {'holds' if self.holds else 'MISSED'}"


@dataclass(frozen=True)
class Table:
    """Rows of numbers or text; each column is a heading and a format, such as `("ms", ".1f")`."""

    name: str
    title: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    raw: dict[str, Any] = field(default_factory=dict)
    benchmark: str = ""

    def cells(self) -> list[list[str]]:
        """The headings and rows as text; what was not measured is a dash."""
        formats = [spec for _, spec in self.columns]
        rows = [[_text(v, spec) for v, spec in zip(row, formats, strict=True)] for row in self.rows]
        return [[heading for heading, _ in self.columns], *rows]


def _text(value: Any, spec: str) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else format(value, spec)


def plain(table: Table) -> str:
    """A table for the terminal."""
    cells = table.cells()
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [table.title, "=" * len(table.title), textwrap.fill(table.caption, WIDTH), ""]
    for i, row in enumerate(cells):
        lines.append("  ".join(_aligned(row, widths, str.ljust, str.rjust)).rstrip())
        if i == 0:
            lines.append("  ".join("-" * width for width in widths))
    lines.append("")
    lines += [textwrap.fill(note, WIDTH) for note in table.notes]
    lines += [f"claim  {claim}" for claim in table.claims]
    return "\n".join(lines).rstrip() + "\n"


def _aligned(
    row: Sequence[str], widths: Sequence[int], first: Callable, rest: Callable
) -> list[str]:
    return [(first if i == 0 else rest)(cell, widths[i]) for i, cell in enumerate(row)]


def markdown(table: Table) -> str:
    """A table for the documentation."""
    head, *rows = table.cells()
    rule = [":--", *["--:"] * (len(head) - 1)]
    lines = [f"## {table.title}", "", textwrap.fill(table.caption, WIDTH), ""]
    lines += ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
    if table.notes:
        lines += ["", *(textwrap.fill(note, WIDTH) for note in table.notes)]
    if table.claims:
        lines += ["", *(f"- {claim}" for claim in table.claims)]
    return "\n".join(lines) + "\n"


def heading(environment: dict[str, Any]) -> str:
    """The machine, versions and date in words."""
    e = environment
    on = f"{e['processor']}, {e['cores']} cores, {e['memory_gib']} GiB, {e['system']}"
    if e["backend"] != "cpu":
        on = f"{e['device']}; {on}"
    threads = "1 thread" if e["threads"] == 1 else f"{e['threads']} threads"
    load = f"{threads} for every side; load average at the start {e['load']}"
    if "load_at_end" in e:
        load += f", at the end {e['load_at_end']}"
    if "share" in e:
        load += f"; that thread had its core for {100 * e['share']:.1f} % of the time measured"
    busy = "The machine was busy: the times are not a record." if timing.is_busy(e) else ""
    names = timing.PACKAGES
    versions = ", ".join(f"{name} {e[name] or 'not installed'}" for name in ("python", *names))
    lines = f"{e['date']}: {on}; {load}.", f"{versions}.", busy
    return "\n".join(textwrap.fill(line, WIDTH) for line in lines if line)


def claims(tables: Sequence[Table]) -> str:
    """How many claims hold, and those that do not, for the top of a record."""
    found = [(table, claim) for table in tables for claim in table.claims]
    missed = [f"- {table.title}: {claim}" for table, claim in found if not claim.holds]
    held = f"{len(found) - len(missed)} of {len(found)} claims hold."
    return "\n".join([held, *(["Missed:", "", *missed] if missed else [])]) + "\n"


# --------------------------------------------------------------------------------- a record


class Record(NamedTuple):
    """What was measured in one environment, in one run or in several."""

    environment: dict[str, Any]
    tables: list[Table]


def stored(stem: Path) -> Record | None:
    """What `stem.json` holds."""
    path = stem.with_name(stem.name + ".json")
    if not path.exists():
        return None
    document = json.loads(path.read_text("utf-8"))
    return Record(document["environment"], [_table(data) for data in document["tables"]])


def joined(old: Record, new: Record) -> Record:
    """The tables of both, those of the new one in place of equal names.

    Raises:
        ValueError: the machine or the versions differ.
    """
    if apart := timing.differences(old.environment, new.environment):
        raise ValueError(f"The record was made elsewhere: {apart}. Name another with --out.")
    tables = {table.name: table for table in (*old.tables, *new.tables)}
    loads = ("load", "load_at_end")
    highest = {
        name: max(r.environment.get(name) or 0 for r in (old, new))
        for name in loads
        if any(name in r.environment for r in (old, new))
    }
    return Record(new.environment | highest, list(tables.values()))


def share_of_core(tables: Sequence[Table]) -> float | None:
    """The processor time of everything that was timed, over the time on the clock."""
    found = [pair for table in tables for pair in _measured(table.raw)]
    return sum(cpu for _, cpu in found) / sum(wall for wall, _ in found) if found else None


def _measured(raw: Any) -> Iterator[tuple[float, float]]:
    if isinstance(raw, dict):
        if {"median", "cpu"} <= set(raw):
            yield raw["median"], raw["cpu"]
        for value in raw.values():
            yield from _measured(value)


def save(stem: Path, environment: dict[str, Any], tables: Sequence[Table]) -> None:
    """Write `stem.json` and `stem.md`."""
    if environment["threads"] == 1 and (share := share_of_core(tables)):
        environment = environment | {"share": round(share, 4)}
    stem.parent.mkdir(parents=True, exist_ok=True)
    document = {"environment": environment, "tables": [_plain_data(table) for table in tables]}
    stem.with_name(stem.name + ".json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    head = "# Benchmarks\n", heading(environment) + "\n", claims(tables)
    stem.with_name(stem.name + ".md").write_text(
        "\n".join([*head, *map(markdown, tables)]), "utf-8"
    )


def _plain_data(table: Table) -> dict[str, Any]:
    data = asdict(table)
    data["columns"] = [heading for heading, _ in table.columns]
    data["formats"] = [spec for _, spec in table.columns]
    data["claims"] = [asdict(claim) | {"holds": claim.holds} for claim in table.claims]
    return data


def _table(data: dict[str, Any]) -> Table:
    data = dict(data)
    columns = zip(data.pop("columns"), data.pop("formats"), strict=True)
    claims = [
        Claim(**{name: value for name, value in claim.items() if name != "holds"})
        for claim in data.pop("claims")
    ]
    return Table(columns=list(columns), claims=claims, **data)


def main(run: Callable[[bool], list[Table]], description: str | None) -> None:
    """The command line of one benchmark: print its tables."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer runs: a look, not a record")
    environment = timing.environment()
    print(heading(environment), end="\n\n")
    for table in run(parser.parse_args().quick):
        print(plain(table))
