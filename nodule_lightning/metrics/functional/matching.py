"""Which marks hit which findings, by the rules of the LUNA16 evaluation script.

All tables here hold a scan's position in the list of scans (0, 1, ...) where the csv files hold its id.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodule_lightning.structures import Candidates, Findings, Table

MARKS_PER_SCAN = 100
# The strict test decides; the search before it is this much wider, so that rounding cannot hide a mark from it.
SEARCH_MARGIN_MM = 1e-6
PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Matching:
    """The fate of every mark and of every nodule.

    Attributes:
        kept: marks among the best of their scan; the others count for nothing.
        hit: kept marks inside a nodule.
        ignored: kept marks inside an excluded finding and inside no nodule.
        marks_inside: how many kept marks each nodule holds; none if it is missed.
        best_probability: highest probability inside each nodule; -inf if it is missed.
    """

    kept: Bool[np.ndarray, "mark"]
    hit: Bool[np.ndarray, "mark"]
    ignored: Bool[np.ndarray, "mark"]
    marks_inside: Int64[np.ndarray, "nodule"]
    best_probability: Float64[np.ndarray, "nodule"]

    @property
    def false_positive(self) -> Bool[np.ndarray, "mark"]:
        """Tell the kept marks that lie in no finding at all."""
        false_positive: np.ndarray = self.kept & ~self.hit & ~self.ignored
        return false_positive


def match(marks: Table[Candidates], nodules: Table[Findings], excluded: Table[Findings]) -> Matching:
    """Decide for every mark whether it hits, is ignored or is a false positive.

    A mark hits where its distance to the centre is strictly below the radius. A mark inside two nodules detects
    both. Nodules come before excluded findings.
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
    """Keep the marks strictly above the one that comes just after the `limit` best of its scan.

    Marks as probable as that one all go, so that a scan with ties keeps fewer than `limit`.
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
    """Give the row of the finding and the row of the mark for every mark inside a finding of its own scan."""
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
    """Pair each finding with the marks from `start` on, so many in that order; about a million pairs at a time."""
    for rows in np.array_split(np.arange(len(count)), 1 + int(count.sum()) // PAIRS_AT_ONCE):
        finding = np.repeat(rows, count[rows])
        step = np.arange(len(finding)) - np.repeat(np.cumsum(count[rows]) - count[rows], count[rows])
        yield finding, order[start[finding] + step]


def _level_with(
    marks: Table[Candidates], findings: Table[Findings], reach_mm: Float64[np.ndarray, "finding"]
) -> tuple[Int64[np.ndarray, "mark"], Int64[np.ndarray, "finding"], Int64[np.ndarray, "finding"]]:
    """Sort the marks by scan and z; give for each finding where those within its z reach start, and how many.

    The sort key is an integer (scan, then the rank of z among all z), so that no precision is lost on large tables.
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
