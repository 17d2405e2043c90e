"""Mistakes of a detector: missed nodules and the most probable false positives."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from nodule_lightning.metrics.functional.comparison import Comparison
from nodule_lightning.metrics.functional.matching import all_pairs
from nodule_lightning.structures import Candidates, Findings, Table

FALSE_POSITIVES_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Misses:
    """Nodules without a mark inside, the largest first.

    Attributes:
        nodules: the missed nodules.
        nearest_mm: distance from the centre to the nearest counted mark in the same scan; inf if there is none.
        nearest_probability: probability of that mark; nan if there is none.
    """

    nodules: Table[Findings]
    nearest_mm: Float64[np.ndarray, "miss"]
    nearest_probability: Float64[np.ndarray, "miss"]

    def __len__(self) -> int:
        return len(self.nodules)


def misses(comparison: Comparison) -> Misses:
    """List the nodules without a mark inside, the largest first."""
    missed = comparison.nodules[np.flatnonzero(comparison.matching.marks_inside == 0)]
    centre = missed.rows.centre_xyz_mm
    order = np.lexsort((*centre.T, missed.scan_id, -missed.rows.diameter_mm))
    missed = missed[order]
    nearest = _nearest(missed, comparison.marks[np.flatnonzero(comparison.matching.kept)])
    return Misses(comparison.named(missed), *nearest)


def highest_false_positives(comparison: Comparison, most: int = FALSE_POSITIVES_LISTED) -> Table[Candidates]:
    """List at most `most` marks inside no finding, the most probable first."""
    rows = np.flatnonzero(comparison.matching.false_positive)
    probability = comparison.marks.rows.probability[rows]
    if len(rows) > most:
        rows = rows[probability >= np.partition(probability, -most)[-most]]
    false = comparison.marks[rows]
    order = np.lexsort((*false.rows.centre_xyz_mm.T, false.scan_id, -false.rows.probability))
    return comparison.named(false[order[:most]])


def _nearest(
    findings: Table[Findings], marks: Table[Candidates]
) -> tuple[Float64[np.ndarray, "finding"], Float64[np.ndarray, "finding"]]:
    """Find distance and probability of the nearest mark in the same scan; the most probable of equally near ones."""
    distance = np.full(len(findings), np.inf)
    probability = np.full(len(findings), np.nan)
    order = np.argsort(marks.scan_id, kind="stable")
    ordered = marks.scan_id[order]
    start = np.searchsorted(ordered, findings.scan_id, side="left")
    stop = np.searchsorted(ordered, findings.scan_id, side="right")
    for finding, mark in all_pairs(order, start, stop - start):
        gap = marks.rows.centre_xyz_mm[mark] - findings.rows.centre_xyz_mm[finding]
        length = np.sqrt((gap**2).sum(axis=1))
        likely = marks.rows.probability[mark]
        first = _first_of_each(finding, np.lexsort((-likely, length, finding)))
        distance[finding[first]] = length[first]
        probability[finding[first]] = likely[first]
    return distance, probability


def _first_of_each(finding: Int64[np.ndarray, "pair"], order: Int64[np.ndarray, "pair"]) -> Int64[np.ndarray, "first"]:
    ordered = finding[order]
    first: np.ndarray = order[np.append(np.ones(min(len(order), 1), dtype=bool), ordered[1:] != ordered[:-1])]
    return first
