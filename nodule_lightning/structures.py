"""The vocabulary that all other modules share: scans, findings and candidates, in world millimetres."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, Self, TypeVar

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64, Shaped, UInt8

from nodule_lightning.geometry import Grid

AIR_HU = -1024
"""What stands where a scan has no value: the least that 12 bits of CT hold."""

UNKNOWN_DIAMETER_MM = 10.0
"""Size of a finding whose reader gave none, by LUNA16's evaluation script."""

Rows = slice | Bool[np.ndarray, "n"] | Int64[np.ndarray, "m"]


@dataclass(frozen=True, slots=True)
class Scan:
    """One CT in Hounsfield units.

    Attributes:
        scan_id: the `seriesuid` of the csv files.
        hu: the volume, padding already replaced by air.
        grid: where the volume lies in the world.
        notes: what reading had to mend, such as missing slices.
    """

    scan_id: str
    hu: Int16[np.ndarray, "z y x"]
    grid: Grid
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What readers marked in one scan, or in the rows of one table.

    Attributes:
        centre_xyz_mm: world place of each centre.
        diameter_mm: diameter of each; negative where the reader gave none (LUNA16's excluded list has -1).
    """

    centre_xyz_mm: Float64[np.ndarray, "n 3"]
    diameter_mm: Float64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.diameter_mm)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.centre_xyz_mm[rows], self.diameter_mm[rows])

    def effective_diameter_mm(self) -> Float64[np.ndarray, "n"]:
        """Give the diameters, with `UNKNOWN_DIAMETER_MM` where the reader gave none."""
        return np.where(self.diameter_mm < 0, UNKNOWN_DIAMETER_MM, self.diameter_mm)

    @classmethod
    def empty(cls) -> Self:
        """Give no finding at all."""
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
    """What a detector marked in one scan, or in the rows of one table.

    Attributes:
        centre_xyz_mm: world place of each mark.
        probability: score of each mark.
        diameter_mm: diameter of each mark; negative where it is unknown (a submission csv has none).
    """

    centre_xyz_mm: Float64[np.ndarray, "n 3"]
    probability: Float64[np.ndarray, "n"]
    diameter_mm: Float64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.probability)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.centre_xyz_mm[rows], self.probability[rows], self.diameter_mm[rows])

    def best_first(self) -> Self:
        """Sort by falling probability; equal ones keep their order."""
        return self[np.argsort(-self.probability, kind="stable")]

    @classmethod
    def empty(cls) -> Self:
        """Give no candidate at all."""
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
    """Findings or candidates of many scans, one row each, as a csv file holds them.

    Attributes:
        scan_id: the `seriesuid` of each row.
        rows: as many findings or candidates.
    """

    scan_id: Shaped[np.ndarray, "n"]
    rows: RowsT

    def __len__(self) -> int:
        return len(self.scan_id)

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(self.scan_id[rows], self.rows[rows])

    @classmethod
    def of_one_scan(cls, rows: RowsT) -> Self:
        """Put the rows of one scan, whose position is 0, into a table."""
        return cls(np.zeros(len(rows), np.int64), rows)

    def numbered(self) -> tuple[list[Hashable], Int64[np.ndarray, "n"]]:
        """Number the scans in the order in which they appear; give their ids, and the number of each row's scan."""
        ids = self.scan_id
        # Rows of one scan mostly stand together: one look-up for each run of equal ids, and no sorting of long texts.
        starts = np.flatnonzero(np.append(np.ones(min(len(ids), 1), dtype=bool), ids[1:] != ids[:-1]))
        number: dict[Hashable, int] = {}
        of_run = [number.setdefault(scan_id, len(number)) for scan_id in ids[starts].tolist()]
        return list(number), np.repeat(np.array(of_run, dtype=np.int64), np.diff(np.append(starts, len(ids))))

    def in_scans(self, scan_ids: Iterable[Hashable]) -> Bool[np.ndarray, "n"]:
        """Tell which rows are of one of these scans."""
        ids, number = self.numbered()
        wanted = frozenset(scan_ids)
        return np.asarray(np.array([scan_id in wanted for scan_id in ids], dtype=bool)[number])

    def places_by_scan(self) -> dict[str, Int64[np.ndarray, "_"]]:
        """Give the places of each scan's rows under its id, rising; a scan without rows is not there."""
        ids, number = self.numbered()
        order = np.argsort(number, kind="stable")
        stops: list[int] = np.cumsum(np.bincount(number, minlength=len(ids))).tolist()
        places = {str(ids[scan]): order[start:stop] for scan, (start, stop) in enumerate(pairwise([0, *stops]))}
        return dict(sorted(places.items()))

    def by_scan(self) -> dict[str, RowsT]:
        """Give each scan's rows under its id, in the order of the table; a scan without rows is not there."""
        return {scan_id: self.rows[places] for scan_id, places in self.places_by_scan().items()}


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of a scan beside its voxels.

    Attributes:
        subset: the part of the data set it belongs to; "" where there is none.
        nodules: to be found.
        excluded: findings that count neither for nor against a detector.
    """

    subset: str = ""
    nodules: Findings = field(default_factory=Findings.empty)
    excluded: Findings = field(default_factory=Findings.empty)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON; a finding is a row x, y, z, diameter in mm."""
        return {"subset": self.subset, "nodules": _rows(self.nodules), "excluded": _rows(self.excluded)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(values["subset"], _findings(values["nodules"]), _findings(values["excluded"]))


@dataclass(frozen=True, slots=True)
class Entry:
    """One prepared scan.

    Attributes:
        scan_id: the `seriesuid` of the csv files.
        ct: the windowed CT; a read-only memory map where it was opened from a cache.
        lung: 1 in the dilated lungs, 0 outside; memory-mapped likewise.
        grid: where both lie; isotropic, along the world axes.
        original_grid: where the raw scan lay.
        settings: the preparation's settings as plain values.
        record: what preparing noted: `notes` (list of str), `lungs` and `scan` (the checks), `nodules` (how many are
            annotated, in the crop and in the mask), and `source` (a digest of what tells changed raw files).
        labels: its subset and findings.
    """

    scan_id: str
    ct: UInt8[np.ndarray, "z y x"]
    lung: UInt8[np.ndarray, "z y x"]
    grid: Grid
    original_grid: Grid
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)


def _rows(findings: Findings) -> list[list[float]]:
    rows: list[list[float]] = np.column_stack([findings.centre_xyz_mm, findings.diameter_mm]).tolist()
    return rows


def _findings(rows: Sequence[Sequence[float]]) -> Findings:
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Findings(numbers[:, :3], numbers[:, 3])
