"""The cache on disk: one folder a scan, with a memory-mapped CT, the lung mask, and a JSON beside them.

    CACHE/scans/SCAN_ID/ct.npy      uint8, the windowed CT on an isotropic grid along the world axes
    CACHE/scans/SCAN_ID/lung.npy    uint8, 1 in the dilated lungs, 0 outside
    CACHE/scans/SCAN_ID/scan.json   grids, settings, subset, findings, what preparing noted
    CACHE/scans/SCAN_ID/crop.jpg    the scan before and after, for the page that a person looks through
    CACHE/scans.csv                 which scans it is to hold

An entry appears all at once, by renaming its folder, so a killed run leaves no half entry, and it holds its scan's
findings itself. Several runs can fill one cache: an entry changes under the cache's lock, and what a killed run left
half-written is known by its draft's lock, which died with it. No path and nothing of a DICOM header is kept.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from nodule_lightning.cache.replacing import lock, replacing_folder
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.structures import Entry, Labels

FORMAT_VERSION = 3
PICTURE = "crop.jpg"


def write_entry(cache: Path, entry: Entry, picture: bytes | None = None) -> None:
    """Put an entry into the cache at once, in the place of an older one.

    Args:
        cache: the cache's folder; made where it is missing.
        entry: the prepared scan.
        picture: a JPEG of the scan before and after.

    Raises:
        InputError: the cache cannot be written, say because the disk is full.
    """
    name = check_scan_id(entry.scan_id)
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
            if picture is not None:
                (draft / PICTURE).write_bytes(picture)
            (draft / "scan.json").write_text(_json(description), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{cache / 'scans' / name} cannot be written: {error.strerror}") from None


def update_labels(cache: Path, scan_id: str, labels: Labels, nodules: Mapping[str, int] | None = None) -> None:
    """Give an entry other labels, say of a corrected csv file, in one step; its volumes stay.

    Args:
        cache: the cache's folder.
        scan_id: the entry.
        labels: its new labels.
        nodules: what the record says of them; None leaves that as it is.

    Raises:
        InputError: there is no such entry, or it cannot be written.
    """
    path = cache / "scans" / scan_id / "scan.json"
    try:
        with lock(cache):
            there = read_description(cache, scan_id)
            record = there["record"] if nodules is None else {**there["record"], "nodules": dict(nodules)}
            wanted = {**there, "record": record, "labels": labels.to_dict()}
            if wanted != there:
                write_whole(path, _json(wanted).encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def open_entry(cache: Path, scan_id: str) -> Entry:
    """Open an entry; its volumes are memory-mapped and read only where they are looked at.

    Raises:
        InputError: there is no such entry, it was written by another version, or its files do not agree.
    """
    folder = cache / "scans" / check_scan_id(scan_id)
    description = read_description(cache, scan_id)
    grid = Grid.from_dict(description["grid"])
    try:
        ct, lung = (open_memmap(folder / name, mode="r") for name in ("ct.npy", "lung.npy"))
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
        # What numpy raises depends on where in the foreign bytes it stumbles: ValueError, EOFError, TokenError, ...
        raise InputError(f"{folder} is damaged; delete it and prepare the scan again") from None
    if not ct.shape == lung.shape == grid.shape:
        raise InputError(f"{folder} is damaged: its shapes differ; delete it and prepare the scan again")
    if not ct.dtype == lung.dtype == np.uint8:
        raise InputError(f"{folder} is damaged: its volumes are not uint8; delete it and prepare the scan again")
    original = Grid.from_dict(description["original_grid"])
    labels = Labels.from_dict(description["labels"])
    return Entry(scan_id, ct, lung, grid, original, description["settings"], description["record"], labels)


def read_description(cache: Path, scan_id: str) -> dict[str, Any]:
    """Read the JSON of an entry: `grid`, `original_grid`, `settings`, `record`, `labels`, in plain values.

    Raises:
        InputError: there is no such entry, it is damaged, or it was written by another version.
    """
    path = cache / "scans" / check_scan_id(scan_id) / "scan.json"
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{cache} holds no scan {scan_id}; prepare it first") from None
    except ValueError:
        raise InputError(f"{path} is damaged; delete its folder and prepare the scan again") from None
    if isinstance(description, dict) and description.get("format") != FORMAT_VERSION:
        raise InputError(f"{path} is of another version of the cache; prepare into a new folder")
    if not _is_whole(description):
        raise InputError(f"{path} is damaged; delete its folder and prepare the scan again")
    return description


def _is_whole(description: Any) -> bool:  # noqa: ANN401 - whatever the file holds
    try:
        Grid.from_dict(description["grid"])
        Grid.from_dict(description["original_grid"])
        Labels.from_dict(description["labels"])
        return isinstance(description["settings"], dict) and isinstance(description["record"], dict)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def list_entries(cache: Path) -> list[str]:
    """Give the ids of all prepared scans, sorted; none where there is no cache."""
    found = (cache / "scans").glob("*/scan.json")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def read_settings(cache: Path) -> dict[str, Any]:
    """Give the settings that all entries were prepared with, as a checkpoint keeps them.

    Raises:
        InputError: the cache is empty, or its entries were not all prepared alike.
    """
    scan_ids = list_entries(cache)
    if not scan_ids:
        raise InputError(f"{cache} holds no prepared scan; fill it with nodule-prepare")
    first: dict[str, Any] = read_description(cache, scan_ids[0])["settings"]
    for scan_id in scan_ids[1:]:
        if differing := settings_differences(first, read_description(cache, scan_id)["settings"]):
            raise InputError(f"{cache}: {scan_ids[0]} and {scan_id} differ in {'; '.join(differing)}; prepare again")
    return first


def require_settings(cache: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a cache that was prepared otherwise.

    Args:
        cache: the cache's folder.
        settings: what `PreparationSettings.to_dict` gives.

    Raises:
        InputError: the cache is empty or mixed, or some settings differ; it names each with both values.
    """
    if differing := settings_differences(read_settings(cache), settings):
        raise InputError(
            f"{cache} was prepared with other settings (there and wanted): {'; '.join(differing)}; "
            "prepare into another folder"
        )


def settings_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Name every setting in which two differ, with both values.

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
