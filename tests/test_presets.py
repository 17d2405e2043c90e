"""Every experiment starts on a tiny cache; the one in stages goes through them all, and outlives a kill."""

import signal
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from tests import warm
from tests.balls import write_balls

pytestmark = pytest.mark.slow

EXPERIMENTS = (Path(__file__).parent.parent / "conf" / "experiment").glob("*.yaml")
# The second stage needs candidates, and starts in test_second_stage_end_to_end.py.
PRESETS = sorted(path.stem for path in EXPERIMENTS if path.stem != "reducer")
TINY = (
    "trainer=debug",
    "trainer.check_val_every_n_epoch=1",
    "logger=csv",
    "data.test_subsets=[0]",
    "data.validation_fraction=0.4",
    "datamodule.patch_voxels=32",
    "datamodule.batch_size=2",
    "datamodule.workers=0",
)
STAGES = (
    "experiment=tianchi",
    "model=res_unet_narrow",
    "model.backbone.dropout=0.5",
    *(f"curriculum.stages.{stage}.epochs={epochs}" for stage, epochs in (("plain", 2), ("mined", 2), ("weighted", 2))),
    "trainer.max_epochs=null",
    "rehearsal=false",
    "callbacks.scan_mining.every_n_epochs=1",
    "callbacks.scan_mining.min_probability=0.001",
    "+inference.min_probability=0.001",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


def begin(cache: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run("train", f"cache={cache}", f"paths.run={folder}", *TINY, *arguments)


def train(cache: Path, folder: Path, *arguments: str) -> str:
    ended = begin(cache, folder, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def checkpoint(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return values


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_starts(cache: Path, tmp_path: Path, preset: str) -> None:
    said = train(cache, tmp_path / "run", f"experiment={preset}", "trainer.max_epochs=1")
    assert "validation FROC: " in said
    assert checkpoint(tmp_path / "run")["global_step"] == 2


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    said = train(cache, folder, *STAGES)
    # Before the second stage, and after each of its epochs and of the third's but the last.
    assert said.count("false positives in ") == 4
    return folder


def test_one_command_goes_through_the_stages(whole: Path) -> None:
    there = checkpoint(whole)
    assert there["epoch"] == 5
    assert len(there["callbacks"]["ScanMining"]["bank"]["score"])
    assert len(there["callbacks"]["PatchMining"]["draws"])
    assert "current_model_state" in there


def test_a_run_that_is_killed_anywhere_and_resumed_ends_with_the_same_weights(
    cache: Path, whole: Path, tmp_path: Path
) -> None:
    folder, random = tmp_path / "run", Random(7)
    # None of them lets more epochs pass than are left.
    resumed: tuple[str, ...] = ()
    for where, latest in (("step", 4), ("writing", 3), ("mining", 4), ("validation", 2), ("step", 2)):
        moment = (f"+callbacks.stopped.where={where}", f"+callbacks.stopped.number={random.randint(1, latest)}")
        stopped = "+callbacks.stopped._target_=tests.operations.stopped_run.StoppedRun"
        ended = begin(cache, folder, *STAGES, *resumed, stopped, *moment)
        assert ended.returncode in {-signal.SIGKILL, -signal.SIGXFSZ}, (moment, ended.stderr)
        resumed = ("resume=true",)
        for path in (folder / "checkpoints").glob("*.ckpt"):
            torch.load(path, weights_only=True)
    train(cache, folder, *STAGES, "resume=true")
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (whole, folder))
        assert one["epoch"] == other["epoch"]
        for weights in ("state_dict", "current_model_state"):
            for key, value in one[weights].items():
                assert np.array_equal(value.numpy(), other[weights][key].numpy()), (name, key)
    bank = [checkpoint(run)["callbacks"]["ScanMining"]["bank"]["place_zyx"] for run in (whole, folder)]
    assert torch.equal(*bank)
