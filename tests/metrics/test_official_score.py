"""A published submission against the numbers of the official LUNA16 evaluation, and what silently changes them."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodule_lightning.io.tables import read_candidates, read_findings, read_scan_ids, read_subsets
from nodule_lightning.metrics.functional import RATES, Protocol, froc
from nodule_lightning.structures import Candidates, Table
from tests.metrics.cases import Case, no_findings

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def golden(real_data: Path) -> Case:
    return Case(
        read_candidates(real_data / "froc_golden" / "deeplung_dpn26.csv"),
        read_findings(real_data / "luna16" / "annotations.csv"),
        read_findings(real_data / "luna16" / "annotations_excluded.csv", sized=False),
        read_scan_ids(real_data / "luna16" / "seriesuids.csv"),
    )


@pytest.fixture(scope="module")
def expected(real_data: Path) -> dict[str, Any]:
    text = (real_data / "froc_golden" / "deeplung_dpn26.expected.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def score(case: Case) -> tuple[float, tuple[str, ...]]:
    result = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=0)
    return result.mean, result.warnings


def test_official_numbers(golden: Case, expected: dict[str, Any]) -> None:
    result = froc(golden.candidates, golden.nodules, golden.excluded, golden.scan_ids)
    wanted = [expected["sensitivity_at_fps_per_scan"][f"{rate:g}"] for rate in RATES]
    assert result.sensitivities == pytest.approx(wanted, abs=1e-6)
    assert result.mean == pytest.approx(expected["mean"], abs=1e-6)
    assert result.interval == pytest.approx(expected["bootstrap_mean_95_percent_interval"], abs=0.003)
    counts = result.counts
    assert counts.true_positives == expected["true_positives"]
    assert counts.false_positives == expected["false_positives"]
    assert counts.misses == expected["false_negatives"]
    assert counts.marks == expected["candidates_after_cap"]
    assert counts.nodules == expected["nodules"]
    assert counts.ignored_on_excluded == expected["ignored_on_excluded"]
    assert counts.double_detections == expected["ignored_double_detections"]
    assert counts.scans == 888
    assert result.curve.sensitivity[-1] == pytest.approx(expected["sensitivity"], abs=1e-9)
    assert [size.nodules for size in result.sizes] == [270, 232, 403, 231, 50]
    assert [size.sensitivity for size in result.sizes] == pytest.approx([0.700, 0.901, 0.921, 0.909, 0.940], abs=6e-4)
    assert [size.nodules for size in result.coarse_sizes] == [905, 279, 2]
    at_8 = [size.sensitivities[-1] for size in result.sizes]
    assert at_8 == pytest.approx([0.870, 0.948, 0.965, 0.935, 0.940], abs=6e-4)
    assert len(result.misses) == expected["false_negatives"]
    assert len(result.false_positives) == 1000
    assert result.warnings == ()


def test_a_hundred_times_as_fast_as_the_official_script(golden: Case) -> None:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        froc(golden.candidates, golden.nodules, golden.excluded, golden.scan_ids, bootstraps=1000)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.74


def test_missing_excluded_list_gives_a_warning(golden: Case, expected: dict[str, Any]) -> None:
    result = froc(golden.candidates, golden.nodules, None, golden.scan_ids, bootstraps=0)
    assert result.mean == pytest.approx(expected["mean_without_excluded_list"], abs=5e-5)
    assert len(result.warnings) == 1
    assert "annotations_excluded.csv" in result.warnings[0]


def test_empty_excluded_list_gives_a_warning(golden: Case, expected: dict[str, Any]) -> None:
    mean, warnings = score(replace(golden, excluded=no_findings()))
    assert mean == pytest.approx(expected["mean_without_excluded_list"], abs=5e-5)
    assert len(warnings) == 1


def test_tianchi_protocol_is_the_score_without_an_excluded_list(golden: Case, expected: dict[str, Any]) -> None:
    lists = (golden.candidates, golden.nodules, None, golden.scan_ids)
    result = froc(*lists, protocol=Protocol.TIANCHI, bootstraps=0)
    assert result.mean == pytest.approx(expected["mean_without_excluded_list"], abs=5e-5)
    assert result.warnings == ()


def test_submission_joined_to_itself_gives_a_warning(golden: Case) -> None:
    twice = Table(
        np.concatenate([golden.candidates.scan_id, golden.candidates.scan_id]),
        Candidates.concatenate([golden.candidates.rows, golden.candidates.rows]),
    )
    mean, warnings = score(replace(golden, candidates=twice))
    assert mean < 0.83
    assert len(warnings) == 1
    assert "55677 marks" in warnings[0]


def test_list_of_nodule_scans_only_gives_a_warning(golden: Case, expected: dict[str, Any]) -> None:
    mean, warnings = score(replace(golden, scan_ids=sorted(set(golden.nodules.scan_id.tolist()))))
    assert mean == pytest.approx(expected["mean_over_the_601_scans_with_nodules"], abs=5e-5)
    assert len(warnings) == 2
    assert "287 scans" in warnings[0]
    assert "601" in warnings[1]


def test_excluded_findings_of_other_ids_give_a_warning(golden: Case) -> None:
    other = np.char.add("x", golden.excluded.scan_id.astype(np.str_))
    mean, warnings = score(replace(golden, excluded=Table(other, golden.excluded.rows)))
    assert mean == pytest.approx(0.7422, abs=5e-5)
    assert len(warnings) == 1
    assert "35192" in warnings[0]


def test_nodules_given_as_excluded_findings_give_a_warning(golden: Case) -> None:
    mean, warnings = score(replace(golden, excluded=golden.nodules))
    assert mean == pytest.approx(0.7422, abs=5e-5)
    assert len(warnings) == 1
    assert "1186 of the 1186 nodules" in warnings[0]


def test_marks_in_nodule_scans_only_give_a_warning(golden: Case) -> None:
    inside = np.isin(golden.candidates.scan_id, golden.nodules.scan_id)
    mean, warnings = score(replace(golden, candidates=golden.candidates[inside]))
    assert mean == pytest.approx(0.8583, abs=5e-5)
    assert len(warnings) == 1
    assert "287 scans" in warnings[0]


def test_one_fold_against_all_annotations_gives_a_warning(golden: Case, real_data: Path) -> None:
    subset = read_subsets(real_data / "luna16" / "subsets.csv")
    fold = [scan_id for scan_id in golden.scan_ids if subset[scan_id] == "9"]
    own = golden.candidates[np.isin(golden.candidates.scan_id, fold)]
    annotated = set(golden.nodules.scan_id.tolist())
    warnings = score(replace(golden, candidates=own, scan_ids=fold))[1]
    assert any(f"{len(annotated - set(fold))} of {len(annotated)}" in sentence for sentence in warnings)
    warnings = score(replace(golden, candidates=own))[1]
    silent = set(golden.scan_ids) - set(own.scan_id.tolist())
    assert any(f"{len(silent)} of {len(golden.scan_ids)} scans" in sentence for sentence in warnings)


def test_ids_without_their_zeros_give_a_warning(golden: Case) -> None:
    names = {scan_id: f"{number:03d}" for number, scan_id in enumerate(golden.scan_ids)}
    padded = [names[scan_id] for scan_id in golden.scan_ids]
    bare = Table(
        np.array([names[scan_id].lstrip("0") or "0" for scan_id in golden.candidates.scan_id.tolist()]),
        golden.candidates.rows,
    )
    nodules = Table(np.array([names[scan_id] for scan_id in golden.nodules.scan_id.tolist()]), golden.nodules.rows)
    excluded = Table(np.array([names[scan_id] for scan_id in golden.excluded.scan_id.tolist()]), golden.excluded.rows)
    warnings = score(Case(bare, nodules, excluded, padded))[1]
    assert any("zeros" in sentence for sentence in warnings)
