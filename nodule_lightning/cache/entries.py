"""Cache entries on disk: one folder per scan, with a memory-mapped CT, the lung mask and a JSON file.

    CACHE/scans/SCAN_ID/ct.npy      uint8, the windowed CT on an isotropic grid along the world axes
    CACHE/scans/SCAN_ID/lung.npy    uint8, 1 in the dilated lungs, 0 outside
    CACHE/scans/SCAN_ID/outlines.npy  uint8, how many readers outlined a voxel; only of data sets with outlines
    CACHE/scans/SCAN_ID/scan.json   grids, settings, subset, findings, and the record of the preparation
    CACHE/scans/SCAN_ID/crop.jpg    the scan before and after, for preparation.html
    CACHE/scans.csv                 the scans that the cache should hold

An entry is self-contained and appears atomically, by a rename of its folder, so a killed run leaves no partial entry.
Several runs may fill one cache: entries change under the cache's lock. Each draft folder has a lock of its own, which
the system releases when its writer dies; a draft with a free lock is the leftover of a killed run. Entries hold no
path and nothing of a DICOM header but the series UID.
"""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from nodule_lightning.cache.replacing import lock, replacing_folder
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.files import write_error, write_whole
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.structures import Entry, Labels

FORMAT_VERSION = 3
PICTURE = "crop.jpg"
_OUTLINES = "outlines.npy"


def write_entry(cache: Path, entry: Entry, picture: bytes | None = None) -> None:
    """Write an entry into the cache atomically; it replaces an older entry of the same scan.

    Args:
        cache: the cache's folder; created if missing.
        entry: the prepared scan.
        picture: a JPEG of the scan before and after; None writes none.

    Raises:
        InputError: the cache cannot be written, for example because the disk is full.
    """
    name = entry_folder(cache, entry.scan_id).name
    description = {
        "format": FORMAT_VERSION,
        "scan_id": entry.scan_id,
        "grid": entry.grid.to_dict(),
        "original_grid": entry.original_grid.to_dict(),
        "settings": entry.settings,
        "record": entry.record,
        "labels": entry.labels.to_dict(),
    }
    try:
        with replacing_folder(cache, name) as draft:
            np.save(draft / "ct.npy", entry.ct)
            np.save(draft / "lung.npy", entry.lung)
            if entry.outlines is not None:
                np.save(draft / _OUTLINES, entry.outlines)
            if picture is not None:
                (draft / PICTURE).write_bytes(picture)
            (draft / "scan.json").write_text(_json(description), encoding="utf-8")
    except OSError as error:
        raise write_error(cache / "scans" / name, error) from None


def update_labels(cache: Path, scan_id: str, labels: Labels, record: Mapping[str, Any] | None = None) -> None:
    """Replace the labels of an entry atomically, for example after a csv file was corrected. Its volumes stay.

    Args:
        cache: the cache's folder.
        scan_id: the scan.
        labels: its new labels.
        record: new values of the record, such as its counts of `nodules`; the others stay.

    Raises:
        InputError: there is no such entry, or it cannot be written.
    """
    path = entry_folder(cache, scan_id) / "scan.json"
    try:
        with lock(cache):
            old = read_description(cache, scan_id)
            new = {**old, "record": {**old["record"], **(record or {})}, "labels": labels.to_dict()}
            if new != old:
                write_whole(path, _json(new).encode())
    except OSError as error:
        raise write_error(path, error) from None


def open_entry(cache: Path, scan_id: str) -> Entry:
    """Open an entry with memory-mapped, read-only volumes.

    Raises:
        InputError: there is no such entry, it was written by another version, or its files do not agree.
    """
    folder = entry_folder(cache, scan_id)
    description = read_description(cache, scan_id)
    grid = Grid.from_dict(description["grid"])
    try:
        ct, lung = (open_memmap(folder / name, mode="r") for name in ("ct.npy", "lung.npy"))
        outlines = open_memmap(folder / _OUTLINES, mode="r") if (folder / _OUTLINES).exists() else None
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise InputError(
                f"{error.filename or folder} cannot be read: {error.strerror}", "file-unreadable"
            ) from None
        # Which exception numpy raises depends on the damaged bytes: ValueError, EOFError, TokenError, ...
        raise _damaged(folder) from None
    volumes = [ct, lung] if outlines is None else [ct, lung, outlines]
    if any(volume.shape != grid.shape for volume in volumes):
        raise _damaged(folder, ": its shapes differ")
    if any(volume.dtype != np.uint8 for volume in volumes):
        raise _damaged(folder, ": its volumes are not uint8")
    original = Grid.from_dict(description["original_grid"])
    labels = Labels.from_dict(description["labels"])
    settings, record = description["settings"], description["record"]
    return Entry(scan_id, ct, lung, grid, original, settings, record, labels, outlines)


def read_description(cache: Path, scan_id: str) -> dict[str, Any]:
    """Read the JSON of an entry, without its volumes.

    Returns:
        `grid`, `original_grid`, `settings`, `record` and `labels`, in plain values.

    Raises:
        InputError: there is no such entry, it is damaged, or it was written by another version.
    """
    path = entry_folder(cache, scan_id) / "scan.json"
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{cache} holds no scan {scan_id}; prepare it first", "scan-unknown") from None
    except ValueError:
        raise _damaged(path) from None
    if isinstance(description, dict) and description.get("format") != FORMAT_VERSION:
        raise InputError(f"{path} is of another version of the cache; prepare into a new folder", "file-foreign")
    if not _is_whole(description):
        raise _damaged(path)
    return description


def _damaged(path: Path, detail: str = "") -> InputError:
    folder = "its folder" if path.suffix == ".json" else "it"
    return InputError(f"{path} is damaged{detail}; delete {folder} and prepare the scan again", "file-damaged")


def _is_whole(description: Any) -> bool:  # noqa: ANN401 - whatever the file holds
    try:
        Grid.from_dict(description["grid"])
        Grid.from_dict(description["original_grid"])
        Labels.from_dict(description["labels"])
        return isinstance(description["settings"], dict) and isinstance(description["record"], dict)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def list_entries(cache: Path) -> list[str]:
    """List the ids of all prepared scans, sorted; empty if there is no cache."""
    found = (cache / "scans").glob("*/scan.json")
    names = (path.parent.name for path in found)
    return sorted(unicodedata.normalize("NFC", name) for name in names if not name.startswith("."))


def entry_folder(cache: Path, scan_id: str) -> Path:
    """Return the folder of an entry, which earlier versions may have named by an uncomposed (NFD) id.

    Raises:
        InputError: the id cannot name a folder.
    """
    composed = cache / "scans" / check_scan_id(scan_id)
    earlier = composed.with_name(unicodedata.normalize("NFD", composed.name))
    return earlier if earlier.is_dir() and not composed.is_dir() else composed


def read_settings(cache: Path) -> dict[str, Any]:
    """Read the settings that all entries were prepared with, as plain values.

    Raises:
        InputError: the cache is empty, or its entries differ in their settings.
    """
    scan_ids = list_entries(cache)
    if not scan_ids:
        raise InputError(f"{cache} holds no prepared scan; fill it with nodule-prepare", "cache-empty")
    first: dict[str, Any] = read_description(cache, scan_ids[0])["settings"]
    for scan_id in scan_ids[1:]:
        if differing := settings_differences(first, read_description(cache, scan_id)["settings"]):
            raise InputError(
                f"{cache}: {scan_ids[0]} and {scan_id} differ in {'; '.join(differing)}; prepare again",
                "cache-settings-differ",
            )
    return first


def require_settings(cache: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a cache that was prepared with other settings.

    Args:
        cache: the cache's folder.
        settings: the wanted settings, from `PreparationSettings.to_dict`.

    Raises:
        InputError: the cache is empty, mixed or differs; the message names each setting with both values.
    """
    if differing := settings_differences(read_settings(cache), settings):
        raise InputError(
            f"{cache} was prepared with other settings (there and wanted): {'; '.join(differing)}; "
            "prepare into another folder",
            "cache-settings-differ",
        )


def settings_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """List the settings in which two differ, each with both values.

    >>> settings_differences({"spacing_mm": 1.0, "lungs": {"closing_mm": 10}}, {"spacing_mm": 2.0, "lungs": {}})
    ['lungs.closing_mm 10 and None', 'spacing_mm 1.0 and 2.0']
    """
    one, two = _flat(first), _flat(second)
    return [
        f"{name} {one.get(name)} and {two.get(name)}" for name in sorted({*one, *two}) if one.get(name) != two.get(name)
    ]


def _json(description: Mapping[str, Any]) -> str:
    return json.dumps(description, indent=1, ensure_ascii=False)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
