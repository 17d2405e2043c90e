"""Scoring csv files: what is written, what is refused, what is imported."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nodule_lightning.errors import InputError
from nodule_lightning.evaluation.evaluate import Evaluation, evaluate_submission
from nodule_lightning.evaluation.terminal import render_evaluation
from nodule_lightning.io.tables import read_candidates
from nodule_lightning.metrics.functional import RATES, Protocol

SUBMISSION = """seriesuid,coordX,coordY,coordZ,probability
a,0,0,0,0.9
a,60,0,0,0.8
b,0,0,0,0.7
c,0,0,0,0.6
"""
ANNOTATIONS = """seriesuid,coordX,coordY,coordZ,diameter_mm
a,1,0,0,6
b,0,2,0,12
"""
FILES = ["false_positives.csv", "froc.csv", "froc.png", "metrics.json", "misses.csv"]
EXCLUDED = """seriesuid,coordX,coordY,coordZ,diameter_mm
c,4,0,0,-1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine [1], 肺$x$.csv").write_text(SUBMISSION)
    (tmp_path / "annotations.csv").write_text(ANNOTATIONS)
    (tmp_path / "excluded.csv").write_text(EXCLUDED)
    (tmp_path / "scans.csv").write_text("a\nb\nc\nd\n")
    return tmp_path


def evaluate(folder: Path, output: Path, excluded: bool = True, scans: bool = True) -> Evaluation:
    return evaluate_submission(
        [folder / "mine [1], 肺$x$.csv"],
        folder / "annotations.csv",
        folder / "excluded.csv" if excluded else None,
        [folder / "scans.csv"] if scans else [],
        output,
        threshold=0.65,
        bootstraps=20,
        seed=3,
    )


def test_files_hold_the_score(folder: Path) -> None:
    output = folder / "new folder" / "肺"
    result = evaluate(folder, output).result
    assert sorted(path.name for path in output.iterdir()) == FILES
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["mean"] == result.mean
    assert metrics["counts"]["ignored_on_excluded"] == 1
    assert metrics["counts"]["scans"] == 4
    assert (metrics["bootstraps"], metrics["seed"]) == (20, 3)
    with (output / "froc.csv").open(encoding="utf-8") as file:
        points = np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])
    assert np.interp(RATES, points[:, 0], points[:, 1]).tolist() == result.sensitivities.tolist()
    assert (output / "froc.png").read_bytes().startswith(b"\x89PNG")
    assert result.warnings == ()


def test_same_input_gives_same_bytes(folder: Path) -> None:
    for name in ("one", "two"):
        evaluate(folder, folder / name)
    for name in FILES:
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_missing_lists_give_warnings(folder: Path) -> None:
    result = evaluate(folder, folder / "out", excluded=False, scans=False).result
    assert result.counts.scans == 3
    assert len(result.warnings) == 2
    assert any("annotations_excluded.csv" in sentence for sentence in result.warnings)
    assert any("3 scans" in sentence for sentence in result.warnings)
    metrics = json.loads((folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["warnings"] == list(result.warnings)


def test_bad_input_leaves_nothing_behind(folder: Path) -> None:
    (folder / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ\na,1,2,3\n")
    with pytest.raises(InputError) as error:
        evaluate(folder, folder / "out")
    assert "annotations.csv" in str(error.value)
    assert "diameter_mm" in str(error.value)
    assert not (folder / "out").exists()


def test_a_submission_of_other_scans_is_refused(folder: Path) -> None:
    text = (folder / "scans.csv").read_text(encoding="utf-8")
    (folder / "scans.csv").write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        evaluate(folder, folder / "out")
    assert error.value.key == "scan-unknown"
    assert str(folder / "mine [1], 肺$x$.csv") in str(error.value)
    (folder / "scans.csv").write_text(text, encoding="utf-8")
    evaluate(folder, folder / "out")


def test_output_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "out").write_text("mine")
    with pytest.raises(InputError) as error:
        evaluate(folder, folder / "out")
    assert str(folder / "out") in str(error.value)
    assert (folder / "out").read_text(encoding="utf-8") == "mine"


def test_mistakes_are_listed_where_they_are(folder: Path) -> None:
    more = "a,100,0,0,11\nd,1,2,3,25\n"
    (folder / "annotations.csv").write_text(ANNOTATIONS + more)
    evaluate(folder, folder / "out", excluded=False)
    with (folder / "out" / "misses.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "seriesuid": "d", "coordX": "1.0", "coordY": "2.0", "coordZ": "3.0", "diameter_mm": "25.0",
            "nearest_mark_mm": "", "nearest_mark_probability": "",
        },
        {
            "seriesuid": "a", "coordX": "100.0", "coordY": "0.0", "coordZ": "0.0", "diameter_mm": "11.0",
            "nearest_mark_mm": "40.0", "nearest_mark_probability": "0.8",
        },
    ]  # fmt: skip
    false = read_candidates(folder / "out" / "false_positives.csv")
    assert false.scan_id.tolist() == ["a", "c"]
    assert false.rows.centre_xyz_mm.tolist() == [[60, 0, 0], [0, 0, 0]]
    assert false.rows.probability.tolist() == [0.8, 0.6]


def test_operating_point_is_written(folder: Path) -> None:
    evaluate(folder, folder / "out")
    metrics = json.loads((folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["operating_point"] == {
        "threshold": 0.65, "true_positives": 2, "false_positives": 1, "sensitivity": 1.0, "fps_per_scan": 0.25,
        "precision": 2 / 3,
    }  # fmt: skip


def test_tianchi_has_no_excluded_list_and_does_not_miss_it(folder: Path) -> None:
    files = ([folder / "mine [1], 肺$x$.csv"], folder / "annotations.csv")
    scans, out = [folder / "scans.csv"], folder / "out"
    result = evaluate_submission(*files, None, scans, out, protocol=Protocol.TIANCHI).result
    assert result.warnings == ()
    assert result.counts.false_positives == 2
    assert json.loads((folder / "out" / "metrics.json").read_text(encoding="utf-8"))["protocol"] == "tianchi"
    with pytest.raises(InputError) as error:
        evaluate_submission(*files, folder / "excluded.csv", scans, out, protocol=Protocol.TIANCHI)
    assert error.value.key == "argument-conflict"
    assert f"excluded={folder / 'excluded.csv'}" in str(error.value)


def test_table_shows_score_counts_sizes_mistakes_and_warnings(folder: Path) -> None:
    (folder / "annotations.csv").write_text(ANNOTATIONS + "a,100,0,0,11\nd,1,2,3,25\n")
    evaluation = evaluate(folder, folder / "out", excluded=False)
    evaluation = replace(evaluation, result=evaluation.result.with_warning("mind [this]"))
    printed = printout(evaluation, show=1)
    assert "LUNA16" in printed
    assert f"{evaluation.result.mean:.4f}" in printed
    assert "2 of 4 nodules found in 4 scans, 2 missed" in printed
    for words in ("3-5 mm", "10-20 mm", "10-30 mm"):
        assert words in printed
    assert "at a threshold of 0.65: sensitivity 0.5000, 0.25 false positives per scan, precision 0.6667" in printed
    assert "the largest of 2 missed nodules" in printed
    assert "1.0 2.0 3.0" in printed
    assert "the most probable of 2 false positives" in printed
    assert "60.0 0.0 0.0" in printed
    # Only one of each was asked for.
    assert "100.0 0.0 0.0" not in printed
    assert "warning: mind [this]" in printed
    assert "missed nodules" not in printout(evaluation, show=0)


def printout(evaluation: Evaluation, show: int = 5) -> str:
    text = StringIO()
    Console(file=text, width=140).print(render_evaluation(evaluation, show))
    return text.getvalue()


@pytest.mark.real_data
def test_the_golden_submission_needs_no_heavy_package(real_data: Path, tmp_path: Path) -> None:
    luna = real_data / "luna16"
    code = (
        "import sys; from pathlib import Path;"
        "from nodule_lightning.evaluation.evaluate import evaluate_submission;"
        "paths = [Path(path) for path in sys.argv[1:]];"
        "run = evaluate_submission(paths[:1], *paths[1:3], paths[3:4], paths[4]);"
        "print(run.result.mean, {'torch', 'wandb', 'pandas', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    files = [luna / name for name in ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, real_data / "froc_golden" / "deeplung_dpn26.csv", *files, tmp_path],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split() == ["0.8419657913755723", "set()"]
