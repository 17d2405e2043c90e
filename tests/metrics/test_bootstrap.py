"""The interval: seeded, and the same as scoring each draw as a data set of its own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.metrics.functional import RATES, FrocResult, Protocol, froc
from nodule_lightning.metrics.functional.bootstrap import bootstrap
from nodule_lightning.metrics.functional.comparison import compare
from tests.metrics.cases import Case, findings, marks, no_findings, random_case, repeated
from tests.metrics.naive_froc import naive_froc


def score(case: Case, bootstraps: int) -> FrocResult:
    return froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=bootstraps)


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


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bootstrap_equals_the_naive_reference_on_the_drawn_scans(seed: int) -> None:
    case = random_case(seed)
    interval, expected = score(case, bootstraps=8).interval, interval_of_copies(case, 8)
    assert interval == (None if expected is None else pytest.approx(expected, abs=1e-15))


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


def test_a_draw_without_a_nodule_is_left_out() -> None:
    case = Case(marks(("a", 0.0, 0.5)), findings(("a", 0.0, 6.0)), no_findings(), ["a", "b", "c"])
    assert score(case, bootstraps=50).interval == (1.0, 1.0)
    assert score(replace(case, nodules=no_findings()), bootstraps=50).interval is None
    assert score(replace(case, scan_ids=[]), bootstraps=50).interval is None


def test_groups_of_nodules_are_drawn_with_the_whole() -> None:
    case = random_case(17)
    comparison, _ = compare(case.candidates, case.nodules, case.excluded, case.scan_ids, Protocol.LUNA16)
    everything = comparison.every_nodule
    small = comparison.nodules.rows.effective_diameter_mm() < 5
    groups = np.stack([everything, small, ~everything])
    together = bootstrap(comparison, groups, np.array(RATES), 20, 0)
    assert np.array_equal(together[:, 0], bootstrap(comparison, everything[None], np.array(RATES), 20, 0)[:, 0])
    assert np.array_equal(together[:, 1], bootstrap(comparison, small[None], np.array(RATES), 20, 0)[:, 0])
    assert not np.array_equal(together[:, 0], together[:, 1])
    assert np.isnan(together[:, 2]).all()


def interval_of_copies(case: Case, bootstraps: int) -> tuple[float, float] | None:
    """Bootstrap the slow way: score each draw as a data set of its own, by the naive reference."""
    rng = np.random.default_rng(0)
    names = sorted(case.scan_ids)
    means = []
    for _ in range(bootstraps):
        drawn = [names[place] for place in rng.integers(len(names), size=len(names))]
        copies = [f"{name}/{copy}" for copy, name in enumerate(drawn)]
        tables = (repeated(case.candidates, drawn, copies), repeated(case.nodules, drawn, copies))
        result = naive_froc(*tables, repeated(case.excluded, drawn, copies), copies)
        if result.true_positives + result.misses:
            means.append(np.mean(result.sensitivities))
    if not means:
        return None
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
