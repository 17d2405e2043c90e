"""Read a CT from disk, in Hounsfield units: .mhd with .raw or .zraw, .mha, .nrrd, NIfTI, or a folder of DICOM slices.

The only thing kept of a DICOM header is the geometry and the SeriesInstanceUID, which is the scan's id: no patient
identifier goes any further than this module.
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
from nodule_lightning.io.tables import check_scan_id
from nodule_lightning.structures import AIR_HU, Scan

SUFFIXES = (".nii.gz", ".mhd", ".mha", ".nrrd", ".nii")
LARGEST_EXTENT_MM = 3000
# The folder of true masks, and the files beside it that say that it is one.
TRUTH = "truth"
CLAIM, PLANTED = "phantom.json", "planted.csv"
_MADE_HERE = {CLAIM, PLANTED}
_SAME_PLACE_MM = 1.0


def read_scan(path: Path) -> Scan:
    """Read one CT.

    Padding below -1024 HU becomes -1024. DICOM's slope and intercept are applied. A volume without a negative value
    may be one that was stored with 1024 added; see `to_hu` for when it is taken as such.

    Args:
        path: a scan file, or the folder of one DICOM series.

    Raises:
        InputError: the file is missing, damaged, not three-dimensional or in colour; the folder holds no DICOM
            series or several; its slices contradict each other.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        scan_id, files = pick_series(path)
        image, notes = read_series(path, files)
    else:
        scan_id, image, notes = _file_id(path), _read_file(path), ()
    _check_volume(path, image)
    values = SimpleITK.GetArrayViewFromImage(image)
    return Scan(scan_id, to_hu(values, may_be_offset=path.is_file()), _grid(path, image), notes)


def read_labels(path: Path, grid: Grid) -> Integer[np.ndarray, "z y x"]:
    """Read a label map that lies on the grid of a scan, such as a lung mask.

    Raises:
        InputError: the file is missing or damaged, or lies elsewhere than the scan.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    image = _read_file(path)
    _check_volume(path, image)
    there = _grid(path, image)
    if there.shape != grid.shape or np.abs(there.corners_xyz_mm() - grid.corners_xyz_mm()).max() > _SAME_PLACE_MM:
        raise InputError(f"{path} does not lie where its scan lies: shape {there.shape} against {grid.shape}")
    labels: Integer[np.ndarray, "z y x"] = SimpleITK.GetArrayFromImage(image)
    return labels


def find_scans(folder: Path) -> dict[str, Path]:
    """Find every scan in a folder and below it.

    Hidden files are passed over, and the true masks that `nodule-phantom` and `nodule-plant` write beside their scans.

    Args:
        folder: a folder of scan files and DICOM folders at any depth, or one scan.

    Returns:
        The file or DICOM folder under each scan id, sorted by id. A DICOM folder with several series stands under
        the first one's id, so that reading it says what is wrong; its name might be the patient's.

    Raises:
        InputError: the folder is missing or holds no scan, or two scans have the same id.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    if folder.is_file():
        return {_file_id(folder): folder}
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        masks = {TRUTH} if not _MADE_HERE.isdisjoint(names) else set()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in masks)
        for scan_id, path in _scans_in(Path(parent), sorted(names)):
            if scan_id in found:
                raise InputError(f"{found[scan_id]} and {path} are both the scan {scan_id}; keep one")
            found[scan_id] = path
    if not found:
        raise InputError(f"{folder} holds no scan: neither {', '.join(SUFFIXES)} nor a DICOM series")
    return dict(sorted(found.items()))


def source_files(path: Path) -> list[Path]:
    """List the files that hold a scan: a header with its data file, or all files of a DICOM folder.

    Raises:
        InputError: a header names a data file that is missing.
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
        raise InputError(f"{path}: the data file that it names is missing; copy it too")
    return [path, data]


def to_hu(values: Shaped[np.ndarray, "z y x"], *, may_be_offset: bool) -> Int16[np.ndarray, "z y x"]:
    """Turn stored pixels into Hounsfield units.

    Some converters store CT without a sign, with 1024 added, and forget to say so. A volume is taken as such when
    all three hold: no value is negative (a CT in HU always has air, at -1000); the 1st percentile is under 200
    (there is air); and at least a tenth of the voxels lie between 824 and 1324 with a median within 100 of 1024
    (fat, water and muscle are there, at -200..300 HU). A true HU volume cut off at zero fails the third, because
    hardly any tissue is that dense; it is left as it is.

    Args:
        values: the pixels, of any number type; NaN counts as air.
        may_be_offset: False where the file itself says how to get HU, as DICOM does.
    """
    offset = 1024 if may_be_offset and _looks_offset(values) else 0
    if values.dtype == np.int16 and not offset:
        return np.asarray(np.maximum(values, np.int16(AIR_HU)))
    hu = np.empty(values.shape, dtype=np.int16)
    # Slice by slice, so that a large scan is never held in a wider type.
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
        raise InputError(f"{path} is not a scan file: {cure}")
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
            # ITK goes on with noise where the compressed data of a MetaImage are damaged, and only prints this.
            lines.seek(0)
            if b"Uncompress failed" in lines.read():
                raise EOFError
            return image
        except (RuntimeError, EOFError, OSError, zlib.error):
            # SimpleITK's own message names source files of ITK and mostly says "No such file".
            raise InputError(f"{path} cannot be read: it is damaged or cut short, copy it again") from None


def _check_nifti(path: Path, reader: SimpleITK.ImageFileReader) -> None:
    """Refuse a NIfTI file that is cut short: ITK fills up its missing end in silence."""
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
        raise InputError(f"{path} is not a volume: its size is {'x'.join(map(str, size))}, three axes are needed")
    extents_mm = [count * step for count, step in zip(size, image.GetSpacing(), strict=True)]
    if max(extents_mm) > LARGEST_EXTENT_MM:
        raise InputError(
            f"{path} is {max(extents_mm) / 1000:.1f} m long by its header, longer than any patient: its spacing "
            f"{', '.join(f'{step:g}' for step in image.GetSpacing())} mm must be wrong"
        )
    if components != 1:
        raise InputError(f"{path} holds {components} values a voxel (colour?); a CT has one")


def _grid(path: Path, image: SimpleITK.Image) -> Grid:
    (nx, ny, nz), (sx, sy, sz), (ox, oy, oz) = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    try:
        return Grid((nz, ny, nx), (sz, sy, sx), (ox, oy, oz), tuple(image.GetDirection()))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
