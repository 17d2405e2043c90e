"""What could not be prepared, kept in the cache until it can be: shards and later runs know of each other's failures.

CACHE/failures/SCAN_ID.txt   why, in one line without a path
"""

from contextlib import suppress
from pathlib import Path

from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.tables import check_scan_id

_SUFFIX = ".txt"


def keep_failure(cache: Path, scan_id: str, reason: str) -> None:
    """Note why a scan could not be prepared, or forget it where the reason is empty.

    Where the disk is full even for that, the run that failed says so by itself.

    Raises:
        InputError: the id cannot name a file.
    """
    path = cache / "failures" / f"{check_scan_id(scan_id)}{_SUFFIX}"
    with suppress(InputError, OSError), lock(cache):
        if reason:
            write_whole(path, f"{reason}\n".encode())
        else:
            path.unlink(missing_ok=True)


def read_failures(cache: Path) -> dict[str, str]:
    """Give why each scan that is not prepared could not be, by id."""
    paths = sorted((cache / "failures").glob(f"*{_SUFFIX}"))
    kept = [path for path in paths if not path.name.startswith(".")]
    return {path.name.removesuffix(_SUFFIX): path.read_text(encoding="utf-8").strip() for path in kept}
