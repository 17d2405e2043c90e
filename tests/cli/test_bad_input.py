"""Wrong input to each command: one clear line that names it, exit code 2, and nothing half-written."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.cli import evaluate, phantom, predict, prepare, report, train
from nodule_lightning.data.cache import Entry
from nodule_lightning.structures import Candidates
from tests.chest import draw_chest, write_image
from tests.cli.commands import TINY, Runner, recipe, write_checkpoint

HEADER = "seriesuid,coordX,coordY,coordZ,"


# With these the tiny cache could be trained on.
STARTS = ("data.test_subsets=[0]", "+model.anchors.spacing_mm=4.0")


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
    assert "is closed to you" in run(predict.main, "checkpoint=gone", "input=gone", "output=closed/out").line()


def test_predict_on_a_folder_goes_on_past_a_scan_that_cannot_be_read(run: Runner, checkpoint: Path, scan: Path) -> None:
    write_image(scan.parent / "a flat one.mha", np.zeros((8, 8), np.int16))
    (scan.parent / "z cut.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={scan.parent}", "output=out")
    assert ended.code == 2
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

    monkeypatch.setattr("nodule_lightning.predict.detect", search)
    ended = run(predict.main, f"checkpoint={checkpoint}", f"input={cache}", "output=out")
    assert ended.code == 2
    assert "failed: one: RuntimeError: out of memory" in ended.out
    assert Path("out/submission.csv").exists()


class Foreign:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("/tmp/must-not-exist"),)  # type: ignore[return-value]


def weights_of_another_model(path: Path) -> None:
    model = recipe()
    model["network"]["hidden"] += 1
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def a_constructor_that_was_another(path: Path) -> None:
    model = recipe()
    del model["network"]["backbone"]
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def another_kind_of_anchors(path: Path) -> None:
    model = recipe()
    model["network"]["anchors"] = {"diameters_mm": [5]}
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


def a_target_outside(path: Path) -> None:
    model = recipe()
    model["inference"] = {"_target_": "nodule_lightning.data.cache.os.system", "command": "true"}
    write_checkpoint(path, nodule_lightning={"version": "0", "model": model, "preparation": TINY.to_dict()})


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("hello"), "cannot be read"),
    "empty": (lambda path: path.touch(), "cannot be read"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"a": Foreign()})), "no checkpoint"),
    "foreign objects": (lambda path: torch.save({"a": Foreign()}, path), "not opened for safety"),
    "another program's": (lambda path: torch.save({"state_dict": {}}, path), "another program"),
    "no weights": (lambda path: write_checkpoint(path, state_dict={}), "another model"),
    "another model's": (weights_of_another_model, "another model"),
    "of a constructor that was another": (a_constructor_that_was_another, "of this version"),
    "of another kind of anchors": (another_kind_of_anchors, "another model"),
    "no recipe": (lambda path: torch.save({"nodule_lightning": {}, "state_dict": {}}, path), "another model"),
    "a target outside": (a_target_outside, "do not trust it"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_predict_with_a_wrong_checkpoint(run: Runner, cache: Path, tmp_path: Path, name: str) -> None:
    make, expected = CHECKPOINTS[name]
    path = tmp_path / "wrong (1).ckpt"
    make(path)
    line = run(predict.main, f"checkpoint={path}", f"input={cache}", "output=out").line()
    assert expected in line
    assert str(path) in line
    assert list(Path.cwd().iterdir()) == []
    assert not Path("/tmp/must-not-exist").exists()


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
    assert ended.code == 2
    assert "1 scans prepared" in ended.out
    assert "flat.mha" in ended.error.splitlines()[-1]
    assert [path.name for path in Path("cache/scans").iterdir()] == ["肺 'x'"]


@pytest.mark.parametrize("missing", ["submission", "cache", "scans"])
def test_report_with_a_missing_file(run: Runner, cache: Path, tmp_path: Path, every_scan: Path, missing: str) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    given = {"submission": marks, "cache": cache, "scans": every_scan}
    given[missing] = Path("no such, [1]")
    line = run(report.main, *(f"{key}={value}" for key, value in given.items()), "output=out").line()
    assert "no such, [1]" in line
    assert list(Path.cwd().iterdir()) == []


def test_report_from_a_folder_without_the_scan(run: Runner, cache: Path, scan: Path, tmp_path: Path) -> None:
    marks = write(tmp_path / "submission.csv", HEADER + "probability\none,1,2,3,0.5\n")
    line = run(report.main, f"submission={marks}", f"cache={cache}", f"root={scan.parent}", "output=out").line()
    assert str(scan.parent) in line
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data.test_subsets=[0,17]"], "17"),
        (["data.test_subsets=[0,1,2]"], "no scan is left to train on"),
        (["data.test_subsets=[0]", "resume=true"], "paths.run=DIR"),
        (["data.test_subsets=[0]"], "+model.anchors.spacing_mm=4.0"),
        ([*STARTS, "trainer.max_epochs=2"], "trainer.check_val_every_n_epoch=5"),
        ([*STARTS, "trainer.accelerator=quantum"], "quantum"),
        ([*STARTS, "trainer.accelerator=mps"], "the trainer cannot be made"),
        ([*STARTS, "seed=-1"], "seed must be a whole number from 0 to 4294967295, not -1"),
        ([*STARTS, "resume=maybe"], "resume must be true or false, not 'maybe'"),
        ([*STARTS, "optim.lr=fast"], "lr must be float | torch.Tensor, not 'fast'"),
        ([*STARTS, "datamodule.workers=many"], "workers must be int, not 'many'"),
        ([*STARTS, "model.backbone.blocks=3"], "blocks must be"),
    ],
)
def test_train_that_cannot_start_leaves_nothing(run: Runner, cache: Path, arguments: list[str], named: str) -> None:
    common = [f"cache={cache}", "model=res_unet_narrow", "data.validation_fraction=0.5"]
    assert named in run(train.main, *common, *arguments).line()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("main", "arguments", "named"),
    [
        (phantom.main, ["output=out", "scans=abc"], "scans must be a whole number of at least 1, not 'abc'"),
        (phantom.main, ["output=out", "seed=0.5"], "seed must be a whole number"),
        (phantom.main, ["output=out", "workers=0"], "workers must be a whole number of at least 1, not 0"),
        (phantom.main, ["output=out", "phantom.pixel_mm=1"], "pixel_mm must be tuple[float, float], not 1"),
        (phantom.main, ["output=out", "phantom.pixel_mm=[1,a]"], "PhantomSettings"),
        (evaluate.main, ["submission=a", "annotations=b", "output=out", "bootstraps=abc"], "bootstraps must be"),
        (evaluate.main, ["submission=a", "annotations=b", "output=out", "seed=abc"], "seed must be"),
        (report.main, ["submission=a", "cache=b", "output=out", "best=few"], "best must be"),
        (predict.main, ["checkpoint=a", "input=b", "output=out", "show=true"], "show must be"),
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


def test_train_that_resumes_another_model(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"))
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    line = run(train.main, *arguments, "model=res_unet").line()
    assert "last.ckpt is a checkpoint of another model" in line
    assert "backbone.channels [" in line


def test_train_that_resumes_a_checkpoint_without_its_preparation(run: Runner, cache: Path) -> None:
    write_checkpoint(Path("run/checkpoints/last.ckpt"), nodule_lightning={"version": "0", "model": recipe()})
    arguments = [f"cache={cache}", *STARTS, "data.validation_fraction=0.5", "paths.run=run", "resume=true"]
    assert "another model or version" in run(train.main, *arguments, "model=res_unet_narrow").line()
