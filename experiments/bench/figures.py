"""Figures of the bench: repeated timings, ratios and peak memory."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        what: the name of the measurement.
        least: minimum over the repeats.
        middle: median over the repeats.
        unit: of both; empty for a ratio.
        repeats: number of measurements.
        note: what it is compared with, or why it was left out.
    """

    what: str
    least: float
    middle: float
    unit: str
    repeats: int
    note: str = ""


def timed(work: Callable[[], object], repeats: int, *, warm: bool = True) -> list[float]:
    """Return the seconds of each repeat; `warm` runs once before, untimed, to read files and fill caches."""
    if warm:
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def in_turn(works: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Time several functions in turn, round after round, so that a busy minute affects all of them alike."""
    for work in works:
        work()
    rounds = [[timed(work, 1, warm=False)[0] for work in works] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def figure(what: str, values: list[float], unit: str, note: str = "") -> Figure:
    """Summarise the repeats of one measurement."""
    return Figure(what, min(values), median(values), unit, len(values), note)


def ratios(what: str, seconds: list[float], bare_seconds: list[float]) -> Figure:
    """Compare two timings: minimum over minimum and median over median."""
    note = f"{median(seconds):.3g} s against {median(bare_seconds):.3g} s"
    return Figure(
        what, min(seconds) / min(bare_seconds), median(seconds) / median(bare_seconds), "", len(seconds), note
    )


def peak_mb() -> float:
    """Return the peak resident memory of this process since `forget_peak`, in MB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert match
    return int(match[1]) / 1000


def forget_peak() -> None:
    """Reset the peak of resident memory to its present value."""
    CLEAR.write_text("5", encoding="utf-8")
