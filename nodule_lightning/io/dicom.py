"""Find and read DICOM series, through GDCM, without letting anything of their headers out but geometry and id."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import SimpleITK
from jaxtyping import Float64

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import check_scan_id

_LOCALISER_SLICES = 3
_POSITION_TAG = "0020|0032"


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its mark; an index of a disk is none."""
    with path.open("rb") as file:
        return path.name.upper() != "DICOMDIR" and file.read(132)[128:] == b"DICM"


def _series(folder: Path) -> dict[str, Sequence[str]]:
    reader = SimpleITK.ImageSeriesReader
    with silent():
        ids: Sequence[str] = reader.GetGDCMSeriesIDs(str(folder))
        return {series: reader.GetGDCMSeriesFileNames(str(folder), series) for series in ids}


def _volumes(series: dict[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Leave out the localisers, series of at most three slices, unless there is nothing else."""
    return {name: files for name, files in series.items() if len(files) > _LOCALISER_SLICES} or series


def first_series(folder: Path) -> str | None:
    """Give the id of the one volume in a folder, or of the first of several; None where there is none."""
    return next(iter(_volumes(_series(folder))), None)


def pick_series(folder: Path) -> tuple[str, Sequence[str]]:
    """Give the id and the ordered files of the one volume in a folder.

    Raises:
        InputError: there is no series, or several of more than three slices.
    """
    series = _series(folder)
    if not series:
        raise InputError(f"{folder} holds no DICOM series and is no scan file")
    volumes = _volumes(series)
    if len(volumes) > 1:
        listed = ", ".join(f"{name} ({len(files)} slices)" for name, files in series.items())
        raise InputError(f"{folder} holds several DICOM series: {listed}; put one in a folder of its own and pass that")
    name, files = next(iter(volumes.items()))
    return check_scan_id(name), files


def read_series(folder: Path, files: Sequence[str]) -> SimpleITK.Image:
    """Read the ordered files of one series.

    Raises:
        InputError: a slice is damaged, the slices are not evenly spaced, or the gantry was tilted.
    """
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    with silent():
        try:
            image = reader.Execute()
        except RuntimeError:
            raise InputError(f"{folder} cannot be read: a slice is damaged or of another size") from None
    if len(files) > 1 and all(reader.HasMetaDataKey(index, _POSITION_TAG) for index in range(len(files))):
        texts = [reader.GetMetaData(index, _POSITION_TAG) for index in range(len(files))]
        _check_slices(folder, image, np.array([[float(value) for value in text.split("\\")] for text in texts]))
    return image


def _check_slices(folder: Path, image: SimpleITK.Image, position_xyz_mm: Float64[np.ndarray, "slice 3"]) -> None:
    """Refuse slices whose places the volume's regular grid cannot tell: a missing slice, or a tilted gantry."""
    normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    depth = position_xyz_mm @ normal
    gaps = np.abs(np.diff(depth))
    if gaps.max() > 1.1 * np.median(gaps) + 0.01 or gaps.min() < 0.9 * np.median(gaps) - 0.01:
        raise InputError(
            f"{folder}: the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart, not evenly; "
            "one is missing, damaged or there twice, copy the series again"
        )
    sideways = position_xyz_mm - np.outer(depth, normal)
    if np.ptp(sideways, axis=0).max() > 1:
        raise InputError(f"{folder}: the slices are shifted sideways (tilted gantry); resample the series first")


@contextmanager
def silent() -> Iterator[BinaryIO]:
    """Keep ITK's and GDCM's own lines off the terminal: they are written by C++ and may quote the header.

    Yields:
        A file that takes the lines instead; to be read from its start.
    """
    terminal = os.dup(2)
    with TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
