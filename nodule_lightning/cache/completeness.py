"""The list of scans that a cache should hold. Without it, a half-filled cache looks like a complete smaller one.

CACHE/scans.csv   every scan of the data sets that nodule-prepare was given, of all shards
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from unicodedata import normalize

from nodule_lightning.cache.entries import list_entries
from nodule_lightning.cache.failures import read_failures
from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import read_scan_ids, write_scan_ids

LIST: Final = "scans.csv"


def note_scans(cache: Path, scan_ids: Iterable[str]) -> None:
    """Add scans to the list of those that the cache should hold; those already listed stay.

    Raises:
        InputError: the list cannot be read or written.
    """
    path = cache / LIST
    with lock(cache):
        listed = set(read_scan_ids(path)) if path.exists() else set()
        if missing := set(scan_ids) - listed:
            write_scan_ids(path, sorted(listed | missing))


def require_complete(cache: Path) -> str | None:
    """Refuse a cache that lacks scans without a recorded failure. No volume is opened.

    A scan is expected if `scans.csv` lists it or if its folder holds a volume, with or without its JSON. The second
    rule covers caches without a list.

    Returns:
        One line about the scans that could not be prepared; None if there are none.

    Raises:
        InputError: scans are missing; the message names one of them.
    """
    path = cache / LIST
    listed = set(read_scan_ids(path)) if path.exists() else set()
    # Earlier versions named folders by uncomposed ids, as `list_entries` knows.
    begun = {normalize("NFC", path.parent.name) for path in (cache / "scans").glob("[!.]*/ct.npy")}
    expected, failures = listed | begun, read_failures(cache)
    missing = sorted(expected - set(list_entries(cache)))
    if unexplained := [scan_id for scan_id in missing if scan_id not in failures]:
        raise InputError(
            f"{cache} lacks {len(unexplained)} of {len(expected)} scans that nodule-prepare was given, such as "
            f"{unexplained[0]}: it is still running, was killed, or they were deleted; run it again, for each "
            f"shard, or, to go without them, delete {path} and what is left of them in {cache / 'scans'}",
            "cache-incomplete",
        )
    if not missing:
        return None
    return (
        f"{len(missing)} of {len(expected)} scans of {cache} could not be prepared, such as {missing[0]} "
        f"({failures[missing[0]]})"
    )
