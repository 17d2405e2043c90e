"""Show how far the work is, on the standard error: a bar on a terminal, a plain line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")

SHORTEST_S, LONGEST_S = 10, 60


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass the items on, and show how many of the total have come.

    Without a terminal a line is due at each tenth of the work and after each minute, but not sooner than 10 s after
    the line before: a short piece of work says nothing.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, description, total, console=console, transient=True)
    else:
        yield from _lines(items, description, total)


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    began = said = time.monotonic()
    tenths_said = 0
    for done, item in enumerate(items, start=1):
        now, tenths = time.monotonic(), 10 * done // max(total, 1)
        silence = now - said
        if silence >= SHORTEST_S and (tenths > tenths_said or silence >= LONGEST_S):
            print(f"{description}: {done} of {total} after {now - began:.0f} s", file=sys.stderr, flush=True)
            said, tenths_said = now, tenths
        yield item
