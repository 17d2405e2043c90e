"""Failures to prepare a scan, kept in the cache so that other shards and later runs see them.

CACHE/failures/SCAN_ID.txt   the reason, in one line without a path
"""

from contextlib import suppress
from pathlib import Path

from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.tables import check_scan_id

_SUFFIX = ".txt"


def keep_failure(cache: Path, scan_id: str, reason: str) -> None:
    """Record why a scan could not be prepared.

    An error while writing is ignored: on a full disk, the run that failed reports the scan itself.

    Args:
        cache: the cache's folder.
        scan_id: the scan.
        reason: one line without a path.

    Raises:
        InputError: the id cannot name a file.
    """
    path = _path(cache, scan_id)
    with suppress(InputError, OSError), lock(cache):
        write_whole(path, f"{reason}\n".encode())


def forget_failure(cache: Path, scan_id: str) -> None:
    """Delete the recorded failure of a scan, if there is one.

    Raises:
        InputError: the id cannot name a file.
    """
    path = _path(cache, scan_id)
    with suppress(OSError), lock(cache):
        path.unlink(missing_ok=True)


def read_failures(cache: Path) -> dict[str, str]:
    """Read the recorded failures: the reason by scan id."""
    paths = sorted((cache / "failures").glob(f"*{_SUFFIX}"))
    kept = [path for path in paths if not path.name.startswith(".")]
    return {path.name.removesuffix(_SUFFIX): path.read_text(encoding="utf-8").strip() for path in kept}


def _path(cache: Path, scan_id: str) -> Path:
    return cache / "failures" / f"{check_scan_id(scan_id)}{_SUFFIX}"
