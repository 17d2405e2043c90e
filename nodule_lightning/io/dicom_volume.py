"""Voxels of a DICOM series: GDCM decodes the pixels, the headers say where they lie."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pydicom
import SimpleITK
from jaxtyping import Float64, Int16, Int64, Shaped
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import CTImageStorage

from nodule_lightning.errors import InputError
from nodule_lightning.io.dicom_headers import Slice
from nodule_lightning.io.itk import silent
from nodule_lightning.io.settings import ReadingSettings
from nodule_lightning.io.volume_files import Volume

SAME_PLACE_MM: Final = 0.005
_WIDEST_GAP_MM: Final = 25.0
# Positions are stored with few digits.
_ROUNDED_MM: Final = 0.01
_CROOKED_MM: Final = 0.1
# Tolerance as a share of the usual slice distance.
_EVEN: Final = 0.02
# What a decoder must know.
_PIXELS: Final = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def build_volume(folder: Path, slices: Sequence[Slice], reading: ReadingSettings) -> Volume:
    """Read the pixels, sort the slices by depth and interpolate them to even distances.

    Args:
        folder: of the series, for messages.
        slices: images of one plane that say where they lie.
        reading: what to do where pixels cannot be decoded.

    Raises:
        InputError: slices are damaged, contradict each other, leave too wide a gap or wander sideways.
    """
    axes = axes_of(folder, slices[0])
    order = np.argsort([image.position_xyz_mm for image in slices] @ axes[:, 2], kind="stable")
    slices, values, notes = _pixels(folder, [slices[place] for place in order.tolist()], reading)
    if len(slices) < 2 or min(values.shape) < 2:
        raise InputError(f"{folder} is not a volume: it has {len(slices)} slices", "scan-invalid")
    position = np.array([image.position_xyz_mm for image in slices])
    depth = position @ axes[:, 2]
    kept, repeats = _without_repeats(folder, values, depth)
    if len(kept) < 2:
        raise InputError(f"{folder}: all slices lie at one position; export the series again", "scan-invalid")
    if repeats:
        notes = (*notes, f"{repeats} duplicate slices were left out")
    depth, position = depth[kept], position[kept]
    even, changes = even_depths(depth)
    widest = float(np.diff(depth).max())
    if widest > _WIDEST_GAP_MM:
        raise InputError(f"{folder}: {widest:.0f} mm without a slice; copy the series again", "scan-invalid")
    step_y, step_x = slices[0].spacing_yx_mm
    step_z = float(even[-1] - even[0]) / (len(even) - 1)
    shift = _shift(folder, position, depth, axes[:, 2])
    steps = np.column_stack([axes[:, 0] * step_x, axes[:, 1] * step_y, (axes[:, 2] + shift) * step_z])
    placed = values[kept] if even is depth else _between(values, depth, kept, even)
    return Volume(placed, steps, position[0], (*notes, *changes))


def axes_of(folder: Path, image: Slice) -> Float64[np.ndarray, "3 3"]:
    """Return the unit vectors along the x, y and z index axes, as columns; z is the slices' normal.

    Raises:
        InputError: the orientation is no pair of orthogonal directions.
    """
    along = np.reshape(image.orientation, (2, 3))
    lengths = np.linalg.norm(along, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(along[0] @ along[1])) > 0.01:
        raise InputError(f"{folder}: its ImageOrientationPatient is no pair of directions", "scan-invalid")
    x, y = along / lengths[:, None]
    normal = np.cross(x, y)
    return np.column_stack([x, y, normal / np.linalg.norm(normal)])


def _shift(
    folder: Path,
    position_xyz_mm: Float64[np.ndarray, "slice 3"],
    depth_mm: Float64[np.ndarray, "slice"],
    normal: Float64[np.ndarray, "3"],
) -> Float64[np.ndarray, "3"]:
    """Measure how far slices move sideways per mm of depth, as under a tilted gantry; zero if they hardly do."""
    sideways = position_xyz_mm - np.outer(position_xyz_mm @ normal, normal)
    sideways = sideways - sideways[0]
    if np.abs(sideways).max() <= _ROUNDED_MM:
        return np.zeros(3)
    shift: Float64[np.ndarray, 3] = sideways[-1] / (depth_mm[-1] - depth_mm[0])
    if np.abs(sideways - np.outer(depth_mm - depth_mm[0], shift)).max() > _CROOKED_MM:
        raise InputError(f"{folder}: its slices are shifted sideways, not along one line", "scan-invalid")
    return shift


def _pixels(
    folder: Path, slices: list[Slice], reading: ReadingSettings
) -> tuple[list[Slice], Shaped[np.ndarray, "slice y x"], tuple[str, ...]]:
    if slices[0].frame is not None:
        return slices, _frames(folder, slices), ()
    try:
        return slices, _decoded(slices), ()
    except RuntimeError:
        good = [image for image in slices if _is_decodable(image)]
    damaged = len(slices) - len(good)
    if not damaged or len(good) < 2:
        raise InputError(f"{folder} cannot be read: its slices are damaged or of several sizes", "file-damaged")
    bad = next(image.file.name for image in slices if not any(image is other for other in good))
    note = reading.doubt(folder, f"{damaged} of {len(slices)} files cannot be read", f", such as {bad}")
    return good, _decoded(good), (note,)


def _decoded(slices: Sequence[Slice]) -> Shaped[np.ndarray, "slice y x"]:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(image.file) for image in slices])
    kinds = {(image.is_signed, *image.rescale) for image in slices}
    if len(kinds) > 1 or any(value % 1 for _, *rescale in kinds for value in rescale):
        # Else ITK takes the type of the first slice for all.
        reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    with silent():
        values: Shaped[np.ndarray, "slice y x"] = SimpleITK.GetArrayFromImage(reader.Execute())
    return values


def _is_decodable(image: Slice) -> bool:
    try:
        _decoded([image])
    except RuntimeError:
        return False
    return True


def _frames(folder: Path, slices: Sequence[Slice]) -> Shaped[np.ndarray, "slice y x"]:
    stored: dict[Path, np.ndarray] = {}
    planes = []
    for image in slices:
        if image.file not in stored:
            stored[image.file] = _stored_frames(folder, image.file)
        slope, intercept = image.rescale
        plane = stored[image.file][image.frame]
        planes.append(plane if (slope, intercept) == (1.0, 0.0) else plane.astype(np.float32) * slope + intercept)
    return np.stack(planes)


def _stored_frames(folder: Path, file: Path) -> Shaped[np.ndarray, "frame y x"]:
    try:
        whole = pydicom.dcmread(file)
        return whole.pixel_array if not whole.file_meta.TransferSyntaxUID.is_compressed else _decompressed(whole)
    except Exception:
        # Which exception comes depends on the damaged bytes.
        raise InputError(f"{folder}: the frames of an Enhanced CT cannot be decoded", "file-damaged") from None


def _decompressed(whole: Dataset) -> Shaped[np.ndarray, "frame y x"]:
    """Decode each frame as a file of its own: GDCM knows more ways of compression than pydicom by itself."""
    count, offsets = int(whole.NumberOfFrames), whole.get("ExtendedOffsetTable")
    extended = (offsets, whole.ExtendedOffsetTableLengths) if offsets else None
    single = Dataset()
    for name in _PIXELS:
        setattr(single, name, whole[name].value)
    single.SOPClassUID, single.SOPInstanceUID = CTImageStorage, whole.SOPInstanceUID
    single.file_meta = whole.file_meta
    single.file_meta.MediaStorageSOPClassUID = CTImageStorage
    planes = []
    with TemporaryDirectory() as room:
        file = Path(room, "frame.dcm")
        for number in range(count):
            frame = get_frame(whole.PixelData, number, number_of_frames=count, extended_offsets=extended)
            single.PixelData = encapsulate([frame])
            single.save_as(file, enforce_file_format=True)
            with silent():
                planes.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))[0])
    return np.stack(planes)


def _without_repeats(
    folder: Path, values: Shaped[np.ndarray, "slice y x"], depth_mm: Float64[np.ndarray, "slice"]
) -> tuple[Int64[np.ndarray, "kept"], int]:
    kept = [0]
    for index in range(1, len(depth_mm)):
        if depth_mm[index] - depth_mm[kept[-1]] > SAME_PLACE_MM:
            kept.append(index)
        elif not np.array_equal(values[index], values[kept[-1]]):
            raise InputError(
                f"{folder}: different slices of one series lie at one position ({depth_mm[index]:.2f} mm): "
                "several phases or reconstructions; put each in a folder of its own",
                "scan-invalid",
            )
    return np.array(kept, dtype=np.int64), len(depth_mm) - len(kept)


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
