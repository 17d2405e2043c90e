"""LIDC-IDRI's XML files of a data set: which belongs to which scan, the labels of a scan, and the tables of a cache."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nodule_lightning.cache.entries import list_entries, read_description
from nodule_lightning.cache.replacing import lock
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.files import csv_bytes, walk, write_whole
from nodule_lightning.io.lidc_xml import Readings, read_lidc_xml, series_of
from nodule_lightning.io.tables import COORDINATES
from nodule_lightning.preparation.agreement import RATINGS, agree, to_findings
from nodule_lightning.structures import Labels

READINGS: Final = "readings"
"""Key of an entry's record: for its nodules and its excluded findings, in their order, the columns beside the place."""

TABLES: Final = {"nodules": "annotations.csv", "excluded": "annotations_excluded.csv"}
_COLUMNS: Final = ("kind", "readers", *RATINGS)


@dataclass(frozen=True, slots=True)
class ReadingFiles:
    """Where the findings of one scan come from.

    Attributes:
        files: its XML files; several must agree, and none is a failure of the scan.
        least_readers: how many readers must have outlined a nodule.
    """

    files: tuple[Path, ...]
    least_readers: int


@dataclass(slots=True)
class _Found:
    of_scan: dict[str, list[Path]] = field(default_factory=dict)
    of_radiograph: list[Path] = field(default_factory=list)
    homeless: list[InputError] = field(default_factory=list)


def find_readings(
    folder: Path, scans: Mapping[str, Path], least_readers: int
) -> tuple[dict[str, ReadingFiles], frozenset[str], tuple[str, ...]]:
    """Find the XML files of scans by the series that their headers name; only the headers are read.

    A file whose header cannot be read belongs to the scan in whose folder it lies or whose id is its name, and is that
    scan's failure when it is prepared.

    Args:
        folder: the folder of the XML files, at any depth.
        scans: the file or folder of each scan, by id.
        least_readers: how many readers must have outlined a nodule.

    Returns:
        The files of each scan; the scans that are chest radiographs by their XML; and notes for the user.

    Raises:
        InputError: the folder is missing or holds no XML file, or `least_readers` is less than 1.
    """
    if least_readers < 1:
        raise InputError(f"data.least_readers must be at least 1, not {least_readers}", "argument-invalid")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give data.xml", "file-missing")
    found = _look_at(_xml_files(folder), scans)
    if not (found.of_scan or found.of_radiograph or found.homeless):
        raise InputError(f"{folder} holds no XML file of LIDC-IDRI; give data.xml", "file-missing")
    owners = _owners(scans)
    of_radiographs = {owners[path.parent] for path in found.of_radiograph if path.parent in owners}
    radiographs = frozenset(of_radiographs - found.of_scan.keys())
    readings = {
        scan_id: ReadingFiles(tuple(found.of_scan.get(scan_id, ())), least_readers)
        for scan_id in scans
        if scan_id not in radiographs
    }
    return readings, radiographs, tuple(_notes(found, scans, radiographs))


def _notes(found: _Found, scans: Mapping[str, Path], radiographs: frozenset[str]) -> Iterator[str]:
    if found.homeless:
        yield f"{len(found.homeless)} XML files belong to no scan, such as: {found.homeless[0]}"
    if absent := sorted(found.of_scan.keys() - scans.keys()):
        yield f"the XML files name {len(absent)} scans that are not on disk, such as {absent[0]}"
    if radiographs:
        yield f"{len(radiographs)} series are chest radiographs by their XML and were left out"


def read_marks(source: ReadingFiles, scan_id: str) -> Readings:
    """Read the readers' marks of a scan.

    Raises:
        InputError: it has no XML file, a bad one or two that differ, or was read by fewer than are needed.
    """
    if not source.files:
        raise InputError("no XML file names this scan, so that its nodules are unknown; add it", "annotations-missing")
    found = [read_lidc_xml(path) for path in source.files]
    if any(readings.scan_id != scan_id for readings in found):
        raise InputError(f"its XML is of another scan, {found[0].scan_id}; download it again", "scan-invalid")
    if any(_content(readings) != _content(found[0]) for readings in found):
        listed = ", ".join(path.name for path in source.files)
        raise InputError(f"its XML files differ in their marks: {listed}; keep one", "scan-repeated")
    if found[0].readers < source.least_readers:
        raise InputError(
            f"its XML holds {found[0].readers} readings, but data.least_readers is {source.least_readers}",
            "annotations-missing",
        )
    return found[0]


def to_labels(readings: Readings, grid: Grid, least_readers: int, subset: str) -> tuple[Labels, dict[str, Any]]:
    """Make the labels of a scan, and what its record holds of them.

    Raises:
        InputError: the marks are not of this scan, see `outlines.check_slices`.
    """
    nodules, excluded = agree(readings, grid, least_readers)
    columns = {"nodules": [one.columns() for one in nodules], "excluded": [one.columns() for one in excluded]}
    return Labels(subset, to_findings(nodules), to_findings(excluded)), {READINGS: columns}


def write_tables(cache: Path) -> tuple[Path, ...]:
    """Write annotations.csv and annotations_excluded.csv of all prepared scans that have readings.

    Both have the columns of LUNA16, then the kind of finding, its number of readers, and the mean of their ratings.

    Returns:
        The two files.

    Raises:
        InputError: they cannot be written.
    """
    rows: dict[str, list[list[object]]] = {name: [] for name in TABLES}
    # Locked, because another run may be replacing one of these entries.
    with lock(cache):
        for scan_id in list_entries(cache):
            try:
                description = read_description(cache, scan_id)
            except InputError:
                # The closing table of the preparation reports it.
                continue
            for name, columns in description["record"].get(READINGS, {}).items():
                for place, more in zip(description["labels"][name], columns, strict=True):
                    rows[name].append(
                        [scan_id, *(round(value, 6) for value in place), *(more[column] for column in _COLUMNS)]
                    )
    header = ("seriesuid", *COORDINATES, "diameter_mm", *_COLUMNS)
    for name, file in TABLES.items():
        write_whole(cache / file, csv_bytes(header, rows[name]))
    return tuple(cache / file for file in TABLES.values())


def _xml_files(folder: Path) -> Iterator[Path]:
    for parent, _, names in walk(folder, []):
        yield from (parent / name for name in names if name.lower().endswith(".xml"))


def _owners(scans: Mapping[str, Path]) -> dict[Path, str]:
    return {path: scan_id for scan_id, path in scans.items()}


def _look_at(paths: Iterator[Path], scans: Mapping[str, Path]) -> _Found:
    found, owners = _Found(), _owners(scans)
    for path in paths:
        try:
            scan_id = series_of(path)
        except InputError as error:
            scan_id = owners.get(path.parent, path.stem)
            if scan_id not in scans:
                found.homeless.append(error)
                continue
        if scan_id is None:
            found.of_radiograph.append(path)
        else:
            found.of_scan.setdefault(scan_id, []).append(path)
    return found


def _content(readings: Readings) -> list[object]:
    return [
        (mark.reader, mark.is_nodule, sorted(mark.ratings.items()), contour.z_mm, contour.is_hole, contour.xy.tolist())
        for mark in readings.marks
        for contour in mark.contours
    ]
