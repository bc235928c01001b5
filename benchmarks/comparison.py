"""Several ways to compute the same attribution, timed in turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import attrax

from . import timing
from .networks import Subject
from .peers import Captum, missing
from .timing import Step, Timing

ATTRAX, FOR_CPU, CAPTUM = "attrax", "attrax, for_cpu", "Captum"
TOLERANCE = 5e-3

COLUMNS = [
    ("", ""),
    ("s", ".4f"),
    ("least", ".4f"),
    ("IQR %", ".0f"),
    ("ms/node", ".2f"),
    ("first call s", ".1f"),
    ("faster than Captum by", ".2f"),
]
CAPTION = (
    "Seconds of a run once compiled: median, least, and the distance of the quartiles; the sides "
    "run in turn. First call: to trace and compile, once; of Captum, its first run. Faster than "
    "Captum by: the median of Captum (eager, the same chunks) over that of the row."
)


class Side(NamedTuple):
    """A step to time, and the seconds it took to get there: to trace and to compile."""

    step: Step
    first: float


def compiled(program: Callable[..., Any], subject: Subject) -> Side:
    """A program of a model, an example and a target."""
    # Taken out of their arrays before: for a small network that takes as long as the program.
    arguments = [subject.args(k) for k in range(2)]
    executable, seconds = timing.compiled(program, *arguments[0])
    return Side(lambda k: executable(*arguments[k % 2]), seconds)


def called(step: Step) -> Side:
    """What compiles when it is first called, if it does."""
    start = time.perf_counter()
    jax.block_until_ready(step(0))
    return Side(step, time.perf_counter() - start)


def ours(subject: Subject) -> str:
    """The side that a user of this device would choose: convolutions on a CPU are rewritten."""
    return FOR_CPU if subject.is_convolutional and jax.default_backend() == "cpu" else ATTRAX


def by_attrax(program: Callable[..., Any], subject: Subject) -> Side:
    """That side."""
    rewritten = ours(subject) == FOR_CPU
    return compiled(attrax.for_cpu(program) if rewritten else program, subject)


def captum(key: str, subject: Subject) -> Captum | None:
    """The peer, if it is installed."""
    return None if missing() else Captum(key, subject)


def timed(sides: Mapping[str, Side], quick: bool) -> dict[str, Timing]:
    """All sides in turn."""
    steps = {name: side.step for name, side in sides.items()}
    return timing.in_turn(steps, timing.effort(quick))


def check_equal(sides: Mapping[str, Side], at: str) -> None:
    """That all compute the same as the first.

    Rounding puts a few of the points on the other side of a kink of ReLU, and there single entries
    differ by 1e-2 of the largest. With another rule or baseline, all of them would.
    """
    first, *others = sides
    expected = np.asarray(sides[first].step(0))
    for name in others:
        actual = np.asarray(sides[name].step(0))
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        if not error < TOLERANCE:
            raise AssertionError(f"{name} differs from {first} by {error:.1e} of the norm: {at}.")


def rows(
    sides: Mapping[str, Side], timings: Mapping[str, Timing], nodes: int
) -> list[list[str | float | None]]:
    """One row a side, as in `COLUMNS`; one that says so where the peer is missing."""
    captum = timings.get(CAPTUM)
    found: list[list[str | float | None]] = [
        [
            name,
            t.median,
            t.least,
            100 * t.spread,
            1000 * t.median / nodes,
            sides[name].first,
            captum.median / t.median if captum else None,
        ]
        for name, t in timings.items()
    ]
    if captum is None:
        found.append(absent(CAPTUM, missing() or "not measured"))
    return found


def absent(name: str, reason: str) -> list[str | float | None]:
    """A row without figures."""
    return [f"{name}: {reason}", *[None] * (len(COLUMNS) - 1)]


def raw(timings: Mapping[str, Timing]) -> dict[str, Any]:
    """All that was measured."""
    return {name: t._asdict() for name, t in timings.items()}
