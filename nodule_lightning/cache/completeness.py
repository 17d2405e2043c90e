"""Which scans a cache is to hold: one whose filling goes on, or was killed, looks like a smaller one that is whole.

CACHE/scans.csv   each scan of the data set that nodule-prepare was given, whichever shard it is of
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodule_lightning.cache.entries import list_entries
from nodule_lightning.cache.failures import read_failures
from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import read_scan_ids, write_scan_ids

LIST: Final = "scans.csv"


def note_scans(cache: Path, scan_ids: Iterable[str]) -> None:
    """Note which scans are to be prepared, beside those of other data sets.

    Raises:
        InputError: the list cannot be read or written.
    """
    path = cache / LIST
    with lock(cache):
        there = set(read_scan_ids(path)) if path.exists() else set()
        if missing := set(scan_ids) - there:
            write_scan_ids(path, sorted(there | missing))


def require_complete(cache: Path) -> str | None:
    """Refuse a cache that lacks scans for which nobody knows a reason; no volume is opened.

    A cache that was filled before there was such a list lacks what has a folder without its JSON.

    Returns:
        A line about those that could not be prepared, if there are any.

    Raises:
        InputError: scans are missing; names one of them.
    """
    path = cache / LIST
    listed = set(read_scan_ids(path)) if path.exists() else set()
    begun = {path.parent.name for path in (cache / "scans").glob("[!.]*/ct.npy")}
    expected, failures = listed | begun, read_failures(cache)
    lacking = sorted(expected - set(list_entries(cache)))
    if unexplained := [scan_id for scan_id in lacking if scan_id not in failures]:
        raise InputError(
            f"{cache} lacks {len(unexplained)} of {len(expected)} scans that nodule-prepare was to prepare, such as "
            f"{unexplained[0]}: it is still at work, was killed, or they are gone; run it again, for each "
            f"shard, or, to go without them, delete {path} and what is left of them in {cache / 'scans'}"
        )
    if not lacking:
        return None
    return (
        f"{len(lacking)} of {len(expected)} scans of {cache} could not be prepared, such as {lacking[0]} "
        f"({failures[lacking[0]]})"
    )
