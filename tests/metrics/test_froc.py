"""The score against a naive reference, the official numbers, and its own laws."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import Curve, FrocResult, froc
from nodule_lightning.structures import Candidates, Findings, Table
from tests.metrics.cases import Case, findings, marks, no_findings, no_marks, random_case
from tests.metrics.naive_froc import naive_froc


def score(case: Case, bootstraps: int = 0) -> FrocResult:
    return froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=bootstraps)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_naive_reference_agrees(seed: int) -> None:
    case = random_case(seed)
    result = score(case)
    expected = naive_froc(case.candidates, case.nodules, case.excluded, case.scan_ids)
    counts = result.counts
    assert np.abs(result.sensitivities - expected.sensitivities).max() < 1e-15
    assert (counts.marks, counts.true_positives, counts.false_positives, counts.misses) == (
        expected.marks,
        expected.true_positives,
        expected.false_positives,
        expected.misses,
    )
    assert counts.ignored_on_excluded == expected.ignored_on_excluded
    assert counts.double_detections == expected.double_detections


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_and_scans_does_not_matter(seed: int) -> None:
    case = random_case(seed)
    first, second = score(case, bootstraps=20), score(case.shuffled(np.random.default_rng(seed)), bootstraps=20)
    assert np.array_equal(first.sensitivities, second.sensitivities)
    assert first.counts == second.counts
    assert first.interval == second.interval


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_new_false_positive_never_raises_the_score(seed: int, probability: float) -> None:
    case = random_case(seed)
    # A full scan would push another mark out.
    scan_id = "a scan with room"
    before = froc(case.candidates, case.nodules, case.excluded, [*case.scan_ids, scan_id], bootstraps=0)
    far = Table(np.array([scan_id]), Candidates(np.full((1, 3), 1e4), np.array([probability]), np.array([-1.0])))
    more = Table(
        np.concatenate([case.candidates.scan_id, far.scan_id]),
        Candidates.concatenate([case.candidates.rows, far.rows]),
    )
    after = froc(more, case.nodules, case.excluded, [*case.scan_ids, scan_id], bootstraps=0)
    assert (after.sensitivities <= before.sensitivities + 1e-15).all()


def test_second_mark_on_a_hit_nodule_changes_nothing() -> None:
    nodule = findings(("a", 0, 10))
    one = froc(marks(("a", 0, 0.9), ("a", 80, 0.8)), nodule, no_findings(), ["a", "b"], bootstraps=0)
    two = froc(marks(("a", 0, 0.9), ("a", 1, 0.7), ("a", 80, 0.8)), nodule, no_findings(), ["a", "b"], bootstraps=0)
    assert np.array_equal(one.curve.fps, two.curve.fps)
    assert np.array_equal(one.sensitivities, two.sensitivities)
    assert (one.counts.double_detections, two.counts.double_detections) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_no_second_mark_on_a_hit_nodule_changes_the_score(seed: int, less: float) -> None:
    case = random_case(seed)
    # In a full scan, one more mark would push another out.
    ids, number = np.unique(case.candidates.scan_id, return_counts=True)
    roomy = np.isin(case.candidates.scan_id, ids[number < 100])
    before = score(case)
    for row in np.flatnonzero(roomy)[:20].tolist():
        mark = case.candidates[np.array([row])]
        again = Candidates(mark.rows.centre_xyz_mm, mark.rows.probability - less, mark.rows.diameter_mm)
        more = Table(
            np.concatenate([case.candidates.scan_id, mark.scan_id]),
            Candidates.concatenate([case.candidates.rows, again]),
        )
        after = froc(more, case.nodules, case.excluded, case.scan_ids, bootstraps=0)
        if after.counts.false_positives == before.counts.false_positives:
            assert np.array_equal(after.sensitivities, before.sensitivities)
            assert after.counts.true_positives == before.counts.true_positives
            assert after.counts.marks == before.counts.marks + 1


@pytest.mark.parametrize(("x", "hits"), [(2.999999, 1), (3.0, 0), (-3.0, 0)])
def test_radius_is_strict(x: float, hits: int) -> None:
    result = froc(marks(("a", x, 0.5)), findings(("a", 0, 6)), no_findings(), ["a"], bootstraps=0)
    assert result.counts.true_positives == hits
    assert result.counts.false_positives == 1 - hits


@pytest.mark.parametrize(("x", "ignored"), [(4.999, 1), (5.0, 0)])
def test_negative_diameter_is_a_radius_of_5_mm(x: float, ignored: int) -> None:
    result = froc(marks(("a", x, 0.5)), findings(("a", 90, 6)), findings(("a", 0, -1)), ["a"], bootstraps=0)
    assert result.counts.ignored_on_excluded == ignored


def test_mark_in_another_scan_does_not_hit() -> None:
    result = froc(marks(("b", 0, 0.5)), findings(("a", 0, 6)), no_findings(), ["a", "b"], bootstraps=0)
    assert (result.counts.true_positives, result.counts.false_positives) == (0, 1)


def test_mark_inside_two_nodules_detects_both() -> None:
    result = froc(marks(("a", 0, 0.5)), findings(("a", -2, 6), ("a", 2, 6)), no_findings(), ["a"], bootstraps=0)
    assert (result.counts.true_positives, result.counts.false_positives) == (2, 0)
    assert result.mean == 1.0


def test_nodules_come_before_excluded_findings() -> None:
    result = froc(marks(("a", 0, 0.5)), findings(("a", 0, 6)), findings(("a", 0, 6)), ["a"], bootstraps=0)
    assert (result.counts.true_positives, result.counts.ignored_on_excluded) == (1, 0)


@pytest.mark.parametrize(("tied", "left"), [(1, 100), (2, 99), (60, 41)])
def test_cap_keeps_marks_strictly_above_the_101st(tied: int, left: int) -> None:
    probability = np.linspace(1, 2, 101)
    probability[:tied] = 1.0
    rows = [("a", 50.0 + place, value) for place, value in enumerate(probability)]
    assert froc(marks(*rows), findings(("a", 0, 6)), no_findings(), ["a"], bootstraps=0).counts.marks == left


def test_ties_share_one_point_of_the_curve() -> None:
    tied = froc(marks(("a", 0, 0.5), ("a", 80, 0.5)), findings(("a", 0, 6)), no_findings(), ["a"], bootstraps=0)
    assert tied.curve.fps.tolist() == [0.0, 1.0]
    assert tied.sensitivities.tolist() == [0.125, 0.25, 0.5, 1, 1, 1, 1]


def test_upper_end_of_a_vertical_piece_counts() -> None:
    scan_ids = [f"s{number}" for number in range(8)]
    one_false = marks(("s0", 80, 0.9), ("s0", 0, 0.8))
    result = froc(one_false, findings(("s0", 0, 6), ("s1", 0, 6)), no_findings(), scan_ids, bootstraps=0)
    assert result.sensitivities[0] == 0.5


@pytest.mark.parametrize(
    ("candidates", "nodules", "scan_ids", "mean"),
    [
        (no_marks(), no_findings(), [], 0.0),
        (no_marks(), no_findings(), ["a"], 0.0),
        (no_marks(), findings(("a", 0, 6)), ["a"], 0.0),
        (marks(("a", 0, 0.5)), no_findings(), ["a"], 0.0),
        (marks(("a", 0, 0.5)), findings(("a", 0, 6)), ["a"], 1.0),
    ],
)
def test_empty_inputs_are_normal(
    candidates: Table[Candidates], nodules: Table[Findings], scan_ids: list[str], mean: float
) -> None:
    result = froc(candidates, nodules, no_findings(), scan_ids, bootstraps=10)
    assert result.mean == mean
    assert result.counts.scans == len(scan_ids)
    assert result.counts.false_positives == (len(candidates) if not len(nodules) else 0)
    assert result.to_dict()["counts"]["nodules"] == len(nodules)


def test_corners_leave_the_values_alone() -> None:
    rng = np.random.default_rng(0)
    curve = Curve(np.sort(rng.integers(40, size=200)) / 4, np.sort(rng.integers(9, size=200)) / 9, -np.arange(200.0))
    corners = curve.corners()
    assert len(corners.fps) < 30
    at = np.linspace(0, 12, 500)
    assert np.abs(curve.at(at) - corners.at(at)).max() < 1e-15


def test_scan_twice_in_the_list_is_refused() -> None:
    with pytest.raises(InputError) as error:
        froc(no_marks(), no_findings(), no_findings(), ["a", "b", "a"])
    assert error.value.key == "scan-repeated"
    assert "scan a " in str(error.value)


def test_negative_bootstraps_are_refused() -> None:
    with pytest.raises(InputError) as error:
        froc(no_marks(), no_findings(), no_findings(), ["a"], bootstraps=-1)
    assert error.value.key == "argument-invalid"
    assert "-1" in str(error.value)


def test_scoring_needs_neither_torch_nor_pandas_nor_sklearn() -> None:
    code = (
        "import sys, nodule_lightning.metrics.functional, nodule_lightning.evaluation.evaluate;"
        "print(sorted({'torch', 'pandas', 'sklearn', 'wandb', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_million_marks_over_ten_thousand_scans() -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number:030d}" for number in range(10_000)])
    centre = rng.uniform(-150, 150, (1_000_000, 3))
    candidates = Table(
        names[rng.integers(10_000, size=1_000_000)],
        Candidates(centre, rng.uniform(0, 1, 1_000_000), np.full(1_000_000, -1.0)),
    )
    nodules = Table(candidates.scan_id[:15_000], Findings(centre[:15_000], rng.uniform(3, 30, 15_000)))
    excluded = Table(candidates.scan_id[-400_000:], Findings(centre[-400_000:], np.full(400_000, -1.0)))
    start = time.process_time()
    result = froc(candidates, nodules, excluded, names.tolist())
    assert time.process_time() - start < 10
    assert result.interval is not None
