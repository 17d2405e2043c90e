"""Readers of CT in Hounsfield units: .mhd with .raw or .zraw, .mha, .nrrd, NIfTI, or a folder of DICOM slices.

Of a DICOM header, only the geometry and the SeriesInstanceUID, which becomes the scan id, leave this module. Patient
identifiers do not.
"""

import os
import re
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.dicom import read_series
from nodule_lightning.io.dicom_headers import OTHER_FORMATS, is_dicom
from nodule_lightning.io.files import walk
from nodule_lightning.io.hounsfield import choose_offset, to_hu
from nodule_lightning.io.placing import place
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.io.volume_files import read_volume
from nodule_lightning.structures import AIR_HU, Scan

SUFFIXES = (".nii.gz", ".mhd", ".mha", ".nrrd", ".nii")
_SAME_POSITION_MM = 1.0


def read_scan(path: Path, reading: ReadingSettings = STRICT, scan_id: str | None = None) -> Scan:
    """Read one CT.

    Padding below -1024 HU becomes -1024. DICOM's slope and intercept are applied. A file without negative values may
    have been stored with an offset of 1024; see `choose_offset`. Sheared axes (gantry tilt) are resampled upright.

    Args:
        path: a scan file, or the folder of one DICOM series.
        reading: what to do where the files leave doubt.
        scan_id: the series to read, if the folder and its subfolders hold several; see `find_scans`.

    Raises:
        InputError: the file is missing, damaged, not three-dimensional or in colour; the folder holds no DICOM
            series or several; its slices contradict each other; or a nodule could be lost or moved by its faults
            and reading is strict.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "file-missing")
    if path.is_dir():
        scan_id, volume = read_series(path, scan_id, reading)
    else:
        scan_id = file_id(path)
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


def source_files(path: Path) -> list[Path]:
    """List the files of a scan: a header with its data file, or all files of a DICOM folder and its subfolders.

    Raises:
        InputError: the data file that a header names is missing.
    """
    if path.is_dir():
        return [
            file
            for parent, _, names in walk(path, [])
            for file in (parent / name for name in names)
            # A series may lie in subfolders, and a cache as well.
            if (parent == path or file.suffix.lower() not in OTHER_FORMATS) and file.is_file()
        ]
    if path.suffix.lower() != ".mhd":
        return [path]
    match = re.search(rb"^ElementDataFile\s*=\s*(.+?)\s*$", path.read_bytes()[:65536], re.MULTILINE)
    if not match or match[1].startswith((b"LOCAL", b"LIST")):
        return [path]
    data = path.parent / os.fsdecode(match[1])
    if not data.is_file():
        raise InputError(f"{path}: the data file that it names is missing; copy it too", "file-missing")
    return [path, data]


def file_id(path: Path) -> str:
    """Return the scan id of a single file: its name without suffix.

    Raises:
        InputError: the file has another suffix, or its name is no scan id.
    """
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        cure = "pass the folder of its series" if is_dicom(path) else f"use {', '.join(SUFFIXES)} or a DICOM folder"
        raise InputError(f"{path} is not a scan file: {cure}", "file-foreign")
    return check_scan_id(path.name[: -len(suffix)])
