"""What wandb is told of a run, read back from the offline run by wandb's own reader."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional import RATES
from nodule_lightning.training.wandb_logger import ResumableWandbLogger
from tests import warm
from tests.balls import write_balls
from tests.ranks import ENVIRONMENT

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
TRAIN = (
    "experiment=demo",
    "cache=the [cache]",
    "paths.run=run (1)",
    "data.test_subsets=[]",
    "data.validation_fraction=0.42",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "sampler.patches_per_epoch=8",
    "datamodule.batch_size=4",
    "datamodule.patch_voxels=32",
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A run of two epochs.

    Attributes:
        folder: of the run.
        home: what the user's home became.
        said: to the terminal.
        offline: folder of wandb's run.
        records: of wandb's log, in order.
    """

    folder: Path
    home: Path
    said: str
    offline: Path
    records: list[dict[str, Any]]

    def history(self) -> list[dict[str, Any]]:
        return rows_of(self.records)

    def validations(self) -> list[dict[str, Any]]:
        return [row for row in self.history() if "val/froc" in row]

    def table(self, row: dict[str, Any], name: str) -> tuple[list[str], list[list[Any]]]:
        content = json.loads((self.offline / "files" / row[f"{name}.path"]).read_text(encoding="utf-8"))
        assert len(content["data"]) == row[f"{name}.nrows"]
        return content["columns"], content["data"]


def read_log(path: Path) -> list[dict[str, Any]]:
    read = subprocess.run([BIN / "wandb", "leet", "inspect", "--json", path], capture_output=True, check=True)
    return [json.loads(line) for line in read.stdout.splitlines()]


def rows_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def clean_environment(home: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in ENVIRONMENT.items() if not name.startswith(("WANDB_", "XDG_"))},
        "WANDB_MODE": "offline",
        "HOME": str(home),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    write_balls(folder / "the [cache]", 12)
    home = folder / "home"
    home.mkdir()
    ended = warm.run("train", *TRAIN, folder=folder, environment=clean_environment(home))
    assert ended.returncode == 0, ended.stderr
    [log] = (folder / "run (1)" / "wandb").glob("offline-run-*/*.wandb")
    return Trained(folder / "run (1)", home, ended.stdout + ended.stderr, log.parent, read_log(log))


def test_each_validation_is_one_row_with_score_curve_and_pictures(trained: Trained) -> None:
    rows = trained.validations()
    assert [row["epoch"] for row in rows] == [0, 1]
    # The same numbers as in the table of the csv logger.
    [path] = (trained.folder / "metrics").rglob("metrics.csv")
    with path.open(encoding="utf-8") as file:
        told = [row for row in csv.DictReader(file) if row["val/froc"]]
    for row, line in zip(rows, told, strict=True):
        scores = {name: float(line[name]) for name in line if name.startswith("val/")}
        assert {name: row[name] for name in scores} == scores
        assert {f"val/sensitivity@{rate:g}" for rate in RATES} < set(scores)
        assert any(name.endswith("mm") for name in scores)


def test_the_curve_goes_through_the_seven_points(trained: Trained) -> None:
    for row in trained.validations():
        columns, points = trained.table(row, "val/curve_table")
        assert columns == ["false positives per scan", "sensitivity"]
        curve = dict(points)
        assert [curve[rate] for rate in RATES] == pytest.approx(
            [row[f"val/sensitivity@{rate:g}"] for rate in RATES], abs=1e-7
        )
        assert min(curve) == 0.0
        assert max(curve) == 8.0
    # The panel that draws it.
    panels = [record["config"]["update"] for record in trained.records if record["type"] == "config"]
    assert any("val/curve" in json.dumps(panel) and "wandb/line/v0" in json.dumps(panel) for panel in panels)


def test_the_pictures_stay_with_the_run(trained: Trained) -> None:
    pictures = 0
    for row in trained.validations():
        columns, mistakes = trained.table(row, "val/mistakes")
        assert columns[0] == "what"
        kinds = [mistake[0] for mistake in mistakes]
        assert set(kinds) <= {"missed nodule", "false positive"}
        assert kinds.count("false positive") == 8
        assert all(mistake[3].startswith("scan") for mistake in mistakes)
        pictures += len(mistakes)
    artifacts = [record["artifact"] for record in trained.records if record["type"] == "artifact"]
    files = [file for artifact in artifacts for file in artifact["manifest"]["contents"]]
    drawn = [Path(file["local_path"]) for file in files if file["path"].endswith(".jpg")]
    assert len(drawn) == pictures
    for path in drawn:
        assert path.is_relative_to(trained.offline)
        assert path.read_bytes().startswith(b"\xff\xd8\xff")
    # Nothing of the scans is left in the user's home.
    assert not [path for path in trained.home.rglob("*") if "artifacts" in path.parts and path.is_file()]


def test_the_settings_are_told_once(trained: Trained) -> None:
    updates = [record["config"]["update"] for record in trained.records if record["type"] == "config"]
    told = [update for update in updates if "seed" in update]
    assert len(told) == 1
    assert told[0]["choices"]["experiment"] == "demo"
    assert told[0]["trainer"]["max_epochs"] == 2
    assert told[0]["optim"]["lr"] == 0.004
    assert told[0]["scans"] == {"train": 7, "validation": 5, "test": 0}
    assert "the [cache]" not in json.dumps(trained.records)


def test_the_loss_is_there_and_finite(trained: Trained) -> None:
    losses = [row["loss/total"] for row in trained.history() if "loss/total" in row]
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)


def test_wandb_says_nothing_on_the_terminal(trained: Trained) -> None:
    assert "wandb:" not in trained.said
    assert "anonymous" not in trained.said
    assert os.fspath(trained.home) not in trained.said


def test_a_run_that_is_killed_and_resumed_keeps_its_id_and_the_numbers_of_its_rows(trained: Trained) -> None:
    folder = trained.folder.parent
    given = [text.replace("run (1)", "killed") for text in TRAIN]
    # In the fourth step; the checkpoint is of the second.
    stopped = ("+callbacks.stopped._target_=tests.operations.stopped_run.StoppedRun", "+callbacks.stopped.where=step")
    for arguments, code in ((*stopped, "+callbacks.stopped.number=4"), -signal.SIGKILL), (("resume=true",), 0):
        ended = warm.run("train", *given, *arguments, folder=folder, environment=clean_environment(trained.home))
        assert ended.returncode == code, ended.stderr
    logs = sorted((folder / "killed" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(logs) == 2
    assert len({path.parent.name.rpartition("-")[2] for path in logs}) == 1
    before, after = (rows_of(read_log(path)) for path in logs)
    # Rows that stand in both logs have one number, and no number is left out.
    assert [row["_step"] for row in before] == [0, 1, 2]
    assert [row["_step"] for row in after] == [2, 3]
    timeless = [[{name: row[name] for name in row if measured(name)} for row in rows] for rows in (before, after)]
    assert timeless[0][:2] + timeless[1] == [
        {name: row[name] for name in row if measured(name)} for row in trained.history()
    ]
    assert timeless[0][2] == timeless[1][0]


def test_each_job_of_a_sweep_has_a_run_of_its_own(trained: Trained) -> None:
    folder = trained.folder.parent
    once = [text for text in TRAIN if not text.startswith("paths.run")]
    given = ("trainer.max_epochs=1", "rehearsal=false", "paths.sweep=sweep", "seed=0,1", "logger=wandb")
    ended = warm.run("train", "-m", *once, *given, folder=folder, environment=clean_environment(trained.home))
    assert ended.returncode == 0, ended.stderr
    for job in ("0", "1"):
        [log] = (folder / "sweep" / job / "wandb").glob("offline-run-*/*.wandb")
        assert [row["_step"] for row in rows_of(read_log(log))] == [0, 1]


def measured(name: str) -> bool:
    return name.startswith(("loss/", "val/froc", "val/sensitivity")) or name in {"epoch", "_step"}


def test_online_without_a_key_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError) as error:
        ResumableWandbLogger(save_dir=tmp_path, offline=False)
    assert error.value.key == "argument-missing"
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
