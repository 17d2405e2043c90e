"""Folds are pooled and scored once; each has its own score beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import Evaluation, evaluate_submission
from nodule_lightning.io.files import distinct_names
from nodule_lightning.io.tables import read_candidates, read_subsets, write_candidates, write_scan_ids
from nodule_lightning.metrics.functional import froc
from tests.evaluation.test_evaluate import printout
from tests.metrics.cases import findings, marks, no_findings

HEADER = "seriesuid,coordX,coordY,coordZ,"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in {"f0": "a,0,0,0,0.9\na,60,0,0,0.3\n", "f1": "c,0,0,0,0.1\nc,60,0,0,0.2\n"}.items():
        (tmp_path / f"{name}.csv").write_text(HEADER + "probability\n" + rows)
    (tmp_path / "annotations.csv").write_text(HEADER + "diameter_mm\na,0,0,0,6\nc,0,0,0,6\nd,0,0,0,6\n")
    (tmp_path / "excluded.csv").write_text(HEADER + "diameter_mm\nb,0,0,0,6\n")
    for name, ids in {"all": "abcd", "s0": "ab", "s1": "cd"}.items():
        write_scan_ids(tmp_path / f"{name}.csv", ids)
    return tmp_path


def evaluate(folder: Path, submissions: list[str], scans: list[str]) -> Evaluation:
    return evaluate_submission(
        [folder / f"{name}.csv" for name in submissions],
        folder / "annotations.csv",
        folder / "excluded.csv",
        [folder / f"{name}.csv" for name in scans],
        folder / "out",
        bootstraps=10,
    )


def test_folds_are_pooled_and_scored_once(folder: Path) -> None:
    evaluation = evaluate(folder, ["f0", "f1"], ["s0", "s1"])
    result = evaluation.result
    everything = marks(("a", 0, 0.9), ("a", 60, 0.3), ("c", 0, 0.1), ("c", 60, 0.2))
    nodules = findings(("a", 0, 6), ("c", 0, 6), ("d", 0, 6))
    assert result.mean == froc(everything, nodules, no_findings(), list("abcd"), bootstraps=0).mean
    assert (result.counts.scans, result.counts.nodules, result.counts.misses) == (4, 3, 1)
    assert result.interval is not None
    assert result.warnings == ()
    [(first, one), (second, two)] = evaluation.folds
    assert (first, one.counts.scans, one.counts.nodules, one.mean) == ("f0", 2, 1, 1.0)
    assert (second, two.counts.scans, two.counts.nodules) == ("f1", 2, 2)
    # One false positive in two scans comes before the only find.
    assert two.sensitivities.tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]
    written = json.loads((folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert [fold["submission"] for fold in written["folds"]] == ["f0", "f1"]
    assert [fold["mean"] for fold in written["folds"]] == [one.mean, two.mean]
    assert written["submission"] == "2 folds"
    assert {"f0", "f1"} <= set(printout(evaluation).split())


def test_one_list_for_all_knows_a_fold_by_its_marks(folder: Path) -> None:
    evaluation = evaluate(folder, ["f0", "f1"], ["all"])
    assert evaluation.result.mean == evaluate(folder, ["f0", "f1"], ["s0", "s1"]).result.mean
    assert [result.counts.scans for _, result in evaluation.folds] == [1, 1]
    assert len(evaluation.result.warnings) == 1
    assert any("3 scans" in sentence for sentence in evaluate(folder, ["f0", "f1"], []).result.warnings)


def test_marks_outside_a_fold_are_left_out_with_a_warning(folder: Path) -> None:
    with (folder / "f0.csv").open("a") as file:
        file.write("c,0,0,0,0.95\n")
    evaluation = evaluate(folder, ["f0", "f1"], ["s0", "s1"])
    assert evaluation.result.counts.marks == 4
    assert any("1 marks of f0" in sentence for sentence in evaluation.result.warnings)


@pytest.mark.parametrize(
    ("submissions", "scans", "key", "named"),
    [
        (["f0", "f0"], ["all"], "split-invalid", ["scan a ", "f0.csv", "scans="]),
        (["f0", "f1"], ["s0", "s0"], "split-invalid", ["f1.csv", "such as c"]),
        (["f0", "f1"], ["s0", "all"], "split-invalid", ["scan a ", "f0.csv", "f1.csv"]),
        (["f0", "f1", "f0"], ["s0", "s1"], "argument-invalid", ["scans", "2", "3"]),
    ],
)
def test_folds_that_do_not_fit_are_refused(
    folder: Path, submissions: list[str], scans: list[str], key: str, named: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        evaluate(folder, submissions, scans)
    assert error.value.key == key
    assert all(value in str(error.value) for value in named), error.value
    assert not (folder / "out").exists()


def test_names_tell_paths_apart() -> None:
    assert distinct_names([Path("a/x.csv"), Path("b/y.csv")]) == ["x", "y"]
    assert distinct_names([Path("a/x.csv"), Path("/b/a/x.csv")]) == ["a", "b/a"]
    assert distinct_names([]) == []


@pytest.mark.real_data
def test_ten_folds_of_the_golden_submission_give_the_official_score(real_data: Path, tmp_path: Path) -> None:
    luna = real_data / "luna16"
    candidates = read_candidates(real_data / "froc_golden" / "deeplung_dpn26.csv")
    subset = read_subsets(luna / "subsets.csv")
    of_mark = np.array([subset[scan_id] for scan_id in candidates.scan_id.tolist()])
    folds = [str(number) for number in range(10)]
    for fold in folds:
        write_candidates(tmp_path / f"fold{fold}.csv", candidates[np.flatnonzero(of_mark == fold)])
        write_scan_ids(tmp_path / f"scans{fold}.csv", [scan_id for scan_id, name in subset.items() if name == fold])
    evaluation = evaluate_submission(
        [tmp_path / f"fold{fold}.csv" for fold in folds],
        luna / "annotations.csv",
        luna / "annotations_excluded.csv",
        [tmp_path / f"scans{fold}.csv" for fold in folds],
        tmp_path / "out",
        bootstraps=0,
    )
    assert evaluation.result.mean == pytest.approx(0.841965791, abs=1e-6)
    assert evaluation.result.warnings == ()
    means = [result.mean for _, result in evaluation.folds]
    # Averaging folds gives another number, which is not LUNA16's score.
    assert np.mean(means) == pytest.approx(0.8463, abs=5e-4)
