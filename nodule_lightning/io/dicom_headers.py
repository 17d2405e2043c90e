"""Headers of DICOM files: what each image says of its series and its place, and nothing else."""

import math
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

Numbers = tuple[float, ...]

_TAGS: Final = [
    "Modality", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "AcquisitionNumber",
    "TemporalPositionIdentifier", "AcquisitionTime", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_UNCOMPRESSED: Final = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
# A file with such a suffix claims to be DICOM, also if it is empty.
_SUFFIXES: Final = {".dcm", ".dicom", ".ima"}
OTHER_FORMATS: Final = {
    ".raw", ".zraw", ".npy", ".csv", ".txt", ".xml", ".json", ".html", ".pdf", ".png", ".jpg", ".md",
}  # fmt: skip


class UnreadableError(Exception):
    """A file that should be a DICOM image is empty, cut short or no DICOM."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One image of a DICOM file.

    Attributes:
        file: where it lies.
        frame: its number in a multi-frame file; None if the file holds one image.
        series: SeriesInstanceUID, or StudyInstanceUID where that is empty; empty without both.
        source: study, frame of reference and, without a SeriesInstanceUID, series number and folder, since a study may
            hold several series. Images that belong together agree in all.
        acquisition: what tells the passes of one series apart.
        time: AcquisitionTime, which may do so as well.
        number: InstanceNumber; NaN if missing or no number.
        shape: rows, columns and samples per pixel.
        position_xyz_mm: of the centre of the first pixel; NaN if missing or no numbers.
        orientation: direction cosines of the rows and of the columns; NaN likewise.
        spacing_yx_mm: distance of the rows and of the columns; NaN likewise.
        is_signed: whether the stored values are.
        rescale: slope and intercept.
    """

    file: Path
    frame: int | None
    series: str
    source: tuple[str, ...]
    acquisition: tuple[str, str]
    time: str
    number: float
    shape: tuple[int, int, int]
    position_xyz_mm: Numbers
    orientation: Numbers
    spacing_yx_mm: Numbers
    is_signed: bool
    rescale: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Listing:
    """The DICOM files of one or several folders.

    Attributes:
        slices: the images.
        unreadable: files that should be images and cannot be read.
        unopened: other files that cannot be opened, such as links to nowhere.
    """

    slices: list[Slice]
    unreadable: list[Path]
    unopened: list[Path]

    def by_series(self) -> dict[str, list[Slice]]:
        """Group the images by series, in order of first appearance."""
        groups: dict[str, list[Slice]] = {}
        for image in self.slices:
            groups.setdefault(image.series, []).append(image)
        return groups


def list_images(files: Iterable[Path]) -> Listing:
    """Read the headers of the DICOM images among files.

    Other files and DICOM objects that are no images are passed over. A file that is empty, cut short or cannot be
    opened counts as unreadable if its suffix is DICOM's, its name is like the images' but for numbers, or it is blank
    and has their suffix.
    """
    slices: list[Slice] = []
    bad: list[Path] = []
    unopened: list[Path] = []
    for file in files:
        try:
            slices.extend(read_header(file))
        except UnreadableError:
            bad.append(file)
        except OSError:
            unopened.append(file)
    patterns = {_pattern(image.file.name) for image in slices}
    suffixes = {_pattern(image.file.suffix) for image in slices}

    def claims(file: Path) -> bool:
        return file.suffix.lower() in _SUFFIXES or _pattern(file.name) in patterns

    blank = {file for file in bad if _pattern(file.suffix) in suffixes and _is_blank(file)}
    unreadable = [file for file in bad if claims(file) or file in blank or is_dicom(file)]
    unreadable += [file for file in unopened if claims(file)]
    return Listing(slices, unreadable, [file for file in unopened if not claims(file)])


def is_dicom(path: Path) -> bool:
    """Recognise a DICOM file by its first bytes, with or without preamble; a DICOMDIR index does not count."""
    with path.open("rb") as file:
        return path.name.upper() != "DICOMDIR" and _is_dicom(file)


def read_header(path: Path) -> list[Slice]:
    """Read where the images of a file lie; empty if it holds no image or is of another format by its suffix.

    Raises:
        UnreadableError: the file is empty, cut short or no DICOM.
        OSError: the file cannot be opened.
    """
    if path.name.upper() == "DICOMDIR":
        return []
    is_other = path.suffix.lower() in OTHER_FORMATS
    with path.open("rb") as file, warnings.catch_warnings():
        # Values that are not what the standard asks for; those that matter are checked below.
        warnings.simplefilter("ignore")
        if not _is_dicom(file, needs_magic=is_other):
            if is_other:
                return []
            raise UnreadableError
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            return _images(path, header, os.fstat(file.fileno()).st_size - file.tell())
        except OSError:
            raise
        except Exception:
            # Which exception comes depends on the damaged bytes: EOFError, KeyError, struct.error, zlib.error, ...
            raise UnreadableError from None


def _images(path: Path, header: Dataset, left_bytes: int) -> list[Slice]:
    rows, columns = _value(header, "Rows"), _value(header, "Columns")
    if not rows or not columns:
        if str(_value(header, "Modality") or "CT").upper() != "CT" or not _is_of_images(header):
            return []
        raise UnreadableError
    frames, samples = int(_value(header, "NumberOfFrames") or 1), int(_value(header, "SamplesPerPixel") or 1)
    bits = int(_value(header, "BitsAllocated") or 0)
    if _syntax(header) in _UNCOMPRESSED and left_bytes < rows * columns * samples * frames * bits // 8:
        raise UnreadableError
    series = _text(header, "SeriesInstanceUID")
    source = (_text(header, "StudyInstanceUID"), _text(header, "FrameOfReferenceUID"))
    plain = Slice(
        file=path,
        frame=None if frames == 1 else 0,
        series=series or source[0],
        source=source if series else (*source, _text(header, "SeriesNumber"), str(path.parent)),
        acquisition=(_text(header, "AcquisitionNumber"), _text(header, "TemporalPositionIdentifier")),
        time=_text(header, "AcquisitionTime"),
        number=_numbers([_value(header, "InstanceNumber")], 1)[0],
        shape=(int(rows), int(columns), samples),
        position_xyz_mm=_numbers(_value(header, "ImagePositionPatient"), 3),
        orientation=_numbers(_value(header, "ImageOrientationPatient"), 6),
        spacing_yx_mm=_numbers(_value(header, "PixelSpacing"), 2),
        is_signed=bool(_value(header, "PixelRepresentation")),
        rescale=_rescale(header),
    )
    of_frames = _value(header, "PerFrameFunctionalGroupsSequence")
    shared = _value(header, "SharedFunctionalGroupsSequence") or [Dataset()]
    return [_frame(plain, number, own, shared[0]) for number, own in enumerate(of_frames)] if of_frames else [plain]


def _frame(file: Slice, number: int, own: Dataset, shared: Dataset) -> Slice:
    """Read the functional groups of one frame of an Enhanced CT: its own, else those that all frames share."""

    def group(name: str) -> Dataset:
        found = _value(own, name) or _value(shared, name) or [Dataset()]
        member: Dataset = found[0]
        return member

    content = group("FrameContentSequence")
    return replace(
        file,
        frame=number,
        acquisition=(_text(content, "FrameAcquisitionNumber"), _text(content, "TemporalPositionIndex")),
        position_xyz_mm=_numbers(_value(group("PlanePositionSequence"), "ImagePositionPatient"), 3),
        orientation=_numbers(_value(group("PlaneOrientationSequence"), "ImageOrientationPatient"), 6),
        spacing_yx_mm=_numbers(_value(group("PixelMeasuresSequence"), "PixelSpacing"), 2),
        rescale=_rescale(group("PixelValueTransformationSequence")),
        number=math.nan,
    )


def _rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = _value(header, "RescaleSlope"), _value(header, "RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _is_of_images(header: Dataset) -> bool:
    """Tell by its class whether a file is meant to hold an image; one without a class may be."""
    sop_class = str(getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID", ""))
    return not sop_class or UID(sop_class).name.endswith("Image Storage")


def _is_blank(path: Path) -> bool:
    """Recognise what is left of an aborted copy: no bytes, or nothing but zeros where a header should be."""
    with path.open("rb") as file:
        return not file.read(132).strip(b"\0")


def _is_dicom(file: BinaryIO, *, needs_magic: bool = False) -> bool:
    """Recognise the preamble, or a data set that begins with its first group."""
    head = file.read(132)
    file.seek(0)
    if head[128:] == b"DICM":
        return True
    if needs_magic:
        return False
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    is_explicit, length = head[4:6].isalpha() and head[4:6].isupper(), int.from_bytes(head[4:8], "little")
    return len(head) == 132 and group in (2, 8) and element < 0x100 and (is_explicit or length < 256)


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _syntax(header: Dataset) -> str:
    return str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", ""))


def _value(header: Dataset, name: str) -> Any:  # noqa: ANN401 - what pydicom gives
    try:
        return header.get(name)
    except Exception:
        # As many kinds as there are ways to write a value wrong.
        return None


def _text(header: Dataset, name: str) -> str:
    value = _value(header, name)
    return "" if value is None else str(value).strip()


def _numbers(values: Sequence[Any] | None, count: int) -> Numbers:
    try:
        numbers = tuple(float(value) for value in values or ())
    except (TypeError, ValueError):
        numbers = ()
    return numbers if len(numbers) == count else (math.nan,) * count
