"""Scans in a folder tree: files, and DICOM series, which may lie in several folders or share one."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.io.dicom import LOCALISER_SLICES, UNREADABLE
from nodule_lightning.io.dicom_headers import list_images
from nodule_lightning.io.files import walk
from nodule_lightning.io.readers import SUFFIXES, file_id
from nodule_lightning.io.tables import check_scan_id

# The folder of true masks in a generated data set, and the files beside it by which such a data set is recognised.
TRUTH = "truth"
MANIFEST, PLANTED = "phantom.json", "planted.csv"
_GENERATED = {MANIFEST, PLANTED}


def find_scans(folder: Path) -> dict[str, Path]:
    """Find all scans in a folder and its subfolders; links are followed.

    Hidden files are ignored, and so are the true masks that `nodule-phantom` and `nodule-plant` write.

    Args:
        folder: a folder of scan files and DICOM folders at any depth, or one scan file.

    Returns:
        The path of each scan, by scan id, sorted. Of a DICOM series it is the folder of its images, or the one that
        holds all its folders, and the id is the series' own; folder names are not used, since they may be patients'.
        What is DICOM and cannot be read or named is listed as `unreadable-1` and so on, and reading it reports why.

    Raises:
        InputError: the folder is missing or holds no scan, or two scans have the same id.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist", "file-missing")
    if folder.is_file():
        return {file_id(folder): folder}
    found: dict[str, Path] = {}
    counts: dict[Path, dict[str, int]] = {}
    unreadable: list[Path] = []
    for parent, names in _visible_folders(folder, unreadable):
        paths = [parent / name for name in names]
        for path in _volume_files(paths):
            _add(found, file_id(path), path)
        counts[parent] = _count_images(paths)
    unreadable += [parent for parent, images in counts.items() if images.pop("", 0)]
    for scan_id, folders in _series_of(counts).items():
        _add(found, scan_id, Path(os.path.commonpath(folders)))
    found |= {f"{UNREADABLE}{number}": path for number, path in enumerate(unreadable, start=1)}
    if not found:
        raise InputError(f"{folder} holds no scan: neither {', '.join(SUFFIXES)} nor a DICOM series", "file-missing")
    return dict(sorted(found.items()))


def _add(found: dict[str, Path], scan_id: str, path: Path) -> None:
    present = found.setdefault(scan_id, path)
    if present != path and not path.samefile(present):
        raise InputError(f"{present} and {path} are both the scan {scan_id}; keep one", "scan-repeated")


def _visible_folders(folder: Path, unreadable: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    for parent, folders, names in walk(folder, unreadable):
        masks = {TRUTH} if not _GENERATED.isdisjoint(names) else set()
        folders[:] = [name for name in folders if name not in masks]
        yield parent, names


def _volume_files(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.name.lower().endswith(SUFFIXES)]


def _count_images(files: Sequence[Path]) -> dict[str, int]:
    """Count the images of each series among files, by scan id; "" stands for what is unreadable or says no series."""
    volume_files = set(_volume_files(files))
    listing = list_images(path for path in files if path not in volume_files)
    counts: Counter[str] = Counter(_scan_id(image.series) for image in listing.slices)
    return dict(counts) or {"": len(listing.unreadable)}


def _series_of(counts: Mapping[Path, Mapping[str, int]]) -> dict[str, list[Path]]:
    """Name the folders of each series, without localisers: few images, in all folders, beside a larger series."""
    total: Counter[str] = Counter()
    for images in counts.values():
        total.update(images)
    folders: dict[str, list[Path]] = {}
    for parent, images in counts.items():
        is_volume = {scan_id: total[scan_id] > LOCALISER_SLICES for scan_id in images}
        for scan_id in images:
            if is_volume[scan_id] or not any(is_volume.values()):
                folders.setdefault(scan_id, []).append(parent)
    return folders


def _scan_id(series: str) -> str:
    try:
        return check_scan_id(series)
    except InputError:
        return ""
