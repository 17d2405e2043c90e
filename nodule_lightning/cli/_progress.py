"""Progress on standard error: a bar on a terminal, an occasional line in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")

SHORTEST_S, LONGEST_S = 10, 60


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items, and show how many of the total are done.

    Without a terminal, a line is printed at each tenth of the work and after each minute, but at least 10 s apart, so
    that short tasks print nothing.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, description, total, console=console, transient=True)
    else:
        yield from _lines(items, description, total)


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    began = shown = time.monotonic()
    tenths_shown = 0
    for done, item in enumerate(items, start=1):
        now, tenths = time.monotonic(), 10 * done // max(total, 1)
        silence = now - shown
        if silence >= SHORTEST_S and (tenths > tenths_shown or silence >= LONGEST_S):
            print(f"{description}: {done} of {total} after {now - began:.0f} s", file=sys.stderr, flush=True)
            shown, tenths_shown = now, tenths
        yield item
