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
    ended = run(predict.main, *(f"{key}={value}" for key, value in given.items()), "output=out")
    assert ended.key == "file-missing"
    assert "no such, [1]" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_predict_with_an_unknown_scan_id(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    wanted = write(tmp_path / "wanted.csv", "seriesuid\none\nnobody\n")
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={wanted}", "output=out")
    assert ended.key == "scan-unknown"
    assert "nobody" in ended.line()
    assert str(wanted) in ended.line()
    assert not Path("out").exists()


def test_predict_with_a_list_without_its_column(run: Runner, checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    wanted = write(tmp_path / "wanted.csv", "patient,subset\none,1\n")
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", f"scans={wanted}", "output=out")
    # Its header is taken for an id.
    assert ended.key == "scan-unknown"
    assert "wanted.csv" in ended.line()


def test_predict_on_a_volume_of_the_wrong_dimension(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    flat = write_image(tmp_path / "flat.mha", np.zeros((8, 8), np.int16))
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={flat}", "output=out")
    assert ended.key == "scan-invalid"
    assert "flat.mha" in ended.line()
    assert not Path("out").exists()


def test_an_empty_path_is_not_this_folder(run: Runner, checkpoint: Path, cache: Path) -> None:
    for name, given in (("input", ("input=", "output=out")), ("output", (f"input={cache}", "output="))):
        ended = run(predict.main, f"checkpoint={checkpoint}", *given)
        assert ended.key == "argument-invalid"
        assert name in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_predict_on_an_empty_folder(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={empty}", "output=out")
    assert ended.key == "file-missing"
    assert str(empty) in ended.line()
    assert not Path("out").exists()


def test_predict_on_a_cache_that_was_made_otherwise(run: Runner, cache: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.ckpt")
    values = torch.load(other, weights_only=True)
    values["nodule_lightning"]["preparation"]["margin_mm"] = 3.0
    torch.save(values, other)
    ended = run(predict.main, f"checkpoint={other}", f"input={cache}", "output=out")
    assert ended.key == "cache-settings-differ"
    for named in ("margin_mm", "8.0", "3.0"):
        assert named in ended.line()


def test_predict_on_a_device_that_is_not_there(run: Runner, checkpoint: Path, cache: Path) -> None:
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out", "device=quantum")
    assert ended.key == "argument-invalid"
    assert "quantum" in ended.line()


@pytest.mark.parametrize("output", ["taken", "taken/deep"])
def test_predict_into_a_file_is_refused_before_the_work(run: Runner, output: str) -> None:
    Path("taken").touch()
    # The checkpoint is missing too, but the output is looked at first.
    ended = run(predict.main, "checkpoint=gone", "input=gone", f"output={output}")
    assert ended.key == "output-refused"
    assert output in ended.line()


def test_predict_into_a_closed_folder_is_refused_before_the_work(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("closed").mkdir()
    # Nothing is closed to root, as whom these tests may run.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    ended = run(predict.main, "checkpoint=gone", "input=gone", "output=closed/out")
    assert ended.key == "output-refused"
    assert "closed/out" in ended.line()


def test_predict_on_a_folder_goes_on_past_a_scan_that_cannot_be_read(run: Runner, checkpoint: Path, scan: Path) -> None:
    write_image(scan.parent / "a flat one.mha", np.zeros((8, 8), np.int16))
    (scan.parent / "z cut.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={scan.parent}", "output=out")
    assert ended.code == 1
    assert [line.split(":")[1] for line in ended.out.splitlines()[-2:]] == [" a flat one", " z cut"]
    assert "2 of 3" in ended.error.splitlines()[-1]
    assert "Traceback" not in ended.error
    rows = Path("out/submission.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert rows
    assert {row.split(",")[0] for row in rows} == {scan.stem}


def test_predict_where_no_scan_can_be_read_writes_nothing(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one.mha", "two.mha"):
        write_image(tmp_path / "flat" / name, np.zeros((8, 8), np.int16))
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={tmp_path / 'flat'}", "output=out")
    assert ended.code == 2
    assert ended.error.splitlines()[-1].endswith("[scan-invalid]")
    assert "2 of 2" in ended.error.splitlines()[-1]
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
    assert "one: RuntimeError: out of memory" in ended.out
    assert Path("out/submission.csv").exists()
    assert read_scan_ids(Path("out/scans.csv")) == ["three", "two"]


@pytest.mark.parametrize("missing", ["submission", "annotations", "excluded", "scans"])
def test_evaluate_with_a_missing_file(run: Runner, tmp_path: Path, missing: str) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    nodules = write(tmp_path / "nodules.csv", HEADER + "diameter_mm\none,1,2,3,9\n")
    given = {"submission": marks, "annotations": nodules, "excluded": nodules, "scans": marks}
    given[missing] = Path("no such, [1].csv")
    ended = run(evaluate.main, *(f"{key}={value}" for key, value in given.items()), "output=out")
    assert ended.key == "file-missing"
    assert "no such, [1].csv" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_evaluate_with_a_missing_column(run: Runner, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "score\none,1,2,3,0.5\n")
    nodules = write(tmp_path / "nodules.csv", HEADER + "diameter_mm\none,1,2,3,9\n")
    ended = run(evaluate.main, f"submission={marks}", f"annotations={nodules}", "output=out")
    assert ended.key == "table-column-missing"
    assert "submission.csv" in ended.line()
    assert "probability" in ended.line()
    assert not Path("out").exists()


def test_prepare_of_a_missing_or_empty_folder(run: Runner, tmp_path: Path) -> None:
    for layout in ("luna16", "tianchi", "folder"):
        for root in (tmp_path / "no such", tmp_path):
            ended = run(prepare.main, f"data={layout}", f"data.root={root}", "cache=cache")
            assert ended.key == "file-missing"
            assert str(root) in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_prepare_with_a_missing_column(run: Runner, scan: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "marks.csv", "seriesuid,coordX,coordY,diameter_mm\none,1,2,9\n")
    arguments = ["data=folder", f"data.root={scan.parent}", f"data.annotations={marks}", "cache=cache"]
    ended = run(prepare.main, *arguments)
    assert ended.key == "table-column-missing"
    assert "marks.csv" in ended.line()
    assert "coordZ" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_prepare_of_a_volume_of_the_wrong_dimension_goes_on_with_the_others(run: Runner, scan: Path) -> None:
    write_image(scan.parent / "flat.mha", np.zeros((8, 8), np.int16))
    arguments = ["data=folder", f"data.root={scan.parent}", "cache=cache", "preparation.spacing_mm=4", "workers=1"]
    ended = run(prepare.main, *arguments)
    assert ended.code == 1
    assert "flat.mha" in ended.error.splitlines()[-1]
    assert [path.name for path in Path("cache/scans").glob("[!.]*")] == ["肺 'x'"]


@pytest.mark.parametrize(
    ("missing", "key"), [("submission", "file-missing"), ("cache", "cache-empty"), ("scans", "file-missing")]
)
def test_report_with_a_missing_file(
    run: Runner, cache: Path, tmp_path: Path, every_scan: Path, missing: str, key: str
) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    given = {"submission": marks, "cache": cache, "scans": every_scan}
    given[missing] = Path("no such, [1]")
    ended = run(report.main, *(f"{name}={value}" for name, value in given.items()), "output=out")
    assert ended.key == key
    assert "no such, [1]" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_report_of_other_scans(run: Runner, cache: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\nelsewhere,1,2,3,0.5\n")
    ended = run(report.main, f"submission={marks}", f"cache={cache}", "output=out")
    assert ended.key == "scan-unknown"
    assert "elsewhere" in ended.line()
    assert not Path("out").exists()


def test_report_from_a_folder_without_the_scan(run: Runner, cache: Path, scan: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    ended = run(report.main, f"submission={marks}", f"cache={cache}", f"root={scan.parent}", "output=out")
    assert ended.key == "scan-unknown"
    assert str(scan.parent) in ended.line()
    assert not Path("out").exists()


SCORE = ("submission=a", "annotations=b", "output=out")


@pytest.mark.parametrize(
    ("main", "arguments", "key", "named"),
    [
        (phantom.main, ["output=out", "scans=abc"], "argument-invalid", ("scans", "'abc'")),
        (phantom.main, ["output=out", "seed=0.5"], "argument-invalid", ("seed", "0.5")),
        (phantom.main, ["output=out", "workers=0"], "argument-invalid", ("workers", "0")),
        (phantom.main, ["output=out", "phantom.pixel_mm=1"], "argument-invalid", ("pixel_mm", "1")),
        (phantom.main, ["output=out", "phantom.pixel_mm=[1,a]"], "argument-invalid", ("PhantomSettings",)),
        (evaluate.main, [*SCORE, "bootstraps=abc"], "argument-invalid", ("bootstraps", "'abc'")),
        (evaluate.main, [*SCORE, "seed=abc"], "argument-invalid", ("seed", "'abc'")),
        (evaluate.main, [*SCORE, "threshold=high"], "argument-invalid", ("threshold", "'high'")),
        (evaluate.main, [*SCORE, "protocol=mine"], "argument-invalid", ("protocol", "'mine'")),
        (evaluate.main, ["submission=[]", *SCORE[1:]], "argument-invalid", ("submission",)),
        (evaluate.main, ["submission=[a,]", *SCORE[1:]], "argument-invalid", ("submission",)),
        (evaluate.main, ["submission=[gone.csv,b]", *SCORE[1:]], "file-missing", ("gone.csv",)),
        (leaderboard.main, ["submissions=a", *SCORE[1:], "bootstraps=-1"], "argument-invalid", ("bootstraps", "-1")),
        (leaderboard.main, ["submissions=[]", *SCORE[1:]], "argument-invalid", ("submissions",)),
        (leaderboard.main, ["runs=gone", *SCORE[1:]], "file-missing", ("gone",)),
        (report.main, ["submission=a", "cache=b", "output=out", "best=few"], "argument-invalid", ("best", "'few'")),
        (predict.main, [*SEARCH, "show=true"], "argument-invalid", ("show", "True")),
        (predict.main, [*SEARCH, "memory_gb=0"], "argument-invalid", ("memory_gb", "0")),
        (predict.main, [*SEARCH, "memory_gb=all"], "argument-invalid", ("memory_gb", "'all'")),
        (predict.main, [*SEARCH, "mirror=left"], "argument-invalid", ("mirror", "left")),
        (predict.main, [*SEARCH, "mirror=[x,w]"], "argument-invalid", ("mirror", "w")),
        (predict.main, [*SEARCH, "mirror=[]"], "argument-invalid", ("mirror", "[]")),
        (predict.main, [*SEARCH, "precision=half"], "argument-invalid", ("precision", "'half'")),
        (predict.main, [*SEARCH, "compile=yes please"], "argument-invalid", ("compile", "'yes please'")),
        (predict.main, [*SEARCH, "workers=-1"], "argument-invalid", ("workers", "-1")),
        (predict.main, [*SEARCH, "devices=0"], "argument-invalid", ("devices", "0")),
        (predict.main, [*SEARCH, "device=cpu:0", "devices=2"], "argument-invalid", ("device=cpu:0", "devices=2")),
        (predict.main, ["checkpoint=null", *SEARCH[1:]], "argument-missing", ("checkpoint",)),
        (evaluate.main, [*SCORE[:2], "output=null"], "argument-missing", ("output",)),
        (prepare.main, ["data=null", "cache=c"], "argument-invalid", ("null",)),
        (prepare.main, ["data.root=.", f"cache={__file__}"], "output-refused", (__file__,)),
        (phantom.main, ["output=out", "trouble=null"], "argument-invalid", ("trouble", "null")),
        (prepare.main, ["data.root=.", "data.layout=null", "cache=c"], "argument-invalid", ("None",)),
    ],
    ids=lambda part: part[-1] if isinstance(part, list) else "",
)
def test_a_value_of_the_wrong_type(
    run: Runner, main: Callable[[], None], arguments: list[str], key: str, named: tuple[str, ...]
) -> None:
    ended = run(main, *arguments)
    assert ended.key == key
    for value in named:
        assert value in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_prepare_with_workers_that_are_no_number(run: Runner, scan: Path) -> None:
    ended = run(prepare.main, "data=folder", f"data.root={scan.parent}", "cache=cache", "workers=all")
    assert ended.key == "argument-invalid"
    assert "workers" in ended.line()
    assert "'all'" in ended.line()
    assert list(Path.cwd().iterdir()) == []
