"""The nodules that were missed and the false positives: those that the score counts, the worst first."""

import numpy as np
import pytest

from nodule_lightning.metrics.functional import froc
from nodule_lightning.report.mistakes import find_mistakes
from nodule_lightning.report.pictures import Outcome, outcomes
from nodule_lightning.structures import Candidates, Findings
from tests.metrics.cases import no_findings, no_marks, random_case


@pytest.mark.parametrize("seed", range(40))
def test_the_mistakes_are_those_of_the_score(seed: int) -> None:
    case = random_case(seed)
    listed = case.scan_ids[: max(len(case.scan_ids) - 1, 1)]
    mistakes = find_mistakes(case.candidates, case.nodules, case.excluded, listed)
    counts = froc(case.candidates, case.nodules, case.excluded, listed, bootstraps=0).counts
    assert (len(mistakes.misses), len(mistakes.false_positives)) == (counts.misses, counts.false_positives)
    assert {*mistakes.misses.scan_id.tolist(), *mistakes.false_positives.scan_id.tolist()} <= set(listed)
    sizes = mistakes.misses.rows.effective_diameter_mm()
    assert (np.diff(sizes) <= 0).all()
    assert (np.diff(mistakes.false_positives.rows.probability) <= 0).all()
    marks, nodules, excluded = case.candidates.by_scan(), case.nodules.by_scan(), case.excluded.by_scan()
    for scan_id in listed:
        own, wanted = marks.get(scan_id, Candidates.empty()), nodules.get(scan_id, Findings.empty())
        fates = outcomes(own, wanted, excluded.get(scan_id, Findings.empty()))
        false = own[np.array([fate == Outcome.FALSE_POSITIVE for fate in fates], dtype=bool)]
        found = mistakes.false_positives.rows[mistakes.false_positives.scan_id == scan_id]
        assert sorted(found.centre_xyz_mm.tolist()) == sorted(false.centre_xyz_mm.tolist())
        kept = own[np.array([fate != Outcome.NOT_SCORED for fate in fates], dtype=bool)]
        missed = mistakes.misses.rows[mistakes.misses.scan_id == scan_id]
        gaps = np.linalg.norm(missed.centre_xyz_mm[:, None] - kept.centre_xyz_mm[None], axis=2)
        assert (gaps >= missed.effective_diameter_mm()[:, None] / 2 - 1e-9).all()


def test_order_of_rows_does_not_matter() -> None:
    case = random_case(215)
    shuffled = case.shuffled(np.random.default_rng(0))
    first, second = (
        find_mistakes(each.candidates, each.nodules, each.excluded, each.scan_ids) for each in (case, shuffled)
    )
    assert len(first.misses) > 2
    assert first.misses.rows.diameter_mm.tolist() == second.misses.rows.diameter_mm.tolist()
    assert first.false_positives.scan_id.tolist() == second.false_positives.scan_id.tolist()


def test_nothing_has_no_mistake() -> None:
    mistakes = find_mistakes(no_marks(), no_findings(), no_findings(), ["one"])
    assert (len(mistakes.misses), len(mistakes.false_positives)) == (0, 0)
    assert (mistakes.misses[:5].scan_id.tolist(), len(mistakes.false_positives.rows)) == ([], 0)
