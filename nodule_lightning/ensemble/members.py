"""What is fused: the marks of each member, pooled into one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from nodule_lightning.structures import UNKNOWN_DIAMETER_MM, Candidates, Table


@dataclass(frozen=True, slots=True)
class Member:
    """One submission: of a seed, a fold, a checkpoint, a mirrored search.

    Attributes:
        name: tells it from the others.
        marks: what it found.
        searched: the scans that it searched; None where that is not known, and then it counts for every scan.
    """

    name: str
    marks: Table[Candidates]
    searched: frozenset[str] | None = None

    @property
    def scan_ids(self) -> frozenset[str]:
        """Give the scans that it marks or is known to have searched."""
        marked = frozenset(str(scan_id) for scan_id in self.marks.numbered()[0])
        return marked if self.searched is None else marked | self.searched

    def within(self, scan_ids: Iterable[str]) -> Self:
        """Keep the marks in these scans, which are taken as the ones that were searched."""
        chosen = frozenset(scan_ids)
        return type(self)(self.name, self.marks[self.marks.in_scans(chosen)], chosen)


@dataclass(frozen=True, slots=True)
class Pool:
    """The marks of all members in one table, the most probable first.

    Attributes:
        scan_ids: all scans, sorted.
        marks: with a scan's position in that list in place of its id.
        member: place of each mark's member among the members.
        searched: which member counts for which scan.
    """

    scan_ids: Shaped[np.ndarray, "scan"]
    marks: Table[Candidates]
    member: Int64[np.ndarray, "mark"]
    searched: Bool[np.ndarray, "member scan"]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        """Pool the marks.

        The order of the table depends on the marks and, among equal ones, on the order of the members alone.
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
    """Order marks by scan, falling probability, place, diameter and owner, so that nothing depends on how they came."""
    x, y, z = rows.centre_xyz_mm.T
    keys = [rows.diameter_mm, z, y, x, -rows.probability, scan]
    order: np.ndarray = np.lexsort(keys if owner is None else [owner, *keys])
    return order


def radius_mm(rows: Candidates) -> Float64[np.ndarray, "mark"]:
    """Give the radii; a mark without a diameter has that of a finding without one, 5 mm, as LUNA16's script has it."""
    return np.where(rows.diameter_mm > 0, rows.diameter_mm, UNKNOWN_DIAMETER_MM) / 2.0


def _counts_for(member: Member, scan_ids: Iterable[str]) -> list[bool]:
    # A mark says too that a scan was searched.
    known = member.scan_ids
    return [member.searched is None or scan_id in known for scan_id in scan_ids]


def _positions(marks: Table[Candidates], position: dict[str, int]) -> Int64[np.ndarray, "mark"]:
    ids, number = marks.numbered()
    places = np.array([position[str(scan_id)] for scan_id in ids], dtype=np.int64)
    spread: np.ndarray = places[number]
    return spread
