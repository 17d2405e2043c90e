"""What was missed, what was wrongly marked, and how a detector works at one threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.metrics.functional import FrocResult, froc
from nodule_lightning.metrics.functional.mistakes import FALSE_POSITIVES_LISTED
from tests.metrics.cases import Case, findings, marks, no_findings, random_case


def score(case: Case) -> FrocResult:
    return froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=0)


def test_misses_come_largest_first_with_their_nearest_mark() -> None:
    nodules = findings(("a", 0, 6), ("a", 200, 8), ("b", 0, 4), ("c", 0, 20))
    found = marks(("a", 0, 0.9), ("a", 190, 0.3), ("a", 212, 0.8), ("b", 2, 0.1), ("b", -2, 0.2), ("d", 0, 0.7))
    misses = froc(found, nodules, no_findings(), list("abcd"), bootstraps=0).misses
    assert misses.nodules.scan_id.tolist() == ["c", "a", "b"]
    assert misses.nodules.rows.diameter_mm.tolist() == [20, 8, 4]
    assert misses.nodules.rows.centre_xyz_mm[:, 0].tolist() == [0, 200, 0]
    assert misses.nearest_mm.tolist() == [np.inf, 10, 2]
    # Of two marks that are equally near, the more probable one counts.
    assert np.array_equal(misses.nearest_probability, [np.nan, 0.3, 0.2], equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_miss_and_false_positive_is_listed_in_any_order_of_rows(seed: int) -> None:
    case = random_case(seed)
    result, again = score(case), score(case.shuffled(np.random.default_rng(seed)))
    assert len(result.misses) == result.counts.misses
    assert len(result.false_positives) == result.counts.false_positives
    assert np.array_equal(result.false_positives.rows.centre_xyz_mm, again.false_positives.rows.centre_xyz_mm)
    assert (np.diff(result.false_positives.rows.probability) <= 0).all()
    assert np.array_equal(result.misses.nearest_mm, again.misses.nearest_mm)
    assert np.array_equal(result.misses.nearest_probability, again.misses.nearest_probability, equal_nan=True)
    for place in range(len(result.misses)):
        scan_id = result.misses.nodules.scan_id[place]
        there = case.candidates.rows[case.candidates.scan_id == scan_id]
        kept = there if len(there) <= 100 else there[there.probability > np.sort(there.probability)[-101]]
        gaps = np.linalg.norm(kept.centre_xyz_mm - result.misses.nodules.rows.centre_xyz_mm[place], axis=1)
        assert result.misses.nearest_mm[place] == pytest.approx(gaps.min(initial=np.inf), abs=1e-12)


def test_only_the_highest_false_positives_are_listed() -> None:
    scans = [f"s{number:02d}" for number in range(30)]
    rows = [(scan, 100.0 + mark, mark / 100 + place / 1e5) for place, scan in enumerate(scans) for mark in range(50)]
    case = Case(marks(*rows), findings(("s00", 0, 6)), no_findings(), scans)
    result = score(case)
    assert result.counts.false_positives == 1500
    highest = sorted((row[2] for row in rows), reverse=True)[:FALSE_POSITIVES_LISTED]
    assert result.false_positives.rows.probability.tolist() == highest


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-1, 400), st.integers(2, 400))
def test_operating_point_is_what_is_left_above_the_threshold(seed: int, level: int, levels: int) -> None:
    case, threshold = random_case(seed), level / levels
    point = score(case).operating_point(threshold)
    # The cap comes first: lower marks than the threshold cannot bring others back.
    above = case.candidates.rows.probability >= threshold
    left = score(Case(case.candidates[np.flatnonzero(above)], case.nodules, case.excluded, case.scan_ids))
    if (np.unique(case.candidates.scan_id, return_counts=True)[1] <= 100).all():
        assert (point.true_positives, point.false_positives) == (
            left.counts.true_positives,
            left.counts.false_positives,
        )
    assert point.fps_per_scan == point.false_positives / len(case.scan_ids)
    assert point.sensitivity * left.counts.nodules == pytest.approx(point.true_positives)
    marked = point.true_positives + point.false_positives
    assert point.precision == (
        pytest.approx(point.true_positives / marked) if marked else pytest.approx(np.nan, nan_ok=True)
    )


def test_operating_point_of_a_few_marks() -> None:
    nodules = findings(("a", 0, 6), ("b", 0, 6), ("b", 90, 6))
    found = marks(("a", 0, 0.9), ("a", 60, 0.7), ("b", 60, 0.5), ("b", 0, 0.5), ("b", 90, 0.2))
    result = froc(found, nodules, no_findings(), ["a", "b"], bootstraps=0)
    point = result.operating_point(0.5)
    assert (point.true_positives, point.false_positives, point.fps_per_scan) == (2, 2, 1.0)
    assert point.sensitivity == pytest.approx(2 / 3)
    assert point.precision == 0.5
    above = result.operating_point(0.95)
    assert (above.sensitivity, above.fps_per_scan) == (0.0, 0.0)
    assert above.to_dict()["precision"] is None
