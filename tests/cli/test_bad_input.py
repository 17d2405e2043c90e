"""Wrong input to each command: one clear line that names it, exit code 2, and nothing half-written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.cli import evaluate, leaderboard, phantom, predict, prepare, report
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.structures import Candidates, Entry
from tests.chest import draw_chest, write_image
from tests.commands import Runner, write_checkpoint

SEARCH = ("checkpoint=a", "input=b", "output=out")
HEADER = "seriesuid,coordX,coordY,coordZ,"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_image(tmp_path / "My CT (1), [a=b]" / "肺 'x'.mhd", draw_chest().hu, draw_chest().grid)


@pytest.fixture
def every_scan(tmp_path: Path) -> Path:
    return write(tmp_path / "every.csv", "seriesuid\none\n")


@pytest.mark.parametrize("missing", ["checkpoint", "input", "scans"])
def test_predict_with_a_missing_file(
    run: Runner, checkpoint: Path, cache: Path, every_scan: Path, missing: str
) -> None:
    given = {"checkpoint": checkpoint, "input": cache, "scans": every_scan}
    given[missing] = Path("no such, [1]")
    line = run(predict.main, *(f"{key}={value}" for key, value in given.items()), "output=out").line()
    assert "no such, [1]" in line
    assert list(Path.cwd().iterdir()) == []


def test_predict_with_an_unknown_scan_id(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    wanted = write(tmp_path / "wanted.csv", "seriesuid\none\nnobody\n")
    line = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={wanted}", "output=out").line()
    assert "nobody" in line
    assert str(wanted) in line
    assert not Path("out").exists()


def test_predict_with_a_list_without_its_column(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    wanted = write(tmp_path / "wanted.csv", "name,subset\none,1\n")
    line = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={wanted}", "output=out").line()
    assert "wanted.csv" in line


def test_predict_on_a_volume_of_the_wrong_dimension(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    flat = write_image(tmp_path / "flat.mha", np.zeros((8, 8), np.int16))
    line = run(predict.main, f"checkpoint={checkpoint}", f"input={flat}", "output=out").line()
    assert "flat.mha" in line
    assert not Path("out").exists()


def test_an_empty_path_is_not_this_folder(run: Runner, checkpoint: Path, cache: Path) -> None:
    for given in (("input=", "output=out"), (f"input={cache}", "output=")):
        line = run(predict.main, f"checkpoint={checkpoint}", *given).line()
        assert "is empty; give a path" in line
    assert list(Path.cwd().iterdir()) == []


def test_predict_on_an_empty_folder(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in run(predict.main, f"checkpoint={checkpoint}", f"input={empty}", "output=out").line()
    assert not Path("out").exists()


def test_predict_on_a_cache_that_was_made_otherwise(run: Runner, cache: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.ckpt")
    values = torch.load(other, weights_only=True)
    values["nodule_lightning"]["preparation"]["margin_mm"] = 3.0
    torch.save(values, other)
    assert "margin_mm 8.0 and 3.0" in run(predict.main, f"checkpoint={other}", f"input={cache}", "output=out").line()


def test_predict_on_a_device_that_is_not_there(run: Runner, checkpoint: Path, cache: Path) -> None:
    line = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out", "device=quantum").line()
    assert "quantum" in line


@pytest.mark.parametrize("output", ["taken", "taken/deep"])
def test_predict_into_a_file_is_refused_before_the_work(run: Runner, output: str) -> None:
    Path("taken").touch()
    # The checkpoint is missing too, but the output is looked at first.
    line = run(predict.main, "checkpoint=gone", "input=gone", f"output={output}").line()
    assert f"{output} cannot be written" in line
    assert "taken is a file" in line


def test_predict_into_a_closed_folder_is_refused_before_the_work(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("closed").mkdir()
    # Nothing is closed to root, as whom these tests may run.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    assert (
        "no permission to write to closed"
        in run(predict.main, "checkpoint=gone", "input=gone", "output=closed/out").line()
    )


def test_predict_on_a_folder_goes_on_past_a_scan_that_cannot_be_read(run: Runner, checkpoint: Path, scan: Path) -> None:
    write_image(scan.parent / "a flat one.mha", np.zeros((8, 8), np.int16))
    (scan.parent / "z cut.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={scan.parent}", "output=out")
    assert ended.code == 1
    assert [line.split(":")[1] for line in ended.out.splitlines()[-2:]] == [" a flat one", " z cut"]
    assert "2 of 3 scans failed" in ended.error.splitlines()[-1]
    assert "Traceback" not in ended.error
    rows = Path("out/submission.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert rows
    assert {row.split(",")[0] for row in rows} == {scan.stem}


def test_predict_where_no_scan_can_be_read_writes_nothing(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one.mha", "two.mha"):
        write_image(tmp_path / "flat" / name, np.zeros((8, 8), np.int16))
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={tmp_path / 'flat'}", "output=out")
    assert ended.code == 2
    assert "2 of 2 scans failed" in ended.error.splitlines()[-1]
    assert list(Path.cwd().iterdir()) == []


def test_predict_goes_on_past_a_scan_that_trips_something_unforeseen(
    run: Runner, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(network: object, entry: Entry, settings: object) -> Candidates:
        if entry.scan_id == "one":
            raise RuntimeError("out of\nmemory")
        return Candidates.empty()

    monkeypatch.setattr("nodule_lightning.search.predict.detect", search)
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out")
    assert ended.code == 1
    assert "failed: one: RuntimeError: out of memory" in ended.out
    assert Path("out/submission.csv").exists()
    assert read_scan_ids(Path("out/scans.csv")) == ["three", "two"]


@pytest.mark.parametrize("missing", ["submission", "annotations", "excluded", "scans"])
def test_evaluate_with_a_missing_file(run: Runner, tmp_path: Path, missing: str) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    nodules = write(tmp_path / "nodules.csv", HEADER + "diameter_mm\none,1,2,3,9\n")
    given = {"submission": marks, "annotations": nodules, "excluded": nodules, "scans": marks}
    given[missing] = Path("no such, [1].csv")
    line = run(evaluate.main, *(f"{key}={value}" for key, value in given.items()), "output=out").line()
    assert "no such, [1].csv" in line
    assert list(Path.cwd().iterdir()) == []


def test_evaluate_with_a_missing_column(run: Runner, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "score\none,1,2,3,0.5\n")
    nodules = write(tmp_path / "nodules.csv", HEADER + "diameter_mm\none,1,2,3,9\n")
    line = run(evaluate.main, f"submission={marks}", f"annotations={nodules}", "output=out").line()
    assert "submission.csv" in line
    assert "probability" in line
    assert not Path("out").exists()


def test_prepare_of_a_missing_or_empty_folder(run: Runner, tmp_path: Path) -> None:
    for layout in ("luna16", "tianchi", "folder"):
        for root in (tmp_path / "no such", tmp_path):
            line = run(prepare.main, f"data={layout}", f"data.root={root}", "cache=cache").line()
            assert str(root) in line
    assert list(Path.cwd().iterdir()) == []


def test_prepare_with_a_missing_column(run: Runner, scan: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "marks.csv", "seriesuid,coordX,coordY,diameter_mm\none,1,2,9\n")
    arguments = ["data=folder", f"data.root={scan.parent}", f"data.annotations={marks}", "cache=cache"]
    line = run(prepare.main, *arguments).line()
    assert "marks.csv" in line
    assert "coordZ" in line
    assert list(Path.cwd().iterdir()) == []


def test_prepare_of_a_volume_of_the_wrong_dimension_goes_on_with_the_others(run: Runner, scan: Path) -> None:
    write_image(scan.parent / "flat.mha", np.zeros((8, 8), np.int16))
    arguments = ["data=folder", f"data.root={scan.parent}", "cache=cache", "preparation.spacing_mm=4", "workers=1"]
    ended = run(prepare.main, *arguments)
    assert ended.code == 1
    assert "1 scans prepared" in ended.out
    assert "flat.mha" in ended.error.splitlines()[-1]
    assert [path.name for path in Path("cache/scans").glob("[!.]*")] == ["肺 'x'"]


@pytest.mark.parametrize("missing", ["submission", "cache", "scans"])
def test_report_with_a_missing_file(run: Runner, cache: Path, tmp_path: Path, every_scan: Path, missing: str) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    given = {"submission": marks, "cache": cache, "scans": every_scan}
    given[missing] = Path("no such, [1]")
    line = run(report.main, *(f"{key}={value}" for key, value in given.items()), "output=out").line()
    assert "no such, [1]" in line
    assert list(Path.cwd().iterdir()) == []


def test_report_of_other_scans(run: Runner, cache: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\nelsewhere,1,2,3,0.5\n")
    line = run(report.main, f"submission={marks}", f"cache={cache}", "output=out").line()
    assert "others such as elsewhere" in line
    assert not Path("out").exists()


def test_report_from_a_folder_without_the_scan(run: Runner, cache: Path, scan: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    line = run(report.main, f"submission={marks}", f"cache={cache}", f"root={scan.parent}", "output=out").line()
    assert str(scan.parent) in line
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("main", "arguments", "named"),
    [
        (phantom.main, ["output=out", "scans=abc"], "scans must be a whole number of at least 0, not 'abc'"),
        (phantom.main, ["output=out", "seed=0.5"], "seed must be a whole number"),
        (phantom.main, ["output=out", "workers=0"], "workers must be a whole number of at least 1, not 0"),
        (phantom.main, ["output=out", "phantom.pixel_mm=1"], "pixel_mm must be collections.abc.Sequence[float], not 1"),
        (phantom.main, ["output=out", "phantom.pixel_mm=[1,a]"], "PhantomSettings"),
        (evaluate.main, ["submission=a", "annotations=b", "output=out", "bootstraps=abc"], "bootstraps must be"),
        (evaluate.main, ["submission=a", "annotations=b", "output=out", "seed=abc"], "seed must be"),
        (
            evaluate.main,
            ["submission=a", "annotations=b", "output=out", "threshold=high"],
            "threshold must be a number",
        ),
        (evaluate.main, ["submission=a", "annotations=b", "output=out", "protocol=mine"], "must be luna16 or tianchi"),
        (evaluate.main, ["submission=[]", "annotations=b", "output=out"], "submission is empty; give a path"),
        (evaluate.main, ["submission=[a,]", "annotations=b", "output=out"], "submission is empty; give a path"),
        (evaluate.main, ["submission=[a,b]", "annotations=b", "output=out"], "a does not exist"),
        (leaderboard.main, ["submissions=a", "annotations=b", "output=out", "bootstraps=-1"], "bootstraps must be"),
        (leaderboard.main, ["submissions=[]", "annotations=b", "output=out"], "submissions is empty; give a path"),
        (leaderboard.main, ["runs=gone", "annotations=b", "output=out"], "gone is no folder"),
        (report.main, ["submission=a", "cache=b", "output=out", "best=few"], "best must be"),
        (predict.main, ["checkpoint=a", "input=b", "output=out", "show=true"], "show must be"),
        (predict.main, [*SEARCH, "memory_gb=0"], "memory_gb must be positive, or null for what is free, not 0"),
        (predict.main, [*SEARCH, "memory_gb=all"], "memory_gb must be a number or null, not 'all'"),
        (predict.main, [*SEARCH, "mirror=left"], "mirror must be true, false or a list of axes such as [x,z], not"),
        (predict.main, [*SEARCH, "mirror=[x,w]"], "mirror must be true, false or a list of axes such as [x,z], not"),
        (predict.main, [*SEARCH, "mirror=[]"], "mirror must be true, false or a list of axes such as [x,z], not"),
        (predict.main, [*SEARCH, "precision=half"], "precision must be auto, fp32, bf16, not 'half'"),
        (predict.main, [*SEARCH, "compile=yes please"], "compile must be true or false, not 'yes please'"),
        (predict.main, [*SEARCH, "workers=-1"], "workers must be a whole number of at least 0, not -1"),
        (predict.main, [*SEARCH, "devices=0"], "devices must be a whole number of at least 1, not 0"),
        (predict.main, [*SEARCH, "device=cpu:0", "devices=2"], "device=cpu:0 names one device; with devices=2 it"),
        (predict.main, ["checkpoint=null", "input=b", "output=out"], "checkpoint is null; give a path"),
        (evaluate.main, ["submission=a", "annotations=b", "output=null"], "output is null; give a path"),
        (prepare.main, ["data=null", "cache=c"], "a group cannot be null"),
        (prepare.main, ["data.root=.", f"cache={__file__}"], "is a file; choose another"),
        (phantom.main, ["output=out", "trouble=null"], "trouble must be numbers of scans by kind, not null"),
        (prepare.main, ["data.root=.", "data.layout=null", "cache=c"], "a group of values is needed"),
    ],
    ids=lambda part: part[-1] if isinstance(part, list) else "",
)
def test_a_value_of_the_wrong_type(run: Runner, main: Callable[[], None], arguments: list[str], named: str) -> None:
    assert named in run(main, *arguments).line()
    assert list(Path.cwd().iterdir()) == []


def test_prepare_with_workers_that_are_no_number(run: Runner, scan: Path) -> None:
    line = run(prepare.main, "data=folder", f"data.root={scan.parent}", "cache=cache", "workers=all").line()
    assert "workers must be a whole number of at least 1, not 'all'" in line
    assert list(Path.cwd().iterdir()) == []
