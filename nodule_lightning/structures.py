"""The data structures that all other modules share: scans, findings, candidates, entries and failures."""

import traceback
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, Self, TypeVar

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64, Shaped, UInt8

from nodule_lightning.errors import ErrorKey, InputError
from nodule_lightning.geometry import Grid

AIR_HU = -1024
"""The value of padding and of voxels outside a scan: the lowest that 12-bit CT can hold."""

UNKNOWN_DIAMETER_MM = 10.0
"""Diameter assumed for a finding without one, as in LUNA16's evaluation script."""

Rows = slice | Bool[np.ndarray, "n"] | Int64[np.ndarray, "m"]


@dataclass(frozen=True, slots=True)
class Scan:
    """One CT in Hounsfield units.

    Attributes:
        scan_id: the `seriesuid` of the csv files.
        hu: the volume, with padding already replaced by air.
        grid: the position of the volume in the world.
        notes: what the reader had to repair, such as missing slices.
    """

    scan_id: str
    hu: Int16[np.ndarray, "z y x"]
    grid: Grid
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings that readers annotated in one scan, or the rows of one table.

    Attributes:
        centre_xyz_mm: centre of each finding in world coordinates.
        diameter_mm: diameter of each finding; negative if the reader gave none (-1 in LUNA16's excluded list).
    """

    centre_xyz_mm: Float64[np.ndarray, "n 3"]
    diameter_mm: Float64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.diameter_mm)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.centre_xyz_mm[rows], self.diameter_mm[rows])

    def effective_diameter_mm(self) -> Float64[np.ndarray, "n"]:
        """Return the diameters, with `UNKNOWN_DIAMETER_MM` where the reader gave none."""
        return np.where(self.diameter_mm < 0, UNKNOWN_DIAMETER_MM, self.diameter_mm)

    @classmethod
    def empty(cls) -> Self:
        """Return an empty set of findings."""
        return cls(np.zeros((0, 3)), np.zeros(0))

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Join findings in the order given."""
        parts = [cls.empty(), *parts]
        return cls(
            np.concatenate([part.centre_xyz_mm for part in parts]),
            np.concatenate([part.diameter_mm for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of a detector in one scan, or the rows of one table.

    Attributes:
        centre_xyz_mm: centre of each candidate in world coordinates.
        probability: score of each candidate.
        diameter_mm: diameter of each candidate; negative if unknown (a submission csv has none).
    """

    centre_xyz_mm: Float64[np.ndarray, "n 3"]
    probability: Float64[np.ndarray, "n"]
    diameter_mm: Float64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.probability)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.centre_xyz_mm[rows], self.probability[rows], self.diameter_mm[rows])

    def best_first(self) -> Self:
        """Sort by descending probability; ties keep their order."""
        return self[np.argsort(-self.probability, kind="stable")]

    @classmethod
    def empty(cls) -> Self:
        """Return an empty set of candidates."""
        return cls(np.zeros((0, 3)), np.zeros(0), np.zeros(0))

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Join candidates in the order given."""
        parts = [cls.empty(), *parts]
        return cls(
            np.concatenate([part.centre_xyz_mm for part in parts]),
            np.concatenate([part.probability for part in parts]),
            np.concatenate([part.diameter_mm for part in parts]),
        )


RowsT = TypeVar("RowsT", Findings, Candidates)


@dataclass(frozen=True, slots=True)
class Table(Generic[RowsT]):
    """Findings or candidates of many scans, one per row, as in a csv file.

    Attributes:
        scan_id: the `seriesuid` of each row.
        rows: the findings or candidates, as many as ids.
    """

    scan_id: Shaped[np.ndarray, "n"]
    rows: RowsT

    def __len__(self) -> int:
        return len(self.scan_id)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.scan_id[rows], self.rows[rows])

    @classmethod
    def of_one_scan(cls, rows: RowsT) -> Self:
        """Make a table of the rows of one scan, with 0 as its id."""
        return cls(np.zeros(len(rows), np.int64), rows)

    def numbered(self) -> tuple[list[Hashable], Int64[np.ndarray, "n"]]:
        """Number the scans in order of first appearance.

        Returns:
            The id of each scan, and for each row the number of its scan.
        """
        ids = self.scan_id
        # Rows of one scan are mostly adjacent: one look-up per run of equal ids is faster than sorting long strings.
        starts = np.flatnonzero(np.append(np.ones(min(len(ids), 1), dtype=bool), ids[1:] != ids[:-1]))
        number: dict[Hashable, int] = {}
        of_run = [number.setdefault(scan_id, len(number)) for scan_id in ids[starts].tolist()]
        return list(number), np.repeat(np.array(of_run, dtype=np.int64), np.diff(np.append(starts, len(ids))))

    def in_scans(self, scan_ids: Iterable[Hashable]) -> Bool[np.ndarray, "n"]:
        """Return a mask of the rows that belong to one of these scans."""
        ids, number = self.numbered()
        wanted = frozenset(scan_ids)
        return np.asarray(np.array([scan_id in wanted for scan_id in ids], dtype=bool)[number])

    def places_by_scan(self) -> dict[str, Int64[np.ndarray, "_"]]:
        """Map each scan id to the ascending indices of its rows; scans without rows are absent."""
        ids, number = self.numbered()
        order = np.argsort(number, kind="stable")
        stops: list[int] = np.cumsum(np.bincount(number, minlength=len(ids))).tolist()
        places = {str(ids[scan]): order[start:stop] for scan, (start, stop) in enumerate(pairwise([0, *stops]))}
        return dict(sorted(places.items()))

    def by_scan(self) -> dict[str, RowsT]:
        """Map each scan id to its rows, in the order of the table; scans without rows are absent."""
        return {scan_id: self.rows[places] for scan_id, places in self.places_by_scan().items()}


@dataclass(frozen=True, slots=True)
class Labels:
    """The subset and the annotated findings of a scan.

    Attributes:
        subset: the subset of the data set that it belongs to; "" if none.
        nodules: the nodules that a detector should find.
        excluded: findings that count neither as true nor as false positives.
    """

    subset: str = ""
    nodules: Findings = field(default_factory=Findings.empty)
    excluded: Findings = field(default_factory=Findings.empty)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON; a finding becomes a row (x, y, z, diameter) in mm."""
        return {"subset": self.subset, "nodules": _rows(self.nodules), "excluded": _rows(self.excluded)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore labels from the values of `to_dict`."""
        return cls(values["subset"], _findings(values["nodules"]), _findings(values["excluded"]))


@dataclass(frozen=True, slots=True)
class Entry:
    """One prepared scan.

    Attributes:
        scan_id: the `seriesuid` of the csv files.
        ct: the windowed CT; a read-only memory map if opened from a cache.
        lung: 1 in the dilated lungs, 0 outside; memory-mapped like `ct`.
        grid: the grid of both volumes; isotropic, along the world axes.
        original_grid: the grid of the raw scan.
        settings: the preparation settings as plain values.
        record: what the preparation recorded: `notes` (list of str), `doubts` (those of them that are the reader's),
            `lungs` and `scan` (results of the checks), `nodules` (how many are annotated, in the crop, in the mask),
            `source` (a fingerprint of the raw files that shows when they change), and `reading` (how they were read);
            of LIDC-IDRI also `readings`, see `preparation.readings`.
        labels: its subset and findings.
        outlines: the number of readers who took a voxel for part of a nodule; None without readers' outlines.
    """

    scan_id: str
    ct: UInt8[np.ndarray, "z y x"]
    lung: UInt8[np.ndarray, "z y x"]
    grid: Grid
    original_grid: Grid
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    outlines: UInt8[np.ndarray, "z y x"] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A scan that could not be processed, in place of its result: the other scans go on.

    Attributes:
        scan_id: the scan.
        reason: what went wrong, in one line.
        trace: the traceback of an unexpected error; "" for an `InputError`.
        key: the kind of error.
    """

    scan_id: str
    reason: str
    trace: str = ""
    key: ErrorKey = "file-unreadable"

    @classmethod
    def of(cls, scan_id: str, error: Exception) -> Self:
        """Describe an error: an `InputError` by its message, any other by its type, message and traceback."""
        if isinstance(error, InputError):
            return cls(scan_id, str(error), key=error.key)
        return cls(scan_id, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _rows(findings: Findings) -> list[list[float]]:
    rows: list[list[float]] = np.column_stack([findings.centre_xyz_mm, findings.diameter_mm]).tolist()
    return rows


def _findings(rows: Sequence[Sequence[float]]) -> Findings:
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Findings(numbers[:, :3], numbers[:, 3])
