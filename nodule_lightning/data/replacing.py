"""Put whole folders into a cache, among several processes that may be killed at any moment."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

DRAFT: Final = ".tmp-"
OLD: Final = ".old-"


def remove_leftovers(cache: Path) -> None:
    """Delete what killed runs left half-written, and bring back an entry whose successor did not take its place."""
    if not (cache / "scans").is_dir():
        return
    with lock(cache):
        for old in (cache / "scans").glob(f"{OLD}*"):
            final = old.with_name(old.name.removeprefix(OLD))
            if final.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.replace(final)
        for draft in (cache / "scans").glob(f"{DRAFT}*"):
            # The lock of a run that still writes is held; that of a killed one died with it.
            with suppress(OSError), held(draft, wait=False):
                shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def lock(cache: Path) -> Iterator[None]:
    """Keep every other process that asks for it from changing the cache meanwhile."""
    (cache / "scans").mkdir(parents=True, exist_ok=True)
    with held(cache / "scans"):
        yield


@contextmanager
def held(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock; it is given back when the process dies, however it does.

    Raises:
        OSError: another holds it, and `wait` is False.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def take_place(draft: Path, final: Path) -> None:
    """Put a folder in the place of another, under the cache's lock; what was there stays if that fails."""
    # A folder cannot replace one that is not empty, so an older entry steps aside first.
    old = final.with_name(f"{OLD}{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    try:
        draft.replace(final)
    except OSError:
        if old.exists():
            old.replace(final)
        raise
    shutil.rmtree(old, ignore_errors=True)
