"""What `import attrax` costs a program that has imported jax already."""

import json
import statistics
import subprocess
import sys
from typing import Any

from .report import Claim, Table, main

LIMIT_SECONDS = 0.3
UNWANTED = ("matplotlib", "flax", "optax", "torch", "scipy", "PIL", "jinja2", "rich", "orbax")

# Run in a fresh interpreter each time. What jax itself loads later, on first use, is not attrax's
# doing, but it is in the time: a user waits for it all the same.
_SCRIPT = """
import json, sys, time
start = time.perf_counter()
import jax
jax_seconds = time.perf_counter() - start
before = set(sys.modules)
start = time.perf_counter()
import attrax
seconds = time.perf_counter() - start
print(json.dumps([jax_seconds, seconds, sorted(set(sys.modules) - before)]))
"""


def measure() -> tuple[float, float, list[str]]:
    """Seconds of `import jax`, of `import attrax` after it, and the modules that came with it."""
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    jax_seconds, seconds, modules = json.loads(result.stdout.splitlines()[-1])
    return jax_seconds, seconds, modules


def run(quick: bool = False) -> list[Table]:
    """The table of this benchmark."""
    measure()  # writes the byte code, and fills the file cache
    runs = [measure() for _ in range(3 if quick else 21)]
    modules = runs[0][2]
    packages = sorted({module.partition(".")[0] for module in modules})
    own = [module for module in modules if module.partition(".")[0] == "attrax"]
    rows: list[list[Any]] = [
        _row("import jax", [run[0] for run in runs], None),
        _row("import attrax, after it", [run[1] for run in runs], len(modules)),
    ]
    unwanted = sorted(set(packages) & set(UNWANTED))
    return [
        Table(
            name="import_time",
            title="Import",
            caption=(
                f"Fresh interpreters ({len(runs)} runs), byte code compiled before; seconds, "
                "median and quartiles. Modules: those newly loaded."
            ),
            columns=[
                ("statement", ""),
                ("median s", ".3f"),
                ("lower s", ".3f"),
                ("upper s", ".3f"),
                ("modules", "d"),
            ],
            rows=rows,
            claims=[
                Claim("seconds of import attrax", rows[1][1], at_most=LIMIT_SECONDS),
                Claim(f"packages loaded of {', '.join(UNWANTED)}", float(len(unwanted)), at_most=0),
            ],
            notes=[f"Packages: {', '.join(packages)}.", f"Own modules: {', '.join(own)}."],
            raw={"modules": modules},
        )
    ]


def _row(statement: str, seconds: list[float], modules: int | None) -> list[Any]:
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return [statement, median, lower, upper, modules]


if __name__ == "__main__":
    main(run, __doc__)
