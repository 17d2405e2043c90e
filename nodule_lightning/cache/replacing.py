"""Put whole folders into a cache, among several processes that may be killed at any moment.

Locks are taken on regular files that are open for writing: NFS locks nothing else.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from nodule_lightning.io.files import drafts_of

DRAFT: Final = ".tmp-"
OLD: Final = ".old-"
LOCK: Final = ".lock"
# The files of a cache that are replaced one by one, under its lock.
FILES: Final = ("preparation.html", "scans.csv", "failures/*.txt", "scans/*/scan.json")


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
            with suppress(OSError), held(draft / LOCK, wait=False):
                shutil.rmtree(draft, ignore_errors=True)
        for pattern in FILES:
            for file in drafts_of(cache, pattern):
                file.unlink(missing_ok=True)


@contextmanager
def lock(cache: Path) -> Iterator[None]:
    """Keep every other process that asks for it from changing the cache meanwhile."""
    (cache / "scans").mkdir(parents=True, exist_ok=True)
    with held(cache / "scans" / LOCK):
        yield


@contextmanager
def held(file: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a file's lock; it is given back when the process dies, however it does.

    Args:
        file: made where it is missing; its folder must be there.
        wait: until another gives it back.

    Raises:
        OSError: another holds it, and `wait` is False.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing_folder(cache: Path, name: str) -> Iterator[Path]:
    """Give an empty folder, which takes the place of `scans/NAME` at once when all went well.

    Raises:
        OSError: it cannot be made or written to; what was there stays.
    """
    final = cache / "scans" / name
    draft = final.with_name(f"{DRAFT}{name}-{os.getpid()}-{os.urandom(4).hex()}")
    with ExitStack() as writing:
        try:
            # Made and locked in one step, or another run would take it for a killed one's.
            with lock(cache):
                draft.mkdir()
                writing.enter_context(held(draft / LOCK))
            yield draft
            with lock(cache):
                writing.close()
                (draft / LOCK).unlink()
                _take_place(draft, final)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _take_place(draft: Path, final: Path) -> None:
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
