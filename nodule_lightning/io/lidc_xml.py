"""Readers' marks of one LIDC-IDRI scan, from the XML file that The Cancer Imaging Archive publishes with it.

Positions stay as the file has them: pixels of a slice, counted from 0, and the z position of the slice in mm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeXml
import numpy as np
from defusedxml import DefusedXmlException
from jaxtyping import Int64

from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import check_scan_id

_CT, _RADIOGRAPH = "LidcReadMessage", "IdriReadMessage"
_SERIES: Final = ("SeriesInstanceUid", "SeriesInstanceUID")
_LARGEST_SLICE: Final = 4096
_RATED: Final = range(1, 7)


@dataclass(frozen=True, slots=True)
class Contour:
    """One closed contour of a reader in one slice, or a single point.

    Attributes:
        z_mm: position of the slice.
        xy: its pixels (column, row) in the order drawn: the first ones outside the nodule.
        is_hole: whether it encloses a part that does not belong to the nodule.
    """

    z_mm: float
    xy: Int64[np.ndarray, "point 2"]
    is_hole: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of one reader.

    Attributes:
        reader: number of the reading session, from 0.
        is_nodule: whether the reader took it for a nodule.
        contours: the outline of a nodule of at least 3 mm; a single point for any other mark.
        ratings: the reader's ratings, such as malignancy, of 1 to 6 each; empty for other marks.
    """

    reader: int
    is_nodule: bool
    contours: tuple[Contour, ...]
    ratings: dict[str, int]


@dataclass(frozen=True, slots=True)
class Readings:
    """The marks of all readers of one scan.

    Attributes:
        scan_id: the SeriesInstanceUID.
        readers: the number of reading sessions; a reader may have marked nothing.
        marks: in the order of the file.
    """

    scan_id: str
    readers: int
    marks: tuple[Mark, ...]


def series_of(path: Path) -> str | None:
    """Return the scan that an XML file belongs to, from its header alone; None if it is of a chest radiograph.

    Raises:
        InputError: the file is unreadable, damaged before the end of its header, unsafe, or of another kind.
    """
    with _opened(path) as file:
        root = None
        for event, element in SafeXml.iterparse(file, events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
                if _name(root) == _RADIOGRAPH:
                    return None
                _require_ct(path, root)
            if event == "end" and _name(element) in _SERIES:
                return _scan_id(path, element)
    raise InputError(f"{path} names no series: it has no SeriesInstanceUid", "file-damaged")


def read_lidc_xml(path: Path) -> Readings:
    """Read the marks of one scan.

    Raises:
        InputError: the file is unreadable, cut short, unsafe or of another kind, or a mark lacks its place.
    """
    with _opened(path) as file:
        root: Element = SafeXml.fromstring(file.read(), forbid_dtd=True)
    _require_ct(path, root)
    header = next((found for name in _SERIES if (found := root.find(f".//{{*}}{name}")) is not None), None)
    if header is None:
        raise InputError(f"{path} names no series: it has no SeriesInstanceUid", "file-damaged")
    sessions = root.findall("{*}readingSession")
    marks = [mark for reader, session in enumerate(sessions) for mark in _marks(path, reader, session)]
    return Readings(_scan_id(path, header), len(sessions), tuple(marks))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open an XML file, and turn every way in which it can be bad into one line."""
    try:
        with path.open("rb") as file:
            yield file
    except InputError:
        raise
    except DefusedXmlException:
        raise InputError(
            f"{path} declares entities or a document type, which no file of LIDC-IDRI does: it may be an attack; "
            "download it again",
            "file-unsafe",
        ) from None
    except (ParseError, LookupError, ValueError):
        raise InputError(
            f"{path} is no whole XML file: it is cut short or damaged; download it again", "file-damaged"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "file-unreadable") from None


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _require_ct(path: Path, root: Element) -> None:
    if _name(root) != _CT:
        raise InputError(
            f"{path} holds no readings of a CT: it begins with {_name(root)[:40]!r}, not {_CT}", "file-foreign"
        )


def _scan_id(path: Path, element: Element) -> str:
    try:
        return check_scan_id(element.text or "")
    except InputError as error:
        raise InputError(f"{path}: {error}", error.key) from None


def _marks(path: Path, reader: int, session: Element) -> Iterator[Mark]:
    for element in session:
        if _name(element) == "unblindedReadNodule":
            contours = tuple(_contour(path, roi, "edgeMap") for roi in element.findall("{*}roi"))
            if not contours:
                raise InputError(f"{path}: a nodule of reader {reader + 1} has no place (no roi)", "file-damaged")
            yield Mark(reader, is_nodule=True, contours=contours, ratings=_ratings(path, element))
        elif _name(element) == "nonNodule":
            yield Mark(reader, is_nodule=False, contours=(_contour(path, element, "locus"),), ratings={})


def _contour(path: Path, element: Element, points: str) -> Contour:
    z_mm = _number(path, element, "imageZposition")
    places = [
        [_number(path, point, name) for name in ("xCoord", "yCoord")] for point in element.findall(f"{{*}}{points}")
    ]
    xy = np.array(places, dtype=np.float64).reshape(-1, 2)
    if not len(xy):
        raise InputError(f"{path}: a mark at z {z_mm:g} mm has no point ({points})", "file-damaged")
    if (xy != np.rint(xy)).any() or xy.min() < 0 or xy.max() >= _LARGEST_SLICE:
        raise InputError(
            f"{path}: a mark at z {z_mm:g} mm has a point that is no pixel of a slice; download it again",
            "file-damaged",
        )
    is_hole = (element.findtext("{*}inclusion") or "").strip().upper() == "FALSE"
    return Contour(z_mm, xy.astype(np.int64), is_hole)


def _number(path: Path, element: Element, name: str) -> float:
    text = (element.findtext(f"{{*}}{name}") or "").strip()
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not abs(number) < np.inf:
        raise InputError(f"{path}: {name} is {text[:40]!r}, not a number", "file-damaged")
    return number


def _ratings(path: Path, nodule: Element) -> dict[str, int]:
    characteristics = nodule.find("{*}characteristics")
    if characteristics is None:
        return {}
    ratings = {_name(element): int(_number(path, characteristics, _name(element))) for element in characteristics}
    return {name: value for name, value in ratings.items() if value in _RATED}
