"""Comparing submissions: the statistics, and which nodules changed sides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.metrics.functional import Protocol, froc
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.ranking import Standing, paired_p_value, rank
from nodule_lightning.structures import Candidates, Table
from tests.metrics.cases import Case, findings, marks, no_findings, no_marks, random_case, repeated
from tests.metrics.naive_froc import NaiveResult, naive_froc


def compared(case: Case) -> Comparison:
    return compare(case.candidates, case.nodules, case.excluded, case.scan_ids, Protocol.LUNA16)[0]


def reweighted(case: Case, rng: np.random.Generator, noise: float) -> Case:
    """Replace the probabilities of the marks."""
    rows = case.candidates.rows
    probability = rows.probability + noise * rng.standard_normal(len(rows))
    return replace(
        case, candidates=Table(case.candidates.scan_id, Candidates(rows.centre_xyz_mm, probability, rows.diameter_mm))
    )


def detector(rng: np.random.Generator, quality: float, scans: int = 60) -> Case:
    """Draw the marks of a detector on scans with a nodule each: the better, the further its nodules stand out."""
    ids = [f"scan{number:03d}" for number in range(scans)]
    hits = marks(*((scan_id, 0.0, float(rng.normal(quality))) for scan_id in ids))
    rows = [(scan_id, 100.0 + place, float(rng.normal())) for scan_id in ids for place in range(4)]
    false = marks(*rows)
    candidates = Table(np.concatenate([hits.scan_id, false.scan_id]), Candidates.concatenate([hits.rows, false.rows]))
    sizes = [4.0, 5.5, 8.0, 15.0]
    nodules = findings(*((scan_id, 0.0, sizes[place % 4]) for place, scan_id in enumerate(ids)))
    return Case(candidates, nodules, no_findings(), ids)


def by_name(standings: tuple[Standing, ...]) -> dict[str, Standing]:
    return {standing.name: standing for standing in standings}


def test_equal_submissions_have_p_1_and_no_changes() -> None:
    case = random_case(17)
    shuffled = replace(case, candidates=case.shuffled(np.random.default_rng(0)).candidates)
    first, second = rank({"b": compared(case), "a": compared(shuffled)}, 50, 0)
    assert (first.name, second.name) == ("a", "b")
    assert all(rating.p_value is None for rating in first.ratings)
    assert {rating.p_value for rating in second.ratings if rating.nodules} == {1.0}
    assert [rating.interval for rating in first.ratings] == [rating.interval for rating in second.ratings]
    assert len(second.gained) == len(second.lost) == 0


def test_a_clearly_worse_one_has_a_small_p_overall_and_by_size() -> None:
    rng = np.random.default_rng(0)
    good, bad = detector(rng, 3.0), detector(rng, 0.0)
    first, second = rank({"bad": compared(bad), "good": compared(good)}, 400, 0)
    assert (first.name, second.name) == ("good", "bad")
    assert second.overall.p_value == 2 / 401
    assert {rating.p_value for rating in second.ratings if rating.nodules} <= {2 / 401, 4 / 401, 6 / 401}
    assert len(second.lost) > 20
    assert len(second.gained) < 5


def test_equally_good_ones_have_p_values_all_over() -> None:
    rng = np.random.default_rng(1)
    values = []
    for _ in range(40):
        pair = {"a": compared(detector(rng, 1.5, scans=30)), "b": compared(detector(rng, 1.5, scans=30))}
        value = rank(pair, 60, 0)[1].overall.p_value
        assert value is not None
        values.append(value)
    assert np.mean(np.array(values) < 0.05) < 0.2
    assert np.mean(np.array(values) > 0.5) > 0.3


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_p_value_equals_that_of_the_naive_reference(seed: int) -> None:
    case = random_case(seed)
    other = reweighted(case, np.random.default_rng(seed), 0.3)
    standings = rank({"one": compared(case), "two": compared(other)}, 6, 0)
    expected = naive_p_value(case, other, 6)
    assert standings[1].overall.p_value == expected
    for standing in standings:
        chosen = case if standing.name == "one" else other
        result = froc(chosen.candidates, chosen.nodules, chosen.excluded, chosen.scan_ids, bootstraps=6)
        if result.counts.nodules:
            assert standing.overall.mean == result.mean
            assert standing.overall.interval == pytest.approx(result.interval, abs=1e-15)
        sizes = [*result.sizes, *result.coarse_sizes]
        means = {size.label: size.mean for size in sizes}
        assert all(np.array_equal(means[rating.size], rating.mean, equal_nan=True) for rating in standing.ratings[1:])


def naive_p_value(one: Case, two: Case, resamples: int) -> float | None:
    """Score each draw of scans for both, and count the draws in which either is ahead."""
    rng = np.random.default_rng(0)
    names = sorted(one.scan_ids)
    ahead = behind = draws = 0
    for _ in range(resamples):
        drawn = [names[place] for place in rng.integers(len(names), size=len(names))]
        copies = [f"{name}/{copy}" for copy, name in enumerate(drawn)]
        results = [naive_drawn(case, drawn, copies) for case in (one, two)]
        if not results[0].true_positives + results[0].misses:
            continue
        gap = float(np.mean(results[0].sensitivities) - np.mean(results[1].sensitivities))
        draws += 1
        ahead += gap >= -1e-13
        behind += gap <= 1e-13
    return min(1.0, 2 * (min(ahead, behind) + 1) / (draws + 1)) if draws else None


def naive_drawn(case: Case, drawn: list[str], copies: list[str]) -> NaiveResult:
    tables = (repeated(case.candidates, drawn, copies), repeated(case.nodules, drawn, copies))
    return naive_froc(*tables, repeated(case.excluded, drawn, copies), copies)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_submissions_does_not_matter(seed: int) -> None:
    case, rng = random_case(seed), np.random.default_rng(seed)
    cases = {name: compared(reweighted(case, rng, noise)) for name, noise in (("x", 0.0), ("y", 0.2), ("z", 0.2))}
    first = rank(cases, 10, 3)
    second = rank({name: cases[name] for name in ("z", "x", "y")}, 10, 3)
    assert [standing.name for standing in first] == [standing.name for standing in second]
    for one, other in zip(first, second, strict=True):
        assert repr(one.ratings) == repr(other.ratings)
        assert one.gained.tolist() == other.gained.tolist()
        assert one.lost.tolist() == other.lost.tolist()
    means = [standing.overall.mean for standing in first]
    assert means == sorted(means, reverse=True) or not len(case.nodules)


def test_nodules_that_changed_sides() -> None:
    nodules = findings(("a", 0, 6), ("a", 50, 6), ("b", 0, 6), ("b", 50, 6))
    # With two false positives over two scans, what stands above the third is found.
    false = [("a", 200.0, 0.5), ("b", 200.0, 0.4), ("b", 300.0, 0.3)]
    best = marks(*false, ("a", 0, 0.9), ("a", 50, 0.8), ("b", 0, 0.35), ("b", 50, 0.1))
    other = marks(*false, ("a", 0, 0.9), ("a", 50, 0.2), ("b", 50, 0.7))
    cases = {
        name: compared(Case(table, nodules, no_findings(), ["a", "b"]))
        for name, table in (("best", best), ("other", other))
    }
    first, second = rank(cases, 0, 0)
    assert (first.name, second.name) == ("best", "other")
    assert second.gained.tolist() == [3]
    assert second.lost.tolist() == [1, 2]
    assert second.best_probability.tolist() == [0.9, 0.2, -np.inf, 0.7]
    assert second.overall.interval is None
    assert second.overall.p_value is None


def test_nothing_to_find_and_nothing_found_are_normal() -> None:
    for case in (
        Case(no_marks(), no_findings(), no_findings(), []),
        Case(no_marks(), no_findings(), no_findings(), ["a"]),
        Case(marks(("a", 0, 0.5)), no_findings(), no_findings(), ["a"]),
        Case(no_marks(), findings(("a", 0, 6)), no_findings(), ["a"]),
    ):
        standings = rank({"x": compared(case), "y": compared(case)}, 5, 0)
        assert [standing.name for standing in standings] == ["x", "y"]
        assert standings[1].overall.p_value == (1.0 if len(case.nodules) else None)


def test_p_value_is_two_sided_and_leaves_out_draws_without_nodules() -> None:
    zero = np.zeros(9)
    ahead = np.array([1.0] * 8 + [-1.0])
    assert paired_p_value(ahead, zero) == paired_p_value(zero, ahead) == 2 * 2 / 10
    assert paired_p_value(np.append(ahead, np.nan), np.append(zero, np.nan)) == 2 * 2 / 10
    assert paired_p_value(np.full(3, np.nan), np.full(3, np.nan)) is None
    assert paired_p_value(zero + 1e-16, zero) == 1.0
