"""Scoring csv files: what is written, what is refused, what is imported."""

import csv
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nodule_lightning.errors import InputError
from nodule_lightning.evaluate import evaluate_submission, render_table
from nodule_lightning.metrics.functional import RATES, FrocResult

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


def evaluate(folder: Path, output: Path, excluded: bool = True, scans: bool = True) -> FrocResult:
    return evaluate_submission(
        folder / "mine [1], 肺$x$.csv",
        folder / "annotations.csv",
        folder / "excluded.csv" if excluded else None,
        folder / "scans.csv" if scans else None,
        output,
        bootstraps=20,
        seed=3,
    )


def test_files_hold_the_score(folder: Path) -> None:
    output = folder / "new folder" / "肺"
    result = evaluate(folder, output)
    assert sorted(path.name for path in output.iterdir()) == ["froc.csv", "froc.png", "metrics.json"]
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
    for name in ("metrics.json", "froc.csv", "froc.png"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_missing_lists_are_said(folder: Path) -> None:
    result = evaluate(folder, folder / "out", excluded=False, scans=False)
    assert result.counts.scans == 3
    assert any("No list of excluded findings" in sentence for sentence in result.warnings)
    assert any("No list of scans was given: only the 3 scans" in sentence for sentence in result.warnings)
    metrics = json.loads((folder / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["warnings"] == list(result.warnings)


def test_bad_input_leaves_nothing_behind(folder: Path) -> None:
    (folder / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ\na,1,2,3\n")
    with pytest.raises(InputError, match=r"annotations\.csv.*diameter_mm"):
        evaluate(folder, folder / "out")
    assert not (folder / "out").exists()


def test_a_submission_of_other_scans_is_refused(folder: Path) -> None:
    text = (folder / "scans.csv").read_text(encoding="utf-8")
    (folder / "scans.csv").write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(InputError, match="marks none of the 2 scans that count, but others such as a"):
        evaluate(folder, folder / "out")
    (folder / "scans.csv").write_text(text, encoding="utf-8")
    evaluate(folder, folder / "out")


def test_output_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "out").write_text("mine")
    with pytest.raises(InputError, match="out is a file; give a folder as output"):
        evaluate(folder, folder / "out")
    assert (folder / "out").read_text(encoding="utf-8") == "mine"


def test_table_tells_score_counts_sizes_and_warnings(folder: Path) -> None:
    text = StringIO()
    result = evaluate(folder, folder / "out", excluded=False).with_warning("mind [this]")
    Console(file=text, width=120).print(render_table(result))
    printed = text.getvalue()
    assert f"{result.mean:.4f}" in printed
    assert "2 of 2 nodules found in 4 scans" in printed
    assert "10-20 mm" in printed
    assert "warning: mind [this]" in printed


@pytest.mark.real_data
def test_the_golden_submission_needs_no_heavy_package(real_data: Path, tmp_path: Path) -> None:
    luna = real_data / "luna16"
    code = (
        "import sys; from pathlib import Path;"
        "from nodule_lightning.evaluate import evaluate_submission;"
        "paths = [Path(path) for path in sys.argv[1:]];"
        "print(evaluate_submission(*paths).mean, {'torch', 'wandb', 'pandas', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    files = [luna / name for name in ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, real_data / "froc_golden" / "deeplung_dpn26.csv", *files, tmp_path],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split() == ["0.8419657913755723", "set()"]
