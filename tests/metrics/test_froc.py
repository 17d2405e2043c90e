"""The score against a naive reference, the official numbers, and its own laws."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import RATES, Curve, FrocResult, froc
from nodule_lightning.structures import Candidates, Findings, RowsT, Table
from tests.metrics.cases import Case, no_findings, no_marks, random_case
from tests.metrics.naive_froc import naive_froc


def marks(*rows: tuple[str, float, float], z: float = 0.0) -> Table[Candidates]:
    """Make marks from (scan, x, probability)."""
    centre = np.array([[x, 0.0, z] for _, x, _ in rows]).reshape(-1, 3)
    probability = np.array([probability for _, _, probability in rows])
    return Table(np.array([scan for scan, _, _ in rows]), Candidates(centre, probability, np.full(len(rows), -1.0)))


def findings(*rows: tuple[str, float, float]) -> Table[Findings]:
    """Make findings from (scan, x, diameter)."""
    centre = np.array([[x, 0.0, 0.0] for _, x, _ in rows]).reshape(-1, 3)
    diameter_mm = np.array([diameter for _, _, diameter in rows], dtype=np.float64)
    return Table(np.array([scan for scan, _, _ in rows]), Findings(centre, diameter_mm))


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


def test_sensitivity_by_size_uses_the_rate_of_all_marks() -> None:
    nodules = findings(("a", 0, 4.9), ("a", 100, 5.0), ("b", 0, 2.0), ("b", 100, 25.0))
    found = marks(("a", 0, 0.9), ("a", 500, 0.8), ("b", 500, 0.7), ("b", 100, 0.6), ("b", 700, 0.5), ("b", 0, 0.4))
    sizes = froc(found, nodules, no_findings(), ["a", "b"], bootstraps=0).sizes
    assert [size.label for size in sizes] == ["under 5 mm", "5-6 mm", "6-10 mm", "10-20 mm", "20 mm and over"]
    assert [size.nodules for size in sizes] == [2, 1, 0, 0, 1]
    assert [size.sensitivity for size in sizes if size.nodules] == [0.5, 0.0, 1.0]


def test_bootstrap_is_seeded_and_holds_the_mean() -> None:
    case = random_case(17)
    first, again = score(case, bootstraps=200), score(case, bootstraps=200)
    other = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=200, seed=1)
    assert first.interval is not None
    assert first.band is not None
    assert first.interval == again.interval != other.interval
    assert first.interval[0] < first.mean < first.interval[1]
    assert (first.band.low <= first.band.high).all()
    assert [first.band.fps[place] for place in range(0, 97, 16)] == list(RATES)


def test_bootstrap_equals_scoring_the_drawn_scans() -> None:
    case = random_case(17)
    assert score(case, bootstraps=30).interval == pytest.approx(interval_of_copies(case, 30), abs=1e-12)


def test_bootstrap_without_the_scan_that_fills_the_head_of_the_curve() -> None:
    # Scan "a" holds all of the head; a draw that misses it needs the tail.
    rows = [("a", 100.0 + place, 0.9) for place in range(90)]
    rows += [(f"s{number}", 100.0 + place, 0.5) for number in range(7) for place in range(40)]
    rows += [(f"s{number}", 0.0, 0.1 * number) for number in range(7)]
    nodules = findings(*[(f"s{number}", 0.0, 6.0) for number in range(7)])
    case = Case(marks(*rows), nodules, no_findings(), ["a", *[f"s{number}" for number in range(7)]])
    interval = score(case, bootstraps=50).interval
    assert interval == pytest.approx(interval_of_copies(case, 50), abs=1e-12)
    assert interval is not None
    assert interval[1] > 0


def interval_of_copies(case: Case, bootstraps: int) -> list[float]:
    """Bootstrap the slow way: score each draw as a data set of its own."""
    rng = np.random.default_rng(0)
    names = sorted(case.scan_ids)
    means = []
    for _ in range(bootstraps):
        drawn = [names[place] for place in rng.integers(len(names), size=len(names))]
        copies = [f"{name}/{copy}" for copy, name in enumerate(drawn)]
        tables = (repeated(case.candidates, drawn, copies), repeated(case.nodules, drawn, copies))
        result = froc(*tables, repeated(case.excluded, drawn, copies), copies, bootstraps=0)
        if result.counts.nodules:
            means.append(result.mean)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def repeated(table: Table[RowsT], drawn: list[str], copies: list[str]) -> Table[RowsT]:
    """Take the rows of each drawn scan under the id of its copy."""
    rows = [np.flatnonzero(table.scan_id == name) for name in drawn]
    ids = np.repeat(copies, [len(part) for part in rows])
    return Table(ids, table.rows[np.concatenate(rows)])


def test_corners_leave_the_values_alone() -> None:
    rng = np.random.default_rng(0)
    curve = Curve(np.sort(rng.integers(40, size=200)) / 4, np.sort(rng.integers(9, size=200)) / 9, -np.arange(200.0))
    corners = curve.corners()
    assert len(corners.fps) < 30
    at = np.linspace(0, 12, 500)
    assert np.abs(curve.at(at) - corners.at(at)).max() < 1e-15


def test_scan_twice_in_the_list_is_refused() -> None:
    with pytest.raises(InputError, match="scan a stands twice"):
        froc(no_marks(), no_findings(), no_findings(), ["a", "b", "a"])


def test_negative_bootstraps_are_refused() -> None:
    with pytest.raises(InputError, match="bootstraps must be 0 or more, not -1"):
        froc(no_marks(), no_findings(), no_findings(), ["a"], bootstraps=-1)


def test_scoring_needs_neither_torch_nor_pandas_nor_sklearn() -> None:
    code = (
        "import sys, nodule_lightning.metrics.functional, nodule_lightning.evaluate;"
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
