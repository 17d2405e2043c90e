"""Reading of DICOM series through GDCM. Of the headers, only the geometry and the series UID leave this module."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import SimpleITK
from jaxtyping import Float64, Int16, Int64, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import check_scan_id

_LOCALISER_SLICES = 3
_POSITION_TAG = "0020|0032"
_SAME_PLACE_MM = 0.005
_WIDEST_GAP_MM = 25.0
# Tolerance as a share of the usual slice distance: positions are stored with few digits.
_EVEN = 0.02


def is_dicom(path: Path) -> bool:
    """Recognise a DICOM file by its magic bytes; a DICOMDIR index does not count."""
    with path.open("rb") as file:
        return path.name.upper() != "DICOMDIR" and file.read(132)[128:] == b"DICM"


def _series(folder: Path) -> dict[str, Sequence[str]]:
    reader = SimpleITK.ImageSeriesReader
    with silent():
        ids: Sequence[str] = reader.GetGDCMSeriesIDs(str(folder))
        return {series: reader.GetGDCMSeriesFileNames(str(folder), series) for series in ids}


def _volumes(series: dict[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Leave out localisers, that is series of at most three slices, unless there are no others."""
    return {name: files for name, files in series.items() if len(files) > _LOCALISER_SLICES} or series


def first_series(folder: Path) -> str | None:
    """Return the UID of the first series in a folder, preferring volumes over localisers; None if there is none."""
    return next(iter(_volumes(_series(folder))), None)


def pick_series(folder: Path) -> tuple[str, Sequence[str]]:
    """Return the UID and the ordered files of the only volume in a folder.

    Raises:
        InputError: there is no series, or several with more than three slices.
    """
    series = _series(folder)
    if not series:
        raise InputError(f"{folder} holds no DICOM series and is no scan file", "file-missing")
    volumes = _volumes(series)
    if len(volumes) > 1:
        listed = ", ".join(f"{name} ({len(files)} slices)" for name, files in series.items())
        raise InputError(
            f"{folder} holds several DICOM series: {listed}; put one in a folder of its own and pass that",
            "argument-invalid",
        )
    name, files = next(iter(volumes.items()))
    return check_scan_id(name), files


def read_series(folder: Path, files: Sequence[str]) -> tuple[SimpleITK.Image, tuple[str, ...]]:
    """Read the files of one series into a volume with evenly spaced slices.

    Duplicate slices are taken once. Missing or unevenly spaced slices are interpolated from their true positions. Up
    to three files of another size or direction, such as a localiser, are left out.

    Returns:
        The volume, and notes on what had to be repaired.

    Raises:
        InputError: a slice is damaged, two slices at one position differ, a gap is too wide, or the gantry was tilted.
    """
    try:
        return _read_files(folder, files)
    except InputError:
        alike = _largest_group(files)
        left_out = len(files) - len(alike)
        if not 0 < left_out <= _LOCALISER_SLICES:
            raise
        image, notes = _read_files(folder, alike)
        return image, (f"{left_out} slices of another size or direction were left out", *notes)


def _read_files(folder: Path, files: Sequence[str]) -> tuple[SimpleITK.Image, tuple[str, ...]]:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    with silent():
        try:
            image = reader.Execute()
        except RuntimeError:
            raise InputError(
                f"{folder} cannot be read: a slice is damaged or of another size", "file-damaged"
            ) from None
    if len(files) < 2 or not all(reader.HasMetaDataKey(index, _POSITION_TAG) for index in range(len(files))):
        return image, ()
    texts = [reader.GetMetaData(index, _POSITION_TAG) for index in range(len(files))]
    position = np.array([[float(value) for value in text.split("\\")] for text in texts])
    _refuse_tilt(folder, image, position)
    normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    return _place_slices(folder, image, position @ normal, position)


def _refuse_tilt(folder: Path, image: SimpleITK.Image, position_xyz_mm: Float64[np.ndarray, "slice 3"]) -> None:
    normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
    sideways = position_xyz_mm - np.outer(position_xyz_mm @ normal, normal)
    if np.ptp(sideways, axis=0).max() > 1:
        raise InputError(
            f"{folder}: the slices are shifted sideways (tilted gantry); resample the series first", "scan-invalid"
        )


def _place_slices(
    folder: Path,
    image: SimpleITK.Image,
    depth_mm: Float64[np.ndarray, "slice"],
    position_xyz_mm: Float64[np.ndarray, "slice 3"],
) -> tuple[SimpleITK.Image, tuple[str, ...]]:
    """Sort the slices by depth and interpolate them to even distances."""
    order = np.argsort(depth_mm, kind="stable")
    values = SimpleITK.GetArrayViewFromImage(image)
    kept, repeats = _without_repeats(folder, values, depth_mm, order)
    if len(kept) < 2:
        raise InputError(f"{folder}: all slices lie at one position; export the series again", "scan-invalid")
    depth = depth_mm[kept]
    even, notes = even_depths(depth)
    if repeats:
        notes = (f"{repeats} duplicate slices were left out", *notes)
    widest = float(np.diff(depth).max())
    if widest > _WIDEST_GAP_MM:
        raise InputError(f"{folder}: {widest:.0f} mm without a slice; copy the series again", "scan-invalid")
    placed = SimpleITK.GetImageFromArray(values[kept] if even is depth else _between(values, depth, kept, even))
    placed.SetDirection(image.GetDirection())
    placed.SetSpacing((*image.GetSpacing()[:2], float(even[-1] - even[0]) / (len(even) - 1)))
    placed.SetOrigin(position_xyz_mm[kept[0]].tolist())
    return placed, notes


def _without_repeats(
    folder: Path,
    values: Shaped[np.ndarray, "slice y x"],
    depth_mm: Float64[np.ndarray, "slice"],
    order: Int64[np.ndarray, "slice"],
) -> tuple[Int64[np.ndarray, "kept"], int]:
    kept = [int(order[0])]
    for index in order[1:].tolist():
        if depth_mm[index] - depth_mm[kept[-1]] > _SAME_PLACE_MM:
            kept.append(index)
        elif not np.array_equal(values[index], values[kept[-1]]):
            raise InputError(
                f"{folder}: different slices of one series lie at one position ({depth_mm[index]:.2f} mm): "
                "several phases or reconstructions; put each in a folder of its own",
                "scan-invalid",
            )
    return np.array(kept, dtype=np.int64), len(order) - len(kept)


def even_depths(depth_mm: Float64[np.ndarray, "slice"]) -> tuple[Float64[np.ndarray, "even"], tuple[str, ...]]:
    """Find evenly spaced positions from the first slice to the last.

    Args:
        depth_mm: ascending positions of the slices along their normal.

    Returns:
        The even positions, or the same array if the slices are even already, and notes on what changes.
    """
    gaps = np.diff(depth_mm)
    usual = float(np.median(gaps))
    regular = np.linspace(depth_mm[0], depth_mm[-1], len(depth_mm))
    if np.abs(depth_mm - regular).max() <= _EVEN * usual:
        return depth_mm, ()
    count = round(float(depth_mm[-1] - depth_mm[0]) / usual) + 1
    even = np.linspace(depth_mm[0], depth_mm[-1], max(2, count))
    missing = int(np.rint(gaps / usual - 1).clip(min=0).sum())
    first = int(np.argmax(gaps)) + 1
    if missing:
        return even, (f"{missing} slices are missing, the first after slice {first}: interpolated",)
    return even, (f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart: resampled to {usual:.2f} mm",)


def _between(
    values: Shaped[np.ndarray, "slice y x"],
    depth_mm: Float64[np.ndarray, "kept"],
    kept: Int64[np.ndarray, "kept"],
    even_mm: Float64[np.ndarray, "even"],
) -> Int16[np.ndarray, "even y x"]:
    low = np.clip(np.searchsorted(depth_mm, even_mm, side="right") - 1, 0, len(depth_mm) - 2)
    share = (even_mm - depth_mm[low]) / (depth_mm[low + 1] - depth_mm[low])
    between = np.empty((len(even_mm), *values.shape[1:]), dtype=np.int16)
    for target, start, part in zip(between, low.tolist(), share.tolist(), strict=True):
        one, other = (values[kept[place]].astype(np.float32) for place in (start, start + 1))
        target[:] = np.rint(one + (other - one) * np.float32(part))
    return between


def _largest_group(files: Sequence[str]) -> list[str]:
    """Return the largest group of files with the same size and direction, in their order."""
    groups: dict[tuple[object, ...], list[str]] = {}
    reader = SimpleITK.ImageFileReader()
    for file in files:
        reader.SetFileName(file)
        with silent():
            try:
                reader.ReadImageInformation()
            except RuntimeError:
                continue
        direction = tuple(round(value, 3) for value in reader.GetDirection())
        groups.setdefault((reader.GetSize(), direction), []).append(file)
    return max(groups.values(), key=len, default=[])


@contextmanager
def silent() -> Iterator[BinaryIO]:
    """Redirect what ITK and GDCM print on stderr: it comes from C++ and may quote the header.

    Yields:
        The file that receives the lines; seek to its start to read them.
    """
    terminal = os.dup(2)
    with TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
