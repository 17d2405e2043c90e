"""Keep scans of a cache open between patches: to open one takes longer than to cut a patch from it."""

import resource
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Opened = TypeVar("Opened")

# However many files the process may hold open.
MOST_OPEN: Final = 4096


class OpenScans(Generic[Opened]):
    """Scans by their index; the one that was opened first makes room for one more.

    Pickled, it holds none: a worker opens the scans itself, since a memory map would travel as the whole volume.
    """

    def __init__(self) -> None:
        self._most = most_open()
        self._scans: dict[int, Opened] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_most": self._most, "_scans": {}}

    def __iter__(self) -> Iterator[int]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)

    def get(self, index: int, open_scan: Callable[[], Opened]) -> Opened:
        """Give a scan that is open, or open it."""
        if index not in self._scans:
            if len(self._scans) >= self._most:
                del self._scans[next(iter(self._scans))]
            self._scans[index] = open_scan()
        return self._scans[index]


def most_open() -> int:
    """Say how many scans may stay open: each holds two files, and half of what the process may open is for others."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if limit == resource.RLIM_INFINITY else min(max(limit // 4, 1), MOST_OPEN)
