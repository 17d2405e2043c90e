"""Comparison of marks with findings: what each mark hits, in the order of probability."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional.cautions import cautions
from nodule_lightning.metrics.functional.curve import Curve, Events
from nodule_lightning.metrics.functional.matching import Matching, match
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.scan_list import ScanList
from nodule_lightning.structures import Candidates, Findings, RowsT, Table


@dataclass(frozen=True, slots=True)
class Comparison:
    """Marks matched to findings, the basis of a score.

    The tables hold a scan's position in the list of scans in place of its id.

    Attributes:
        scan_ids: every scan that counts, with or without nodules and marks.
        marks: of the detector.
        nodules: to be found.
        matching: outcome of each mark and each nodule.
        events: found nodules and false positives, most probable first.
    """

    scan_ids: Shaped[np.ndarray, "scan"]
    marks: Table[Candidates]
    nodules: Table[Findings]
    matching: Matching
    events: Events

    @classmethod
    def of(
        cls,
        scan_ids: Shaped[np.ndarray, "scan"],
        marks: Table[Candidates],
        nodules: Table[Findings],
        excluded: Table[Findings],
    ) -> Self:
        """Match the marks to the findings and sort the outcomes by probability."""
        matching = match(marks, nodules, excluded)
        return cls(scan_ids, marks, nodules, matching, Events.collect(marks, nodules.scan_id, matching))

    @property
    def scans(self) -> int:
        """Number of scans that count."""
        return len(self.scan_ids)

    @property
    def every_nodule(self) -> Bool[np.ndarray, "nodule"]:
        """Mask that selects all nodules."""
        return np.ones(len(self.nodules), dtype=bool)

    def curve(self, wanted: Bool[np.ndarray, "nodule"]) -> Curve:
        """Compute the FROC curve with the sensitivity among the wanted nodules only."""
        return self.events.curve(self.scans, wanted)

    def nodules_in_scan(self, wanted: Bool[np.ndarray, "nodule"]) -> Int64[np.ndarray, "scan"]:
        """Count the wanted nodules of each scan."""
        return np.bincount(self.nodules.scan_id[wanted], minlength=self.scans)

    def named(self, table: Table[RowsT]) -> Table[RowsT]:
        """Replace the positions of the scans by their ids."""
        return Table(self.scan_ids[table.scan_id], table.rows)


def compare(
    candidates: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings] | None,
    scan_ids: Sequence[Hashable],
    protocol: Protocol,
) -> tuple[Comparison, tuple[str, ...]]:
    """Match marks to findings as read from csv files; also return the warnings of `cautions`.

    Raises:
        InputError: a scan is listed twice, or there are excluded findings but the protocol has none.
    """
    if protocol is Protocol.TIANCHI and excluded is not None and len(excluded):
        raise InputError(
            "Tianchi has no list of excluded findings: leave excluded= out, or give protocol=luna16",
            "argument-conflict",
        )
    scans = ScanList.of(scan_ids)
    doubtful = scans.locate(Table(np.zeros(0, dtype=np.str_), Findings.empty()) if excluded is None else excluded)
    marks, wanted = scans.locate(candidates), scans.locate(nodules)
    comparison = Comparison.of(scans.ids(), marks.listed(), wanted.listed(), doubtful.listed())
    return comparison, cautions(marks, wanted, None if excluded is None else doubtful, scans, protocol)
