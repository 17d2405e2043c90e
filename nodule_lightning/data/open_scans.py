"""Pool of open cache entries, kept between patches: opening one takes longer than cutting a patch from it."""

import resource
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Opened = TypeVar("Opened")

# Upper bound, whatever the limit on open files.
MOST_OPEN: Final = 4096


class OpenScans(Generic[Opened]):
    """Open scans by index, first in, first out.

    A pickled pool is empty: a memory map would be pickled as the whole volume, so each worker opens its own.
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
        """Return an open scan; open it first if needed."""
        if index not in self._scans:
            if len(self._scans) >= self._most:
                del self._scans[next(iter(self._scans))]
            self._scans[index] = open_scan()
        return self._scans[index]


def most_open() -> int:
    """Return how many scans may stay open: each holds two files, and half of the limit on open files is for others."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if limit == resource.RLIM_INFINITY else min(max(limit // 4, 1), MOST_OPEN)
