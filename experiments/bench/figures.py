"""What a stretch of the bench measures, and how: repeats, peak memory."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: was measured.
        least: of all repeats.
        middle: their median.
        unit: of both; empty for a ratio.
        repeats: how often it was measured.
        note: what it is compared with, or why it was left out.
    """

    what: str
    least: float
    middle: float
    unit: str
    repeats: int
    note: str = ""


def timed(work: Callable[[], object], repeats: int, *, warm: bool = True) -> list[float]:
    """Give the seconds of each repeat; the first run, which reads files and fills caches, is left out where warm."""
    if warm:
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def in_turn(works: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Time several works one after the other, again and again, so that a busy minute hits all of them alike."""
    for work in works:
        work()
    rounds = [[timed(work, 1, warm=False)[0] for work in works] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def figure(what: str, values: list[float], unit: str, note: str = "") -> Figure:
    """Sum up the repeats."""
    return Figure(what, min(values), median(values), unit, len(values), note)


def ratios(what: str, seconds: list[float], bare_seconds: list[float]) -> Figure:
    """Divide the least by the least and the median by the median."""
    note = f"{median(seconds):.3g} s against {median(bare_seconds):.3g} s"
    return Figure(
        what, min(seconds) / min(bare_seconds), median(seconds) / median(bare_seconds), "", len(seconds), note
    )


def peak_mb() -> float:
    """Give the most memory that this process has held since `forget_peak`."""
    match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert match
    return int(match[1]) / 1000


def forget_peak() -> None:
    """Let the peak of memory start anew from what is held now."""
    CLEAR.write_text("5", encoding="utf-8")
