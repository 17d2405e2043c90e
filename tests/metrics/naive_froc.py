"""Reference implementation of the LUNA16 evaluation rules with plain loops."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf

from nodule_lightning.structures import Candidates, Findings, Table

RATES = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4), Fraction(8))


@dataclass(frozen=True, slots=True)
class NaiveResult:
    sensitivities: list[float]
    marks: int
    true_positives: int
    false_positives: int
    misses: int
    ignored_on_excluded: int
    double_detections: int


@dataclass(frozen=True, slots=True)
class _Row:
    x: float
    y: float
    z: float
    value: float


def naive_froc(
    candidates: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings],
    scan_ids: Sequence[str],
    sizes_mm: tuple[float, float] = (-inf, inf),
) -> NaiveResult:
    """Score as `froc` does, without bootstraps; nodules of other sizes are found but do not count."""
    found: list[float] = []
    false: list[float] = []
    marks_kept = misses = ignored = doubles = 0
    for scan_id in scan_ids:
        marks = _capped(_rows_of(scan_id, candidates, candidates.rows.probability.tolist()))
        marks_kept += len(marks)
        pool = list(range(len(marks)))
        for nodule in _rows_of(scan_id, nodules, nodules.rows.diameter_mm.tolist()):
            inside = [place for place, mark in enumerate(marks) if _hits(mark, nodule)]
            pool = [place for place in pool if place not in inside]
            if not sizes_mm[0] <= _diameter(nodule) < sizes_mm[1]:
                continue
            doubles += max(len(inside) - 1, 0)
            if inside:
                found.append(max(marks[place].value for place in inside))
            else:
                misses += 1
        for finding in _rows_of(scan_id, excluded, excluded.rows.diameter_mm.tolist()):
            inside = [place for place in pool if _hits(marks[place], finding)]
            ignored += len(inside)
            pool = [place for place in pool if place not in inside]
        false += [marks[place].value for place in pool]
    points = _curve(found, false, len(found) + misses, len(scan_ids))
    sensitivities = [_sensitivity(rate, points) for rate in RATES]
    return NaiveResult(sensitivities, marks_kept, len(found), len(false), misses, ignored, doubles)


def _rows_of(scan_id: str, table: Table[Candidates] | Table[Findings], values: list[float]) -> list[_Row]:
    at = [row for row, other in enumerate(table.scan_id.tolist()) if other == scan_id]
    centres = table.rows.centre_xyz_mm.tolist()
    return [_Row(centres[row][0], centres[row][1], centres[row][2], values[row]) for row in at]


def _capped(marks: list[_Row]) -> list[_Row]:
    if len(marks) <= 100:
        return marks
    bound = sorted((mark.value for mark in marks), reverse=True)[100]
    return [mark for mark in marks if mark.value > bound]


def _diameter(finding: _Row) -> float:
    return 10.0 if finding.value < 0 else finding.value


def _hits(mark: _Row, finding: _Row) -> bool:
    squared = (mark.x - finding.x) ** 2 + (mark.y - finding.y) ** 2 + (mark.z - finding.z) ** 2
    return squared < (_diameter(finding) / 2.0) ** 2


def _curve(found: list[float], false: list[float], nodules: int, scans: int) -> list[tuple[Fraction, Fraction]]:
    points = [(Fraction(0), Fraction(0))]
    if not nodules or not scans:
        return points
    for threshold in sorted({*found, *false}, reverse=True):
        above = sum(value >= threshold for value in found)
        wrong = sum(value >= threshold for value in false)
        points.append((Fraction(wrong, scans), Fraction(above, nodules)))
    return points


def _sensitivity(rate: Fraction, points: list[tuple[Fraction, Fraction]]) -> float:
    """Walk along the curve in exact fractions; at a vertical piece the upper end counts."""
    before = [point for point in points if point[0] <= rate][-1]
    after = [point for point in points if point[0] > rate]
    if not after:
        return float(before[1])
    slope = (after[0][1] - before[1]) / (after[0][0] - before[0])
    return float(before[1] + slope * (rate - before[0]))
