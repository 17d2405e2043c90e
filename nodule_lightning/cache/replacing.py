"""Atomic replacement of folders in a cache, safe with several processes that may be killed at any moment.

Locks are taken on regular files opened for writing: NFS supports no others.
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
# Files of a cache that are replaced individually, under its lock.
FILES: Final = ("preparation.html", "scans.csv", "failures/*.txt", "scans/*/scan.json")


def remove_leftovers(cache: Path) -> None:
    """Delete what killed runs left half-written, and restore an old entry whose replacement was interrupted."""
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
            # A live writer still holds the lock of its draft; the lock of a killed one is free.
            with suppress(OSError), held(draft / LOCK, wait=False):
                shutil.rmtree(draft, ignore_errors=True)
        for pattern in FILES:
            for file in drafts_of(cache, pattern):
                file.unlink(missing_ok=True)


@contextmanager
def lock(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; other processes that take it wait. The cache's folder is created if missing."""
    (cache / "scans").mkdir(parents=True, exist_ok=True)
    with held(cache / "scans" / LOCK):
        yield


@contextmanager
def held(file: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file. The system releases it when the process dies.

    Args:
        file: the file; created if missing, but its folder must exist.
        wait: wait until the lock is free.

    Raises:
        OSError: another process holds the lock and `wait` is False.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing_folder(cache: Path, name: str) -> Iterator[Path]:
    """Provide an empty draft folder that replaces `scans/NAME` atomically if the block succeeds.

    Yields:
        The draft folder.

    Raises:
        OSError: the draft cannot be created or written; the old folder stays.
    """
    final = cache / "scans" / name
    draft = final.with_name(f"{DRAFT}{name}-{os.getpid()}-{os.urandom(4).hex()}")
    with ExitStack() as writing:
        try:
            # Created and locked in one step: another run deletes a draft without a lock as a leftover.
            with lock(cache):
                draft.mkdir()
                writing.enter_context(held(draft / LOCK))
            yield draft
            with lock(cache):
                writing.close()
                (draft / LOCK).unlink()
                _swap_in(draft, final)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _swap_in(draft: Path, final: Path) -> None:
    """Move a draft to its final name; call under the cache's lock. The old folder stays if that fails."""
    # A rename cannot replace a folder that is not empty, so the old one is moved aside first.
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
