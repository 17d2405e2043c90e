"""The score by size of the nodule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.metrics.functional import froc
from tests.metrics.cases import findings, marks, no_findings, no_marks, random_case
from tests.metrics.naive_froc import naive_froc


def test_sensitivity_by_size_uses_the_rate_of_all_marks() -> None:
    nodules = findings(("a", 0, 4.9), ("a", 100, 5.0), ("b", 0, 3.0), ("b", 100, 25.0))
    found = marks(("a", 0, 0.9), ("a", 500, 0.8), ("b", 500, 0.7), ("b", 100, 0.6), ("b", 700, 0.5), ("b", 0, 0.4))
    result = froc(found, nodules, no_findings(), ["a", "b"], bootstraps=0)
    assert [size.label for size in result.sizes] == ["3-5 mm", "5-6 mm", "6-10 mm", "10-20 mm", "20 mm and over"]
    assert [size.nodules for size in result.sizes] == [2, 1, 0, 0, 1]
    assert [size.sensitivity for size in result.sizes if size.nodules] == [0.5, 0.0, 1.0]
    assert [size.label for size in result.coarse_sizes] == ["3-10 mm", "10-30 mm"]
    assert [size.nodules for size in result.coarse_sizes] == [3, 1]


def test_what_lies_beyond_the_ranges_is_shown_where_there_is_some() -> None:
    result = froc(no_marks(), findings(("a", 0, 2.9), ("a", 90, 30.0)), no_findings(), ["a"], bootstraps=0)
    assert result.sizes[0].label == "under 3 mm"
    assert [size.label for size in result.coarse_sizes] == ["under 3 mm", "3-10 mm", "10-30 mm", "30 mm and over"]
    assert [size.nodules for size in result.coarse_sizes] == [1, 0, 0, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_size_agrees_with_the_naive_reference(seed: int) -> None:
    case = random_case(seed)
    result = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=0)
    for sizes in (result.sizes, result.coarse_sizes):
        assert sum(size.nodules for size in sizes) == result.counts.nodules
        for size in sizes:
            expected = naive_froc(
                case.candidates, case.nodules, case.excluded, case.scan_ids, (size.low_mm, size.high_mm)
            )
            assert size.nodules == expected.true_positives + expected.misses
            if size.nodules:
                assert size.sensitivities == pytest.approx(expected.sensitivities, abs=1e-15)
                assert size.sensitivity == size.sensitivities[3]
                assert size.mean == pytest.approx(np.mean(expected.sensitivities), abs=1e-15)
            else:
                assert np.isnan(size.sensitivity)
