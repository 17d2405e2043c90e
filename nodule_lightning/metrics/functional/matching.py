"""Matching of marks to findings by the rules of the LUNA16 evaluation script.

All tables here hold a scan's position in the list of scans (0, 1, ...) in place of its id.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodule_lightning.structures import Candidates, Findings, Table

MARKS_PER_SCAN = 100
# The search is this much wider than the strict test after it, so that rounding cannot hide a mark from the test.
SEARCH_MARGIN_MM = 1e-6
PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Matching:
    """Outcome of every mark and every nodule.

    Attributes:
        kept: marks among the most probable of their scan; the others do not count.
        hit: kept marks inside a nodule.
        ignored: kept marks inside an excluded finding but no nodule.
        marks_inside: number of kept marks inside each nodule; 0 if it is missed.
        best_probability: highest probability inside each nodule; -inf if it is missed.
    """

    kept: Bool[np.ndarray, "mark"]
    hit: Bool[np.ndarray, "mark"]
    ignored: Bool[np.ndarray, "mark"]
    marks_inside: Int64[np.ndarray, "nodule"]
    best_probability: Float64[np.ndarray, "nodule"]

    @property
    def false_positive(self) -> Bool[np.ndarray, "mark"]:
        """Select the kept marks that lie inside no finding."""
        false_positive: np.ndarray = self.kept & ~self.hit & ~self.ignored
        return false_positive


def match(marks: Table[Candidates], nodules: Table[Findings], excluded: Table[Findings]) -> Matching:
    """Decide for every mark whether it is a hit, ignored or a false positive.

    A mark is a hit if its distance to the nodule's centre is strictly less than the radius. A mark inside two nodules
    detects both. Nodules take precedence over excluded findings.
    """
    kept = under_cap(marks)
    candidates = marks[np.flatnonzero(kept)]
    nodule, hitting = pairs_inside(candidates, nodules)
    best = np.full(len(nodules), -np.inf)
    np.maximum.at(best, nodule, candidates.rows.probability[hitting])
    hit = np.zeros(len(candidates), dtype=bool)
    hit[hitting] = True
    ignored = np.zeros(len(candidates), dtype=bool)
    ignored[pairs_inside(candidates, excluded)[1]] = True
    return Matching(
        kept,
        _among(kept, hit),
        _among(kept, ignored & ~hit),
        np.bincount(nodule, minlength=len(nodules)),
        best,
    )


def under_cap(marks: Table[Candidates], limit: int = MARKS_PER_SCAN) -> Bool[np.ndarray, "mark"]:
    """Keep the marks that are strictly more probable than the mark of rank `limit` + 1 in their scan.

    All marks as probable as that one are dropped, so a scan with ties may keep fewer than `limit`.
    """
    scan, probability = marks.scan_id, marks.rows.probability
    if np.bincount(scan, minlength=1).max() <= limit:
        return np.ones(len(marks), dtype=bool)
    order = np.lexsort((-probability, scan))
    ordered = scan[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    first_out = order[rank == limit]
    bound = np.full(ordered[-1] + 1, -np.inf)
    bound[scan[first_out]] = probability[first_out]
    above: np.ndarray = probability > bound[scan]
    return above


def pairs_inside(
    marks: Table[Candidates], findings: Table[Findings]
) -> tuple[Int64[np.ndarray, "pair"], Int64[np.ndarray, "pair"]]:
    """Find every mark inside a finding of its scan; return the rows of the findings and the rows of the marks."""
    radius = findings.rows.effective_diameter_mm() / 2.0
    order, start, count = _level_with(marks, findings, radius + SEARCH_MARGIN_MM)
    found = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for finding, mark in all_pairs(order, start, count):
        gap = marks.rows.centre_xyz_mm[mark] - findings.rows.centre_xyz_mm[finding]
        squared = gap[:, 0] ** 2 + gap[:, 1] ** 2 + gap[:, 2] ** 2
        inside = squared < radius[finding] ** 2
        found.append((finding[inside], mark[inside]))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def all_pairs(
    order: Int64[np.ndarray, "mark"], start: Int64[np.ndarray, "finding"], count: Int64[np.ndarray, "finding"]
) -> Iterator[tuple[Int64[np.ndarray, "pair"], Int64[np.ndarray, "pair"]]]:
    """Pair each finding with `count` marks of `order` from `start` on; yield about a million pairs at a time."""
    for rows in np.array_split(np.arange(len(count)), 1 + int(count.sum()) // PAIRS_AT_ONCE):
        finding = np.repeat(rows, count[rows])
        step = np.arange(len(finding)) - np.repeat(np.cumsum(count[rows]) - count[rows], count[rows])
        yield finding, order[start[finding] + step]


def _level_with(
    marks: Table[Candidates], findings: Table[Findings], reach_mm: Float64[np.ndarray, "finding"]
) -> tuple[Int64[np.ndarray, "mark"], Int64[np.ndarray, "finding"], Int64[np.ndarray, "finding"]]:
    """Sort the marks by scan and z; find for each finding the start and number of those within its reach along z.

    The sort key is an integer (scan, then the rank of z among all z), so that no precision is lost in large tables.
    """
    z, centre = marks.rows.centre_xyz_mm[:, 2], findings.rows.centre_xyz_mm[:, 2]
    levels, level = np.unique(z, return_inverse=True)
    key = marks.scan_id * len(levels) + level
    order = np.argsort(key, kind="stable")
    ordered, base = key[order], findings.scan_id * len(levels)
    start = np.searchsorted(ordered, base + np.searchsorted(levels, centre - reach_mm, side="left"))
    stop = np.searchsorted(ordered, base + np.searchsorted(levels, centre + reach_mm, side="right"))
    return order, start, stop - start


def _among(kept: Bool[np.ndarray, "mark"], chosen: Bool[np.ndarray, "kept"]) -> Bool[np.ndarray, "mark"]:
    spread = np.zeros(len(kept), dtype=bool)
    spread[kept] = chosen
    return spread
