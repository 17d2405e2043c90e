"""Layouts of raw data sets on disk: LUNA16, Tianchi, or any folder of scans with a csv file."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nodule_lightning.errors import InputError
from nodule_lightning.io.files import walk
from nodule_lightning.io.scan_folders import find_scans
from nodule_lightning.io.tables import join_findings, read_findings, read_subsets
from nodule_lightning.preparation.readings import ReadingFiles, find_readings
from nodule_lightning.structures import Findings, Table

LUNG_MASKS = "seg-lungs-LUNA16"
_CSV_FOLDERS = (".", "CSVFILES", "csv", "annotations", "evaluationScript/annotations")
_TIANCHI_CSV = (
    "csv/{}/annotations.csv",
    "csvs/{}/annotations.csv",
    "{}/annotations.csv",
    "{}/csv/annotations.csv",
    "csv/{}_annotations.csv",
    "{}_annotations.csv",
    "csv/annotations_{}*.csv",
    "annotations_{}*.csv",
)


@dataclass(frozen=True, slots=True)
class RawDataset:
    """The raw scans of a data set with their annotations.

    Attributes:
        scans: the file or DICOM folder of each scan on disk, by id.
        nodules: the nodules, including those of scans that are not on disk.
        excluded: findings that count neither as true nor as false positives, including those of scans not on disk.
        subset: the subset of each scan on disk, by id; "" if none.
        notes: remarks for the user, such as a missing csv file.
        lung_masks: the lung mask files of the data set, by scan id.
        readings: the readers' marks of each scan, from which its findings are made when it is prepared; empty for
            data sets with tables.
    """

    scans: dict[str, Path]
    nodules: Table[Findings]
    excluded: Table[Findings]
    subset: dict[str, str]
    notes: tuple[str, ...] = ()
    lung_masks: dict[str, Path] = field(default_factory=dict)
    readings: dict[str, ReadingFiles] = field(default_factory=dict)


class Luna16(RawDataset):
    """LUNA16 as downloaded: `subset0` to `subset9` with UID.mhd and UID.raw, and the csv files.

    The csv files may be beside the subsets, in `CSVFILES`, or in the folder of the evaluation script. Subsets and scans
    may be missing. Lung masks are looked for in `seg-lungs-LUNA16`.

    Raises:
        InputError: there is no subset folder, no scan in them, or no annotations.csv.
    """

    __slots__ = ()

    def __init__(self, root: str | Path) -> None:
        root = _existing(root)
        folders = sorted(path for path in root.glob("subset*") if path.is_dir())
        if not folders:
            raise InputError(
                f"{root} has no folder subset0 to subset9; for any other layout use data=folder", "file-missing"
            )
        scans, subset = _merge((path, path.name.removeprefix("subset")) for path in folders)
        annotations = _first_file(root, [f"{folder}/annotations.csv" for folder in _CSV_FOLDERS])
        if annotations is None:
            raise InputError(f"{root} has no annotations.csv; copy LUNA16's csv files there", "file-missing")
        excluded = _first_file(root, [f"{folder}/annotations_excluded.csv" for folder in _CSV_FOLDERS])
        notes = () if excluded else (f"{root} has no annotations_excluded.csv: scores will not be LUNA16's",)
        masks = {unicodedata.normalize("NFC", path.stem): path for path in sorted((root / LUNG_MASKS).glob("*.mhd"))}
        super().__init__(scans, read_findings(annotations), _excluded(excluded), subset, notes, masks)


class Tianchi(RawDataset):
    """The Tianchi 2017 challenge: folders whose names contain train, val or test, and one annotations.csv for each.

    The subsets are "train", "val" and "test". Several folders of one subset, such as train_subset00 and train_subset01,
    are merged. Tianchi has no excluded list. The csv files may be in `csv/train/`, in `train/`, or be named
    `annotations_train*.csv`. The annotations of test were not published and may be missing.

    Raises:
        InputError: there is no such folder, no scan in them, or train or val has scans but no annotations.csv.
    """

    __slots__ = ()

    def __init__(self, root: str | Path) -> None:
        root = _existing(root)
        found = [(path, _tianchi_subset(path.name)) for path in sorted(root.iterdir()) if path.is_dir()]
        folders = [(path, name) for path, name in found if name and _holds_scans(path)]
        if not folders:
            raise InputError(
                f"{root} has no scans in folders named like train, val or test; for any other layout use data=folder",
                "file-missing",
            )
        scans, subset = _merge(folders)
        tables, notes = [], []
        for name in sorted({name for _, name in folders}):
            patterns = [pattern.format(name) for pattern in _TIANCHI_CSV]
            path = _first_file(root, patterns)
            if path is None and name != "test":
                raise InputError(f"{root} has no annotations of {name}; expected {root / patterns[0]}", "file-missing")
            if path is None:
                notes.append(f"{root} has no annotations of test: its scans count as without nodules")
            tables.append(_findings(path))
        super().__init__(scans, join_findings(tables), join_findings([]), subset, tuple(notes))


class Folder(RawDataset):
    """Any folder of scan files and DICOM folders at any depth, with explicit csv files.

    Args:
        root: the folder.
        annotations: csv of the nodules; without it, every scan counts as without nodules.
        excluded: csv of findings that count neither as true nor as false positives.
        subsets: csv with the columns seriesuid and subset. Folder names are never used as subsets: in a hospital's
            export they may be patients' names.

    Raises:
        InputError: the folder holds no scan, or a csv file is missing or damaged.
    """

    __slots__ = ()

    def __init__(
        self,
        root: str | Path,
        annotations: str | Path | None = None,
        excluded: str | Path | None = None,
        subsets: str | Path | None = None,
    ) -> None:
        scans = find_scans(_existing(root))
        named = read_subsets(Path(subsets)) if subsets else {}
        subset = {scan_id: named.get(scan_id, "") for scan_id in scans}
        notes = () if annotations else ("no annotations are given: every scan counts as without nodules",)
        super().__init__(scans, _findings(annotations), _excluded(excluded), subset, notes)


class Lidc(RawDataset):
    """LIDC-IDRI as published: scans at any depth, with the XML files of their readers beside them or in a folder.

    The scans may be the DICOM series, or files named by their SeriesInstanceUID, such as LUNA16's. An XML file belongs
    to the scan that its header names. The readers' marks are merged as LUNA16's, see `agreement.agree`, when a scan is
    prepared; a scan without XML then fails, since it would count as without nodules. Chest radiographs are left out.

    Args:
        root: the folder of the scans.
        xml: the folder of the XML files; None looks for them in `root`.
        least_readers: how many readers must have outlined a nodule.
        subsets: csv with the columns seriesuid and subset.

    Raises:
        InputError: the folder holds no scan or no XML, or `least_readers` is less than 1.
    """

    __slots__ = ()

    def __init__(
        self,
        root: str | Path,
        xml: str | Path | None = None,
        least_readers: int = 3,
        subsets: str | Path | None = None,
    ) -> None:
        scans = find_scans(_existing(root))
        readings, radiographs, notes = find_readings(Path(xml or root), scans, least_readers)
        named = read_subsets(Path(subsets)) if subsets else {}
        scans = {scan_id: path for scan_id, path in scans.items() if scan_id not in radiographs}
        subset = {scan_id: named.get(scan_id, "") for scan_id in scans}
        super().__init__(scans, _findings(None), _excluded(None), subset, notes, readings=readings)


def _existing(root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give data.root", "file-missing")
    return root


def _merge(folders: Iterable[tuple[Path, str]]) -> tuple[dict[str, Path], dict[str, str]]:
    scans: dict[str, Path] = {}
    subset: dict[str, str] = {}
    for folder, name in folders:
        for scan_id, path in find_scans(folder).items():
            if scan_id in scans:
                raise InputError(f"{scans[scan_id]} and {path} are both the scan {scan_id}; keep one", "scan-repeated")
            scans[scan_id], subset[scan_id] = path, name
    return scans, subset


def _tianchi_subset(folder: str) -> str:
    return next((name for name in ("train", "val", "test") if name in folder.lower()), "")


def _holds_scans(folder: Path) -> bool:
    return any(name.endswith((".mhd", ".mha")) for _, _, names in walk(folder, []) for name in names)


def _first_file(root: Path, patterns: Iterable[str]) -> Path | None:
    matches = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return next((path for path in matches if path.is_file()), None)


def _findings(path: str | Path | None) -> Table[Findings]:
    return read_findings(Path(path)) if path else join_findings([])


def _excluded(path: str | Path | None) -> Table[Findings]:
    return read_findings(Path(path), sized=False) if path else join_findings([])
