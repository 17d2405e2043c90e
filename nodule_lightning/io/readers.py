"""Readers of CT in Hounsfield units: .mhd with .raw or .zraw, .mha, .nrrd, NIfTI, or a folder of DICOM slices.

Of a DICOM header, only the geometry and the SeriesInstanceUID, which becomes the scan id, leave this module. Patient
identifiers do not.
"""

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK
from jaxtyping import Int16, Integer, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.dicom import first_series, is_dicom, pick_series, read_series, silent
from nodule_lightning.io.settings import STRICT, ReadingSettings
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.structures import AIR_HU, Scan

SUFFIXES = (".nii.gz", ".mhd", ".mha", ".nrrd", ".nii")
LARGEST_EXTENT_MM = 3000
# The folder of true masks in a generated data set, and the files beside it by which such a data set is recognised.
TRUTH = "truth"
MANIFEST, PLANTED = "phantom.json", "planted.csv"
_GENERATED = {MANIFEST, PLANTED}
_SAME_POSITION_MM = 1.0


def read_scan(path: Path, reading: ReadingSettings = STRICT) -> Scan:
    """Read one CT.

    Padding below -1024 HU becomes -1024. DICOM's slope and intercept are applied. A file without negative values may
    have been stored with an offset of 1024; see `to_hu` for how that is recognised.

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
        image, notes = read_series(path, files)
    else:
        scan_id, image, notes = _file_id(path), _read_file(path), ()
    _check_volume(path, image)
    values = SimpleITK.GetArrayViewFromImage(image)
    hu = to_hu(values, reading.offset_hu, may_be_offset=path.is_file())
    return Scan(scan_id, hu, _grid(path, image), notes)


def read_labels(path: Path, grid: Grid) -> Integer[np.ndarray, "z y x"]:
    """Read a label map on the grid of a scan, such as a lung mask.

    Raises:
        InputError: the file is missing or damaged, or its grid differs from the scan's.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "file-missing")
    image = _read_file(path)
    _check_volume(path, image)
    own = _grid(path, image)
    if own.shape != grid.shape or np.abs(own.corners_xyz_mm() - grid.corners_xyz_mm()).max() > _SAME_POSITION_MM:
        raise InputError(
            f"{path} is not on the grid of its scan: shape {own.shape} against {grid.shape}; delete or replace it",
            "scan-invalid",
        )
    labels: Integer[np.ndarray, "z y x"] = SimpleITK.GetArrayFromImage(image)
    return labels


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


def to_hu(
    values: Shaped[np.ndarray, "z y x"], offset_hu: int | None = None, *, may_be_offset: bool
) -> Int16[np.ndarray, "z y x"]:
    """Convert stored values to Hounsfield units.

    Some converters store CT as unsigned values with an offset of 1024 that the file does not mention. A volume is
    treated as such if three conditions hold: no value is negative (CT in HU always contains air at -1000); the 1st
    percentile is below 200 (there is air); and at least a tenth of the voxels lie between 824 and 1324 with a median
    within 100 of 1024 (fat, water and muscle at -200..300 HU). A true HU volume clipped at zero fails the third
    condition, because hardly any tissue is that dense, and stays as it is.

    Args:
        values: the stored values, of any dtype; NaN becomes air.
        offset_hu: added to the values; None to recognise it.
        may_be_offset: False if the format itself defines HU, as DICOM does.
    """
    offset = -offset_hu if offset_hu is not None else 1024 if may_be_offset and _looks_offset(values) else 0
    if values.dtype == np.int16 and not offset:
        return np.asarray(np.maximum(values, np.int16(AIR_HU)))
    hu = np.empty(values.shape, dtype=np.int16)
    # Slice by slice, so that the whole scan is never held in a wider dtype.
    for source, target in zip(values, hu, strict=True):
        plane = np.nan_to_num(source.astype(np.float32), nan=AIR_HU + offset)
        target[:] = np.rint(plane - offset).clip(AIR_HU, np.iinfo(np.int16).max)
    return hu


def _looks_offset(values: Shaped[np.ndarray, "z y x"]) -> bool:
    if np.nanmin(values) < 0:
        return False
    sample = values[::2, ::4, ::4]
    tissue = sample[(sample > 824) & (sample < 1324)]
    if np.percentile(sample, 1) >= 200 or tissue.size < 0.1 * sample.size:
        return False
    return bool(abs(float(np.median(tissue)) - 1024) < 100)


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


def _read_file(path: Path) -> SimpleITK.Image:
    source_files(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    with silent() as lines:
        try:
            reader.ReadImageInformation()
            _check_nifti(path, reader)
            image = reader.Execute()
            # If the compressed data of a MetaImage are damaged, ITK returns noise and only prints this.
            lines.seek(0)
            if b"Uncompress failed" in lines.read():
                raise EOFError
            return image
        except (RuntimeError, EOFError, OSError, zlib.error):
            # SimpleITK's own message quotes ITK's source files and mostly says "No such file".
            raise InputError(
                f"{path} cannot be read: it is damaged or cut short, copy it again", "file-damaged"
            ) from None


def _check_nifti(path: Path, reader: SimpleITK.ImageFileReader) -> None:
    """Refuse a truncated NIfTI file: ITK silently fills in the missing end."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    length = path.stat().st_size
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            length = sum(len(block) for block in iter(partial(stream.read, 1 << 22), b""))
    start, bits = float(reader.GetMetaData("vox_offset")), int(reader.GetMetaData("bitpix"))
    if length < start + math.prod(reader.GetSize()) * bits / 8:
        raise EOFError


def _check_volume(path: Path, image: SimpleITK.Image) -> None:
    size, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    if len(size) != 3 or min(size) < 2:
        raise InputError(
            f"{path} is not a volume: its size is {'x'.join(map(str, size))}, three axes are needed", "scan-invalid"
        )
    extents_mm = [count * step for count, step in zip(size, image.GetSpacing(), strict=True)]
    if max(extents_mm) > LARGEST_EXTENT_MM:
        raise InputError(
            f"{path} is {max(extents_mm) / 1000:.1f} m long by its header, longer than any patient: its spacing "
            f"{', '.join(f'{step:g}' for step in image.GetSpacing())} mm must be wrong",
            "scan-invalid",
        )
    if components != 1:
        raise InputError(f"{path} holds {components} values per voxel (colour?); a CT has one", "scan-invalid")


def _grid(path: Path, image: SimpleITK.Image) -> Grid:
    (nx, ny, nz), (sx, sy, sz), (ox, oy, oz) = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    try:
        return Grid((nz, ny, nx), (sz, sy, sx), (ox, oy, oz), tuple(image.GetDirection()))
    except InputError as error:
        raise InputError(f"{path}: {error}", error.key) from None
