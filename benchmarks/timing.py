"""How the benchmarks measure: compiling apart from running, several programs in turn."""

import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

Step = Callable[[int], Any]


class Timing(NamedTuple):
    """Seconds of one program over several runs: median, quartiles, least, and processor time.

    `cpu` is the median of the processor time of the whole process, all threads together. Where
    other programs want the same cores, it is disturbed far less than the time on the clock.
    """

    median: float
    lower: float
    upper: float
    least: float
    cpu: float
    runs: int

    @property
    def spread(self) -> float:
        """The distance of the quartiles, relative to the median."""
        return (self.upper - self.lower) / self.median


class Effort(NamedTuple):
    """How often each program runs.

    A comparison ends after `most` rounds, or after `seconds`, but not before `fewest` rounds.
    """

    fewest: int
    most: int
    seconds: float


SHORTEST = 0.05
"""Seconds that a turn lasts at least."""

FULL = Effort(fewest=4, most=30, seconds=15)
QUICK = Effort(fewest=3, most=3, seconds=0)


def effort(quick: bool) -> Effort:
    """Few runs for a look, many for a record."""
    return QUICK if quick else FULL


def compiled(fn: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """The compiled program of `fn` at these arguments, and the seconds to trace and compile it."""
    # A program found in a cache on disk would cost nothing.
    jax.config.update("jax_enable_compilation_cache", False)
    start = time.perf_counter()
    program = jax.jit(fn).lower(*args).compile()
    return program, time.perf_counter() - start


def in_turn(steps: Mapping[str, Step], effort: Effort) -> dict[str, Timing]:
    """Time several programs in turn, so that a disturbance strikes all of them alike.

    A turn is one call, or as many as take `SHORTEST` seconds: else a short program would be timed
    with the caches as the one before it left them. One call before is not measured.

    Args:
        steps: by name, a function of the number of the run; the number is there to rotate inputs.
        effort: how often.
    """
    calls = {name: math.ceil(SHORTEST / _turn(step, 0, 1)[0]) for name, step in steps.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    start = time.perf_counter()
    for k in range(effort.most):
        if k >= effort.fewest and time.perf_counter() - start > effort.seconds:
            break
        for name, step in steps.items():
            measured[name].append(_turn(step, k, calls[name]))
    return {name: summary(seconds) for name, seconds in measured.items()}


def _turn(step: Step, k: int, calls: int) -> tuple[float, float]:
    """Seconds of one of several calls: on the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(calls):
        jax.block_until_ready(step(k + i))
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


def summary(seconds: list[tuple[float, float]]) -> Timing:
    """Medians and quartiles of pairs (time on the clock, processor time)."""
    walls, cpus = zip(*seconds, strict=True)
    lower, median, upper = statistics.quantiles(walls, n=4, method="inclusive")
    return Timing(median, lower, upper, min(walls), statistics.median(cpus), len(walls))


def threads() -> int:
    """How many threads each side has: the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


PACKAGES = ("attrax", "jax", "jaxlib", "flax", "numpy", "torch", "captum")


def environment() -> dict[str, Any]:
    """The machine, the versions and the date: what a measured number is worth nothing without."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": _load(),
        **{package: version(package) for package in PACKAGES},
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In which machine or versions two environments differ; times are compared within one only."""
    names = ("device", "processor", "cores", "threads", "system", "python", *PACKAGES)
    return ", ".join(
        f"{name} {one.get(name)} and {other.get(name)}"
        for name in names
        if one.get(name) != other.get(name)
    )


def is_busy(environment: Mapping[str, Any]) -> bool:
    """Whether other programs wanted the same cores.

    Of a single thread that is known from what was measured: its share of the processor while it was
    timed. Of several threads, by the load at the start and at the end: the benchmarks themselves
    are a load of one for each. Programs whose threads wait for one another, such as PyTorch's, slow
    down manyfold when one of them has no core: on a busy machine the comparison with them is worth
    nothing.
    """
    if environment["threads"] == 1:
        return environment.get("share", 1) < 0.9
    cores = environment["cores"] or 1
    start, end = environment["load"] or 0, environment.get("load_at_end") or 0
    return start > cores / 2 or end > 1.5 * cores


def version(package: str) -> str | None:
    """The version of a package, found without importing it; None where it is not installed."""
    if package == "attrax":
        import attrax

        return attrax.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _load() -> float | None:
    """Programs that wanted to run in the last minute, this one included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
