"""Volumes in single files: MetaImage and NRRD through SimpleITK, NIfTI through nibabel.

Both libraries fill in a spacing or a place that a header does not give. Here that is a fault of the file.
"""

import gzip
import re
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK
from jaxtyping import Float64, Shaped
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from nodule_lightning.errors import InputError
from nodule_lightning.io.itk import silent
from nodule_lightning.io.settings import STRICT, ReadingSettings

_RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0])
_MM_OF_UNIT: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# Any, because nibabel is typed in part only.
_NIFTI: Final[dict[bytes, Any]] = {b"n+1": Nifti1Header, b"n+2": Nifti2Header}
# What a MetaImage may call each.
_META_KEYS: Final = {
    "ElementSpacing": {"elementspacing"},
    "TransformMatrix": {"transformmatrix", "rotation", "orientation"},
    "Offset": {"offset", "position", "origin"},
}
_NRRD_SPACES: Final = {
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Volume:
    """Values as they are stored, and where they lie.

    Attributes:
        values: the voxels; a colour has a fourth axis.
        axes_xyz_mm: columns are the steps in mm from voxel to voxel along the x, y and z index axes, in LPS; they need
            not be orthogonal.
        origin_xyz_mm: world position of the centre of voxel (0, 0, 0).
        notes: the faults that reading overlooked.
        owner: keeps the memory of the values.
    """

    values: Shaped[np.ndarray, "*zyx"]
    axes_xyz_mm: Float64[np.ndarray, "3 3"]
    origin_xyz_mm: Float64[np.ndarray, "3"]
    notes: tuple[str, ...] = ()
    owner: object = None


def read_volume(path: Path, reading: ReadingSettings = STRICT) -> Volume:
    """Read a file as it is.

    Args:
        path: a .mhd, .mha, .nrrd, .nii or .nii.gz file.
        reading: what to do if the header leaves out or contradicts where the volume lies.

    Raises:
        InputError: the file is damaged or no volume, or the header does not say where the volume lies and reading is
            strict.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return _read_nifti(path, reading)
    volume = of_image(path, _read_image(path))
    return replace(volume, notes=tuple(reading.doubt(path, fault) for fault in _describe_header(path)))


def of_image(path: Path, image: SimpleITK.Image, notes: tuple[str, ...] = ()) -> Volume:
    """Take over an image of SimpleITK.

    Raises:
        InputError: it is not three-dimensional, or in colour.
    """
    _check_shape(path, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    axes = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return Volume(SimpleITK.GetArrayViewFromImage(image), axes, np.array(image.GetOrigin()), notes, image)


def _check_shape(path: Path, size_xyz: tuple[int, ...], components: int) -> None:
    if len(size_xyz) != 3 or min(size_xyz) < 2:
        size = "x".join(map(str, size_xyz))
        raise InputError(f"{path} is not a volume: its size is {size}, three axes are needed", "scan-invalid")
    if components != 1:
        raise InputError(f"{path} holds {components} values per voxel (colour?); a CT has one", "scan-invalid")


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} cannot be read: it is damaged or cut short, copy it again", "file-damaged")


def _read_image(path: Path) -> SimpleITK.Image:
    with silent() as lines:
        try:
            image = SimpleITK.ReadImage(str(path))
            # If the compressed data of a MetaImage are damaged, ITK returns noise and only prints this.
            lines.seek(0)
            is_damaged = b"Uncompress failed" in lines.read()
        except RuntimeError:
            # SimpleITK's own message quotes ITK's source files and mostly says "No such file".
            is_damaged = True
    if is_damaged:
        raise _damaged(path)
    return image


def _describe_header(path: Path) -> list[str]:
    """Name what the header of a MetaImage or NRRD does not say, so that ITK has assumed it."""
    with path.open("rb") as file:
        text = file.read(1 << 16).decode("latin-1")
    if path.suffix.lower() == ".nrrd":
        given = {key.lower(): value.strip() for key, value in _fields(text.partition("\n\n")[0], ":")}
        missing = [name for name in ("space directions", "space origin") if name not in given]
        if given.get("space", "").lower() not in _NRRD_SPACES:
            missing.insert(0, "space (in which its place is given)")
    else:
        header = re.split(r"(?m)^ElementDataFile", text)[0]
        keys = {key.lower() for key, _ in _fields(header, "=")}
        missing = [name for name, names in _META_KEYS.items() if not names & keys]
    return [f"its header does not say where the volume lies: there is no {', '.join(missing)}"] if missing else []


def _fields(header: str, separator: str) -> list[tuple[str, str]]:
    return re.findall(rf"(?m)^[ \t]*([A-Za-z][\w ]*?)[ \t]*{separator}[ \t]*([^\r\n]*)", header)


def _read_nifti(path: Path, reading: ReadingSettings) -> Volume:
    try:
        content = path.read_bytes()
        # The first bytes tell, not the name.
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        magic = content[344:347] if content[344:347] in _NIFTI else content[4:7]
        stream = BytesIO(content)
        # Unchecked: nibabel's checks replace a spacing of 0 by 1.
        header = _NIFTI[magic].from_fileobj(stream, check=False)
        size, dtype = header.get_data_shape(), header.get_data_dtype()
        values = header.raw_data_from_fileobj(stream)
        slope, offset = header.get_slope_inter()
    except Exception:
        # Which exception comes depends on the damaged bytes: KeyError, OSError, EOFError, HeaderDataError, ...
        raise _damaged(path) from None
    while len(size) > 3 and size[-1] == 1:
        size, values = size[:-1], values[..., 0]
    _check_shape(path, size, len(dtype.fields or ()) or 1 + np.issubdtype(dtype, np.complexfloating))
    if slope is not None and (slope, offset) != (1.0, 0.0):
        values = values.astype(np.float32) * np.float32(slope) + np.float32(offset)
    affine, notes = _nifti_affine(path, header, reading)
    mm = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return Volume(values.T, affine[:3, :3] * mm, affine[:3, 3] * mm, notes)


def _nifti_affine(
    path: Path,
    header: Any,  # noqa: ANN401 - of nibabel
    reading: ReadingSettings,
) -> tuple[Float64[np.ndarray, "4 4"], tuple[str, ...]]:
    """Return the affine from index to LPS in the header's unit: the sform, or else the qform."""
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and not has_qform:
        fault = "its header does not say where the volume lies: sform_code and qform_code are both 0"
        steps = [abs(float(step)) for step in header["pixdim"][1:4]]
        return np.diag([*steps, 1.0]), (reading.doubt(path, fault),)
    try:
        qform = header.get_qform() if has_qform else None
    except Exception:
        # A quaternion or a voxel size that makes no sense.
        qform = None
    affine = header.get_sform() if has_sform else qform
    if affine is None:
        raise InputError(f"{path}: its qform and pixdim make no sense, and there is no sform", "scan-invalid")
    notes: tuple[str, ...] = ()
    if has_sform and qform is not None and (apart := _apart(affine, qform, header.get_data_shape()[:3])) is not None:
        notes = (reading.doubt(path, f"its sform and its qform place the same voxel {apart:.1f} voxels apart"),)
    lps = np.array(affine, dtype=np.float64)
    lps[:3] = _RAS_TO_LPS @ lps[:3]
    return lps, notes


def _apart(sform: np.ndarray, qform: np.ndarray, size_xyz: tuple[int, ...]) -> float | None:
    """Return how far two affines place a corner apart, in voxels; None if by less than one, or if the sform is sheared.

    A qform cannot describe a shear.
    """
    steps = np.linalg.norm(sform[:3, :3], axis=0).clip(1e-12)
    unit = sform[:3, :3] / steps
    if np.abs(unit.T @ unit - np.eye(3)).max() > 0.01:
        return None
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(size_xyz) - 1.0)
    difference = corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]
    apart = float(np.linalg.norm(difference, axis=1).max() / steps.max())
    return apart if apart > 1 else None
