"""Members of an ensemble, and their marks pooled into one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from nodule_lightning.structures import UNKNOWN_DIAMETER_MM, Candidates, Table


@dataclass(frozen=True, slots=True)
class Member:
    """One submission, for example of a seed, a fold, a checkpoint or a mirrored search.

    Attributes:
        name: unique among the members.
        marks: its candidates.
        searched: the scans that it searched; None if that is not known, then it counts for every scan.
    """

    name: str
    marks: Table[Candidates]
    searched: frozenset[str] | None = None

    @property
    def scan_ids(self) -> frozenset[str]:
        """Scans that it marks or is known to have searched."""
        marked = frozenset(str(scan_id) for scan_id in self.marks.numbered()[0])
        return marked if self.searched is None else marked | self.searched

    def within(self, scan_ids: Iterable[str]) -> Self:
        """Keep the marks in these scans, and take these as the searched ones."""
        chosen = frozenset(scan_ids)
        return type(self)(self.name, self.marks[self.marks.in_scans(chosen)], chosen)


@dataclass(frozen=True, slots=True)
class Pool:
    """Marks of all members in one table, sorted by scan, the most probable first.

    Attributes:
        scan_ids: all scans, sorted.
        marks: with a scan's position in `scan_ids` in place of its id.
        member: index of each mark's member.
        searched: which member counts for which scan.
    """

    scan_ids: Shaped[np.ndarray, "scan"]
    marks: Table[Candidates]
    member: Int64[np.ndarray, "mark"]
    searched: Bool[np.ndarray, "member scan"]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        """Pool the marks of the members.

        The order of the table depends only on the marks and, among equal ones, on the order of the members.
        """
        scan_ids = sorted({scan_id for member in members for scan_id in member.scan_ids})
        position = {scan_id: place for place, scan_id in enumerate(scan_ids)}
        searched = np.array([_counts_for(member, scan_ids) for member in members], dtype=bool)
        scan = np.concatenate([_positions(member.marks, position) for member in members])
        owner = np.repeat(np.arange(len(members)), [len(member.marks) for member in members])
        rows = Candidates.concatenate(member.marks.rows for member in members)
        order = best_first(scan, rows, owner)
        return cls(np.array(scan_ids, dtype=np.str_), Table(scan[order], rows[order]), owner[order], searched)


def best_first(
    scan: Int64[np.ndarray, "mark"], rows: Candidates, owner: Int64[np.ndarray, "mark"] | None = None
) -> Int64[np.ndarray, "mark"]:
    """Sort marks by scan, decreasing probability, position, diameter and owner, independent of their input order."""
    x, y, z = rows.centre_xyz_mm.T
    keys = [rows.diameter_mm, z, y, x, -rows.probability, scan]
    order: np.ndarray = np.lexsort(keys if owner is None else [owner, *keys])
    return order


def radius_mm(rows: Candidates) -> Float64[np.ndarray, "mark"]:
    """Compute the radii; a mark without a diameter gets 5 mm, as LUNA16's script gives a finding without one."""
    return np.where(rows.diameter_mm > 0, rows.diameter_mm, UNKNOWN_DIAMETER_MM) / 2.0


def _counts_for(member: Member, scan_ids: Iterable[str]) -> list[bool]:
    # A mark also proves that its scan was searched.
    known = member.scan_ids
    return [member.searched is None or scan_id in known for scan_id in scan_ids]


def _positions(marks: Table[Candidates], position: dict[str, int]) -> Int64[np.ndarray, "mark"]:
    ids, number = marks.numbered()
    places = np.array([position[str(scan_id)] for scan_id in ids], dtype=np.int64)
    spread: np.ndarray = places[number]
    return spread
