"""Every experiment starts on a tiny cache; the one in stages goes through them all, and outlives a kill."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.balls import write_balls
from tests.ranks import ENVIRONMENT

pytestmark = pytest.mark.slow

TRAIN = Path(sys.executable).with_name("nodule-train")
PRESETS = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "experiment").glob("*.yaml"))
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
    "callbacks.scan_mining.every_n_epochs=1",
    "callbacks.scan_mining.min_probability=0.001",
    "+inference.min_probability=0.001",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


def command(cache: Path, folder: Path, *arguments: str) -> list[str]:
    return [str(TRAIN), f"cache={cache}", f"paths.run={folder}", *TINY, *arguments]


def train(cache: Path, folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        command(cache, folder, *arguments),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=ENVIRONMENT,
        timeout=500,
    )
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


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_weights(
    cache: Path, whole: Path, tmp_path: Path, epoch: int
) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(cache, folder, *STAGES), env=ENVIRONMENT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 400
        while time.monotonic() < until and process.poll() is None:
            with suppress(Exception):
                if checkpoint(folder)["epoch"] >= epoch:
                    break
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert checkpoint(folder)["epoch"] < 5
    train(cache, folder, *STAGES, "resume=true")
    one, other = checkpoint(whole), checkpoint(folder)
    for name in ("state_dict", "current_model_state"):
        for key, value in one[name].items():
            assert np.array_equal(value.numpy(), other[name][key].numpy()), key
    bank = [values["callbacks"]["ScanMining"]["bank"]["place_zyx"] for values in (one, other)]
    assert torch.equal(*bank)
