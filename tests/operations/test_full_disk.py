"""A disk that is full at any moment ends a training in one line, which names the command that goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import warm
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL
from tests.ranks import ENVIRONMENT

pytestmark = pytest.mark.slow

TWO_EPOCHS = (*SMALL, "trainer.accelerator=cpu", "trainer.max_epochs=2", "data.test_subsets=[2]")
FULL = "+callbacks.full._target_=tests.operations.full_disk.FullDisk"
PATH = f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my runs")
    write_balls(folder / "the [cache]", 9)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, torch.Tensor]:
    """Train without a full disk; give the weights."""
    assert train(folder, "paths.run=whole").returncode == 0
    return weights(folder / "whole")


def train(folder: Path, *arguments: str, is_full: bool = False) -> subprocess.CompletedProcess[str]:
    before = "tests.operations.full_disk:let_no_file_grow" if is_full else None
    given = ("cache=the [cache]", *TWO_EPOCHS, *arguments)
    return warm.run("train", *given, folder=folder, environment=ENVIRONMENT, before=before)


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def line(ended: subprocess.CompletedProcess[str]) -> str:
    """Give the one line of the error, or fail."""
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Logging error" not in ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.stderr.endswith(f"{line}\n")
    return line


@pytest.mark.parametrize(
    ("where", "number", "logger", "has_checkpoint"),
    [
        ("making", 1, "csv", False),
        ("step", 2, "csv", False),
        ("step", 6, "wandb", True),
        ("validation", 2, "csv", True),
        ("checkpoint", 3, "csv", True),
        ("end", 1, "wandb", True),
    ],
)
def test_it_goes_on_to_the_same_weights(
    folder: Path, whole: dict[str, torch.Tensor], where: str, number: int, logger: str, has_checkpoint: bool
) -> None:
    run = folder / f"{where} {number} {logger}"
    full = (FULL, f"+callbacks.full.where={where}", f"+callbacks.full.number={number}", f"logger={logger}")
    said = line(train(folder, f"paths.run={run.name}", *full, "rehearsal=false"))
    assert said.startswith(f"error: nothing more can be written to {run}: ")
    assert (str(run / "checkpoints" / "last.ckpt") in said) == has_checkpoint
    command = said.partition(" with ")[2].replace(f"where={where}", "where=nowhere")
    subprocess.run(command, shell=True, cwd=folder, env={**ENVIRONMENT, "PATH": PATH}, check=True, timeout=240)
    for name, value in weights(run).items():
        assert torch.equal(value, whole[name]), name


def test_before_a_sweep_has_begun(folder: Path) -> None:
    said = line(train(folder, "-m", "paths.sweep=early", is_full=True))
    place = folder / "early"
    assert said == (
        f"error: nothing more can be written to {place}: File too large; make room, and run the command again"
    )


def test_jobs_of_a_sweep(folder: Path) -> None:
    full = (FULL, "+callbacks.full.where=step", "rehearsal=false")
    ended = train(folder, "-m", "seed=0,1", "paths.sweep=my sweep", *full)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    # No note of them could be written.
    for number, said in enumerate(line for line in ended.stderr.splitlines() if line.startswith("error: ")):
        assert said.startswith(f"error: job {number} (")
        assert "Continue with nodule-train -m " in said
        assert said.endswith("resume=true")
