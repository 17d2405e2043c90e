"""The mistakes of a detector, the worst first: the nodules that it missed and its false positives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from nodule_lightning.metrics.functional.matching import match
from nodule_lightning.metrics.functional.scan_list import ScanList
from nodule_lightning.structures import Candidates, Findings, RowsT, Table


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What the score holds against a submission.

    Attributes:
        misses: nodules without a mark inside, the largest first.
        false_positives: marks inside no finding, the most probable first.
    """

    misses: Table[Findings]
    false_positives: Table[Candidates]


def find_mistakes(
    candidates: Table[Candidates], nodules: Table[Findings], excluded: Table[Findings], scan_ids: Sequence[str]
) -> Mistakes:
    """Find the mistakes by the rules of the score, after its cap of 100 marks a scan; equals stand by scan.

    Args:
        candidates: the marks of all scans.
        nodules: what is to be found.
        excluded: findings on which a mark is neither right nor wrong.
        scan_ids: the scans that count. Rows of other scans are left out.

    Raises:
        InputError: a scan that stands twice in the list.
    """
    scans = ScanList.of(scan_ids)
    marks, wanted = scans.locate(candidates).listed(), scans.locate(nodules).listed()
    matching = match(marks, wanted, scans.locate(excluded).listed())
    missed = np.flatnonzero(matching.marks_inside == 0)
    false = np.flatnonzero(matching.false_positive)
    return Mistakes(
        _named(wanted, missed[np.argsort(-wanted.rows.effective_diameter_mm()[missed], kind="stable")], scans),
        _named(marks, false[np.argsort(-marks.rows.probability[false], kind="stable")], scans),
    )


def _named(table: Table[RowsT], rows: Int64[np.ndarray, "n"], scans: ScanList) -> Table[RowsT]:
    """Take rows of a table that holds positions of scans, and put their ids back."""
    ids = np.array([str(scan_id) for scan_id in scans.position], dtype=np.str_)
    return Table(ids[table.scan_id[rows]], table.rows[rows])
