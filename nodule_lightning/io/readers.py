"""Readers of CT in Hounsfield units: .mhd with .raw or .zraw, .mha, .nrrd, NIfTI, or a folder of DICOM slices.

Of a DICOM header, only the geometry and the SeriesInstanceUID, which becomes the scan id, leave this module. Patient
identifiers do not.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.dicom import first_series, is_dicom, pick_series, read_series
from nodule_lightning.io.hounsfield import choose_offset, to_hu
from nodule_lightning.io.placing import place
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.io.volume_files import of_image, read_volume
from nodule_lightning.structures import AIR_HU, Scan

SUFFIXES = (".nii.gz", ".mhd", ".mha", ".nrrd", ".nii")
# The folder of true masks in a generated data set, and the files beside it by which such a data set is recognised.
TRUTH = "truth"
MANIFEST, PLANTED = "phantom.json", "planted.csv"
_GENERATED = {MANIFEST, PLANTED}
_SAME_POSITION_MM = 1.0


def read_scan(path: Path, reading: ReadingSettings = STRICT) -> Scan:
    """Read one CT.

    Padding below -1024 HU becomes -1024. DICOM's slope and intercept are applied. A file without negative values may
    have been stored with an offset of 1024; see `choose_offset`. Sheared axes (gantry tilt) are resampled upright.

    Args:
        path: a scan file, or the folder of one DICOM series.
        reading: what to do where the files leave doubt.

    Raises:
        InputError: the file is missing, damaged, not three-dimensional or in colour; the folder holds no DICOM
            series or several; its slices contradict each other; or a nodule could be lost or moved by its faults
            and reading is strict.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "file-missing")
    if path.is_dir():
        scan_id, files = pick_series(path)
        volume = of_image(path, *read_series(path, files))
    else:
        scan_id = _file_id(path)
        source_files(path)
        volume = read_volume(path, reading)
    offset_hu, doubts = choose_offset(path, volume.values, reading, may_be_offset=path.is_file())
    hu, grid, moved = place(
        path, to_hu(volume.values, offset_hu), volume.axes_xyz_mm, volume.origin_xyz_mm, outside=AIR_HU
    )
    return Scan(scan_id, hu, grid, (*volume.notes, *doubts, *moved))


def read_labels(path: Path, grid: Grid) -> Integer[np.ndarray, "z y x"]:
    """Read a label map on the grid of a scan, such as a lung mask.

    Raises:
        InputError: the file is missing or damaged, or its grid differs from the scan's.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "file-missing")
    source_files(path)
    volume = read_volume(path)
    labels, own, _ = place(path, volume.values, volume.axes_xyz_mm, volume.origin_xyz_mm, outside=0, linear=False)
    if own.shape != grid.shape or np.abs(own.corners_xyz_mm() - grid.corners_xyz_mm()).max() > _SAME_POSITION_MM:
        raise InputError(
            f"{path} is not on the grid of its scan: shape {own.shape} against {grid.shape}; delete or replace it",
            "scan-invalid",
        )
    return np.array(labels)


def find_scans(folder: Path) -> dict[str, Path]:
    """Find all scans in a folder and its subfolders.

    Hidden files are ignored, and so are the true masks that `nodule-phantom` and `nodule-plant` write.

    Args:
        folder: a folder of scan files and DICOM folders at any depth, or one scan file.

    Returns:
        The file or DICOM folder of each scan, by scan id, sorted. A DICOM folder with several series is listed under
        the first series, and reading it then reports the problem. Its name is not used: it may be the patient's.

    Raises:
        InputError: the folder is missing or holds no scan, or two scans have the same id.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist", "file-missing")
    if folder.is_file():
        return {_file_id(folder): folder}
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        masks = {TRUTH} if not _GENERATED.isdisjoint(names) else set()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in masks)
        for scan_id, path in _scans_in(Path(parent), sorted(names)):
            if scan_id in found:
                raise InputError(f"{found[scan_id]} and {path} are both the scan {scan_id}; keep one", "scan-repeated")
            found[scan_id] = path
    if not found:
        raise InputError(f"{folder} holds no scan: neither {', '.join(SUFFIXES)} nor a DICOM series", "file-missing")
    return dict(sorted(found.items()))


def source_files(path: Path) -> list[Path]:
    """List the files of a scan: a header with its data file, or all files of a DICOM folder.

    Raises:
        InputError: the data file that a header names is missing.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if path.suffix.lower() != ".mhd":
        return [path]
    match = re.search(rb"^ElementDataFile\s*=\s*(.+?)\s*$", path.read_bytes()[:65536], re.MULTILINE)
    if not match or match[1].startswith((b"LOCAL", b"LIST")):
        return [path]
    data = path.parent / os.fsdecode(match[1])
    if not data.is_file():
        raise InputError(f"{path}: the data file that it names is missing; copy it too", "file-missing")
    return [path, data]


def _scans_in(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    visible = [name for name in names if not name.startswith(".")]
    volumes = [name for name in visible if name.lower().endswith(SUFFIXES)]
    for name in volumes:
        yield _file_id(folder / name), folder / name
    others = (name for name in visible if name not in volumes and Path(name).suffix.lower() not in (".raw", ".zraw"))
    if any(is_dicom(folder / name) for name in others) and (series := first_series(folder)):
        yield check_scan_id(series), folder


def _file_id(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        cure = "pass the folder of its series" if is_dicom(path) else f"use {', '.join(SUFFIXES)} or a DICOM folder"
        raise InputError(f"{path} is not a scan file: {cure}", "file-foreign")
    return check_scan_id(path.name[: -len(suffix)])
