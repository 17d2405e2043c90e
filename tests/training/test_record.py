"""The records that a training and a search leave in their folders, and what the leaderboard makes of them."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from nodule_lightning.cache.entries import update_labels
from nodule_lightning.cli import leaderboard, predict, train
from nodule_lightning.structures import Labels
from nodule_lightning.training.callbacks.validation_report import ValidationReport
from nodule_lightning.training.record import best_validation
from tests.commands import Runner, write_cache

# Where SLURM is installed, Lightning says that it could be used.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The `srun` command is available")]

TRAIN = (
    "data.test_subsets=[0]", "data.validation_fraction=0.5", "model=res_unet_narrow", "+model.anchors.spacing_mm=4.0",
    "trainer=debug", "sampler.patches_per_epoch=4", "datamodule.batch_size=2", "datamodule.patch_voxels=32",
    "datamodule.workers=0", "logger=csv", "callbacks.training_data.patches=0", "callbacks.validation_report.most=0",
    "++trainer.enable_progress_bar=false", "callbacks.progress=null", "rehearsal=false",
)  # fmt: skip


def read(path: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return record


def test_a_training_its_resumption_and_a_search_are_recorded(run: Runner, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache of Doe^Jane", ["one", "three", "two"])
    command = (f"cache={cache}", *TRAIN, "paths.run=run")
    ended = run(train.main, *command)
    assert ended.code == 0, ended.error
    record = read("run/run.json")
    assert "Doe" not in Path("run/run.json").read_text(encoding="utf-8")
    assert record["data"]["scans"] == 3
    assert record["candidates"] is None
    metrics = read("run/validation/best/metrics.json")
    assert record["validation"]["froc"] == pytest.approx(metrics["mean"], abs=1e-6)
    assert record["validation"]["interval_95_percent"] == metrics["interval_95_percent"]
    assert f"validation FROC: {record['validation']['froc']:.4f}" in ended.out
    assert len(metrics["interval_95_percent"]) == 2
    [start] = record["starts"]
    assert (start["status"], start["processes"], start["device"]) == ("finished", 1, "cpu")
    assert start["seconds"] > 0
    assert start["started"] <= start["ended"]
    assert {"versions", "code", "machine", "precision"} <= set(start)
    assert start["from_step"] == 0
    assert start["to_step"] > 0

    resumed = run(train.main, *command, "trainer.max_epochs=2", "resume=true")
    assert resumed.code == 0, resumed.error
    assert f"note: {cache} has changed" not in resumed.out
    starts = read("run/run.json")["starts"]
    assert [start["status"] for start in starts] == ["finished", "finished"]
    assert starts[1]["from_step"] == starts[0]["to_step"]
    assert starts[1]["to_step"] == 2 * starts[0]["to_step"]
    update_labels(cache, "one", Labels("0"))
    changed = run(train.main, *command, "trainer.max_epochs=3", "resume=true")
    assert f"note: {cache} has changed" in changed.out

    search = (f"input={cache}", "checkpoint=run/checkpoints/best.ckpt")
    assert run(predict.main, *search, "output=found/a", "mirror=[x]", "precision=fp32", "memory_gb=4").code == 0
    told = read("found/a/prediction.json")
    assert told["checkpoint"]["sha256"] == sha256(Path("run/checkpoints/best.ckpt").read_bytes()).hexdigest()
    assert (told["scans"], told["failed"], told["device"]) == (3, 0, "cpu")
    options = ("precision", "mirror", "compiled", "memory_gb")
    assert [told[name] for name in options] == ["fp32", ["x"], False, 4]
    assert told["training"] == read("run/run.json")["validation"]
    assert "Doe" not in Path("found/a/prediction.json").read_text(encoding="utf-8")

    # A run without a record, and one with a damaged one, stand in the ranking all the same.
    for name in ("b", "c"):
        run(predict.main, *search, f"output=found/{name}")
    Path("found/b/prediction.json").unlink()
    Path("found/c/prediction.json").write_text("torn")
    Path("nodules.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\none,1,2,3,9\n")
    rank = ("annotations=nodules.csv", "protocol=tianchi", "output=board", "bootstraps=0")
    ranked = run(leaderboard.main, "runs=found", *rank)
    assert ranked.code == 0, ranked.error
    made = ranked.out[ranked.out.index("made by") :].splitlines()
    assert "ResUNet" in next(line for line in made if "│ a " in line)
    assert "ResUNet" not in next(line for line in made if "│ b " in line)
    assert "ResUNet" not in next(line for line in made if "│ c " in line)
    assert "made by" not in run(leaderboard.main, "submissions=[found/a/submission.csv]", *rank).out


def kept(place: str) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in Path("run", place).glob("*.yaml")}


def test_each_start_keeps_its_configuration_and_a_refused_one_none(run: Runner, cache: Path) -> None:
    command = (f"cache={cache}", *TRAIN, "paths.run=run")
    assert run(train.main, *command).code == 0
    [start] = read("run/run.json")["starts"]
    first = kept(start["configuration"])
    assert first.keys() == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "- paths.run='run'\n" in first["overrides.yaml"]
    assert "batch_size: 2\n" in first["config.yaml"]
    assert "trainer: debug\n" in first["hydra.yaml"]

    other = "datamodule.batch_size=4"
    assert run(train.main, *command, other).key == "run-exists"
    assert run(train.main, *command, other, "optim.lr=0.5", "resume=true").key == "run-changed"
    assert [path.name for path in Path("run/.hydra").iterdir() if path.is_dir()] == []
    assert kept(".hydra") == first

    resumed = run(train.main, *command, other, "resume=true")
    assert resumed.code == 0, resumed.error
    [note] = [line for line in resumed.out.splitlines() if line.startswith("note: ")]
    assert note.endswith(": datamodule.batch_size 2 and 4")
    second = read("run/run.json")["starts"][1]["configuration"]
    assert second != start["configuration"]
    assert "batch_size: 4\n" in kept(second)["config.yaml"]
    assert kept(".hydra") == first
    assert "note: " not in run(train.main, *command, other, "resume=true").out
    # What cannot be read is not compared, and stays as it is.
    third = Path("run", read("run/run.json")["starts"][2]["configuration"], "config.yaml")
    third.write_text("{", encoding="utf-8")
    assert run(train.main, *command, "resume=true").code == 0
    assert third.read_text(encoding="utf-8") == "{"


def test_what_is_stopped_before_its_checkpoint_is_read_keeps_the_score(
    run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (f"cache={cache}", *TRAIN, "paths.run=run")
    assert run(train.main, *command).code == 0
    record = read("run/run.json")
    assert record["validation"] is not None

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ValidationReport, "setup", stop, raising=False)
    ended = run(train.main, *command, "trainer.max_epochs=2", "resume=true")
    assert ended.code == 130
    again = read("run/run.json")
    assert again["validation"] == record["validation"]
    assert again["starts"][1]["status"] == "stopped"
    assert again["starts"][1]["to_step"] == again["starts"][1]["from_step"] == again["starts"][0]["to_step"]


@pytest.mark.parametrize(("mean", "interval"), [(0.5, [0.4, 0.6]), (0.75, None), (None, None)])
def test_the_interval_is_of_the_epoch_that_the_score_is_of(
    tmp_path: Path, mean: float | None, interval: list[float] | None
) -> None:
    (tmp_path / "best").mkdir()
    told = {"mean": mean, "interval_95_percent": [0.4, 0.6], "counts": {"scans": 3, "nodules": 4}}
    (tmp_path / "best" / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    best = ModelCheckpoint(tmp_path, monitor="val/froc")
    best.best_model_score = torch.tensor(0.5)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[best, ValidationReport(tmp_path)]
    )
    scans = None if interval is None else 3
    validation = best_validation(trainer)
    assert validation is not None
    assert (validation["froc"], validation["interval_95_percent"], validation["scans"]) == (0.5, interval, scans)


def test_a_training_that_breaks_says_so(run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenError(Exception):
        pass

    errors: list[BaseException] = [BrokenError(), KeyboardInterrupt()]

    def break_off(self: ValidationReport, *_: object) -> None:
        start = read("run/run.json")["starts"][-1]
        assert (start["status"], start["ended"], start["to_step"]) == ("running", None, None)
        raise errors.pop(0)

    monkeypatch.setattr(ValidationReport, "on_validation_epoch_end", break_off)
    with pytest.raises(BrokenError):
        run(train.main, f"cache={cache}", *TRAIN, "paths.run=run")
    assert [start["status"] for start in read("run/run.json")["starts"]] == ["failed"]
    assert run(train.main, f"cache={cache}", *TRAIN, "paths.run=run", "resume=true").code == 130
    assert [start["status"] for start in read("run/run.json")["starts"]] == ["failed", "stopped"]
    assert read("run/run.json")["validation"] is None
