"""Run the benchmarks: `python -m benchmarks [--quick] [NAME ...]`."""

import argparse
import dataclasses
import importlib
import time
from pathlib import Path

from . import plots, report, timing
from .report import Record, Table

# Those that measure no time stand last: they may run on a busy machine.
BENCHMARKS = (
    "import_time",
    "input",
    "efficiency",
    "layers",
    "conductance",
    "targets",
    "tolerance",
    "sprites",
    "prior_memory",
    "compile_once",
    "memory",
    "precision",
    "cut_flops",
    "devices",
)
# Not of speed, and long: run when named, each a record of its own, `results/faithfulness`.
EVIDENCE = ("faithfulness", "selectivity", "certified", "honesty", "reading")
KNOWN = (*BENCHMARKS, *EVIDENCE)


def main() -> None:
    """Print the tables, and write them down where a file is named or the run is a full one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(KNOWN)}; or some of its networks, as in input:mlp,resnet18",
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs: a look, not a record")
    parser.add_argument(
        "--out",
        type=Path,
        help="where to write OUT.json and OUT.md; by default a full run is written to "
        "benchmarks/results, named after the device or the evidence",
    )
    parser.add_argument(
        "--into-record",
        action="store_true",
        help="put these tables into the record instead of writing a new one: a record in parts",
    )
    options = parser.parse_args()
    names = options.names or BENCHMARKS
    if unknown := {name.partition(":")[0] for name in names} - set(KNOWN):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    environment = timing.environment()
    out = options.out or (None if options.quick else record(environment, options))
    before = report.stored(out) if out and options.into_record else None
    if before and (apart := timing.differences(before.environment, environment)):
        parser.error(f"{out}.json was made elsewhere: {apart}; give another --out")
    print(report.heading(environment), end="\n\n", flush=True)
    tables = []
    for name in names:
        start = time.perf_counter()
        benchmark, _, keys = name.partition(":")
        run = importlib.import_module(f".{benchmark}", __package__).run
        try:
            found = run(options.quick, keys.split(",")) if keys else run(options.quick)
        except ImportError as error:  # of a package with the weights or the pictures
            print(f"{name}: not run. {error}\n", flush=True)
            continue
        for table in found:
            print(report.plain(table), flush=True)
        print(f"[{name}: {time.perf_counter() - start:.0f} s]\n", flush=True)
        tables += [dataclasses.replace(table, benchmark=benchmark) for table in found]
    environment["load_at_end"] = timing.environment()["load"]
    if out:
        made = Record(environment, tables)
        made = report.joined(before, made) if before else made
        made = made._replace(tables=in_order(made.tables))
        report.save(out, made.environment, made.tables)
        pictures = [str(path) for path in plots.draw(out, made)]
        print("Written to", ", ".join([f"{out}.json", f"{out}.md", *pictures]) + ".")


def record(environment: dict, options: argparse.Namespace) -> Path | None:
    """Where a full run is written to: one of everything, of one kind of evidence, or a part."""
    parts = [name.partition(":") for name in options.names]
    whole = options.into_record or not any(keys for _, _, keys in parts)
    evidence = {name for name, _, _ in parts if name in EVIDENCE}
    if len(evidence) == 1 and len(parts) == 1 and whole:
        return report.RESULTS / evidence.pop()
    return default_path(environment) if options.into_record or not parts else None


def in_order(tables: list[Table]) -> list[Table]:
    """As the benchmarks stand above, whichever ran first."""
    return sorted(tables, key=lambda table: KNOWN.index(table.benchmark))


def default_path(environment: dict) -> Path:
    """One record for each kind of device: `cpu-2core`, or the name of an accelerator."""
    if environment["backend"] == "cpu":
        name = f"cpu-{environment['threads']}core"
    else:
        name = "-".join(environment["device"].lower().split())
    return report.RESULTS / name


if __name__ == "__main__":
    main()
