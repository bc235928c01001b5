"""Run the benchmarks: `python -m benchmarks [--quick] [NAME ...]`."""

import argparse
import importlib
import time
from pathlib import Path

from . import report, timing

# Those that measure no time stand last: they may run on a busy machine.
BENCHMARKS = (
    "import_time",
    "integrated_gradients",
    "sprites",
    "prior_memory",
    "compile_once",
    "memory",
    "cut_flops",
)
# Not of speed, and long: run when named, each a record of its own, `results/faithfulness`.
EVIDENCE = ("faithfulness", "selectivity")
KNOWN = (*BENCHMARKS, *EVIDENCE)


def main() -> None:
    """Print the tables, and write them down where a file is named or the run is a full one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KNOWN))
    parser.add_argument("--quick", action="store_true", help="fewer runs: a look, not a record")
    parser.add_argument(
        "--out",
        type=Path,
        help="where to write OUT.json and OUT.md; by default a full run is written to "
        "benchmarks/results, named after the device or the evidence",
    )
    options = parser.parse_args()
    names = options.names or BENCHMARKS
    if unknown := set(names) - set(KNOWN):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    environment = timing.environment()
    print(report.heading(environment), end="\n\n", flush=True)
    tables = []
    for name in names:
        start = time.perf_counter()
        try:
            found = importlib.import_module(f".{name}", __package__).run(options.quick)
        except ImportError as error:  # of a package with the weights or the pictures
            print(f"{name}: not run. {error}\n", flush=True)
            continue
        for table in found:
            print(report.plain(table), flush=True)
        print(f"[{name}: {time.perf_counter() - start:.0f} s]\n", flush=True)
        tables += found
    environment["load_at_end"] = timing.environment()["load"]
    if out := options.out or (None if options.quick else record(options.names, environment)):
        report.save(out, environment, tables)
        print(f"Written to {out}.json and {out}.md.")


def record(names: list[str], environment: dict) -> Path | None:
    """Where a full run is written to: one of everything, or of one kind of evidence."""
    if not names:
        return default_path(environment)
    return report.RESULTS / names[0] if len(names) == 1 and names[0] in EVIDENCE else None


def default_path(environment: dict) -> Path:
    """One record for each kind of device: `cpu-2core`, or the name of an accelerator."""
    if environment["backend"] == "cpu":
        name = f"cpu-{environment['cores']}core"
    else:
        name = "-".join(environment["device"].lower().split())
    return report.RESULTS / name


if __name__ == "__main__":
    main()
