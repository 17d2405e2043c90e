"""Isotonic calibration: what counts as right, and what it does to a member."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_lightning.ensemble.calibration import Calibration, calibrate, judge
from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import froc
from tests.metrics.cases import findings, marks, random_case


def pooled(right: Sequence[float], number: Sequence[float]) -> list[float]:
    """Pool adjacent violators, as the textbook does it."""
    blocks: list[list[float]] = []
    for hits, weight in zip(right, number, strict=True):
        blocks.append([hits, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [first + second for first, second in zip(blocks[-1], last, strict=True)]
    return [hits / weight for hits, weight, length in blocks for _ in range(int(length))]


scored = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60).filter(
    lambda drawn: {right for _, right in drawn} == {True, False}
)


@settings(max_examples=200, deadline=None)
@given(scored)
def test_the_shares_are_those_of_pooled_adjacent_violators(drawn: list[tuple[int, bool]]) -> None:
    score = np.array([level / 10 for level, _ in drawn])
    right = np.array([hit for _, hit in drawn])
    fitted = Calibration.fit(score, right)
    levels = sorted({level for level, _ in drawn})
    hits = [float(sum(hit for level, hit in drawn if level == one)) for one in levels]
    number = [float(sum(level == one for level, _ in drawn)) for one in levels]
    np.testing.assert_allclose(fitted.share, pooled(hits, number), atol=1e-12)
    # The mean is that of the marks.
    assert np.mean(fitted.share[np.searchsorted(fitted.score, score)]) == pytest.approx(right.mean())
    probability = fitted.apply(np.linspace(-3, 3, 50))
    assert (np.diff(probability) > 0).all()
    assert ((probability > 0) & (probability < 1)).all()
    np.testing.assert_allclose(fitted.apply(fitted.score), fitted.share, atol=1e-6)


def test_right_is_the_best_mark_of_a_nodule_and_what_counts_neither_way_is_left_out() -> None:
    there = marks(
        ("a", 0, 0.9), ("a", 1, 0.8),  # the best mark of the nodule, and a second one
        ("a", 40, 0.7),  # on an excluded finding
        ("a", 80, 0.6),  # on nothing
        ("b", 2, 0.5), ("b", 2, 0.5),  # two alike
        ("c", 0, 0.4),  # in a scan that does not count
    )  # fmt: skip
    nodules = findings(("a", 0, 8), ("b", 0, 8), ("c", 0, 8))
    score, right = judge(there, nodules, findings(("a", 40, 8), ("b", 2, 8)), ["a", "b"])
    judged = sorted(zip(score.tolist(), right.tolist(), strict=True))
    assert judged == [(0.5, True), (0.5, True), (0.6, False), (0.9, True)]
    without, _ = judge(there, nodules, None, ["a", "b"])
    assert sorted(without.tolist()) == [0.5, 0.5, 0.6, 0.7, 0.9]


@pytest.mark.parametrize("seed", range(8))
def test_a_calibrated_member_keeps_its_curve(seed: int) -> None:
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    fitted = Calibration.fit(rng.random(30), rng.random(30) < 0.5)
    arguments = (case.nodules, case.excluded, case.scan_ids)
    before = froc(case.candidates, *arguments, bootstraps=0)
    after = froc(calibrate(case.candidates, fitted), *arguments, bootstraps=0)
    assert after.sensitivities.tolist() == before.sensitivities.tolist()


@pytest.mark.parametrize("right", [[True, True], [False], []])
def test_nothing_to_learn_from_is_refused(right: list[bool]) -> None:
    with pytest.raises(InputError) as error:
        Calibration.fit(np.linspace(0, 1, len(right)), np.array(right, dtype=bool))
    assert error.value.key == "annotations-missing"
    assert str(len(right)) in str(error.value)
