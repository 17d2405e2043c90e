"""Ctrl-C and SIGTERM end a training with the command that goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from nodule_lightning.evaluation.record import read_record
from tests import warm
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL, TRAIN, TWO_PROCESSES
from tests.ranks import ENVIRONMENT

TWO_EPOCHS = (*SMALL, "trainer.accelerator=cpu", "trainer.max_epochs=2", "data.test_subsets=[2]", "rehearsal=false")
# The second step of the second epoch; the process that goes on has only four.
STOPPED = (
    "+callbacks.stopped._target_=tests.operations.stopped_run.StoppedRun",
    "+callbacks.stopped.where=step",
    "+callbacks.stopped.number=6",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my runs")
    write_balls(folder / "the [cache]", 9)
    return folder


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = ("cache=the [cache]", *TWO_EPOCHS, *arguments)
    return warm.run("train", *given, folder=folder, environment=ENVIRONMENT, before=warm.FORKED_RANKS)


@pytest.mark.slow
def test_what_sigterm_stopped_goes_on_by_the_command_it_named(folder: Path) -> None:
    ended = train(folder, "paths.run=run (1)", *STOPPED, "+callbacks.stopped.by=SIGTERM")
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    said, command = ended.stderr.splitlines()[-2:]
    assert "/run (1)/checkpoints/last.ckpt" in said
    assert "Traceback" not in ended.stderr
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"}
    subprocess.run(command.strip(), shell=True, cwd=folder, env=environment, check=True, timeout=240)
    assert train(folder, "paths.run=whole").returncode == 0
    one, other = (
        torch.load(folder / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("run (1)", "whole")
    )
    assert one["global_step"] == other["global_step"] == 8
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


@pytest.mark.slow
def test_ctrl_c_before_the_first_checkpoint(folder: Path) -> None:
    first = "+callbacks.stopped.number=1"
    ended = train(folder, "paths.run=interrupted", *STOPPED[:-1], first, "+callbacks.stopped.by=SIGINT")
    assert ended.returncode == 130, ended.stderr
    command = ended.stderr.splitlines()[-1]
    assert command.endswith("resume=true")
    assert " paths.run=interrupted " in command


@pytest.mark.slow
def test_a_copy_of_the_best_checkpoint_stands_in_for_a_torn_last_one(folder: Path) -> None:
    assert train(folder, "paths.run=torn").returncode == 0
    last, best = (folder / "torn" / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    whole = torch.load(last, weights_only=True)
    os.truncate(last, 1_000_000)
    refused = train(folder, "paths.run=torn", "resume=true")
    assert refused.returncode == 2
    assert "best.ckpt" in refused.stderr
    assert refused.stderr.endswith("[file-damaged]\n")
    assert torch.load(best, weights_only=True)["epoch"] == 0
    shutil.copy(best, last)
    assert train(folder, "paths.run=torn", "resume=true").returncode == 0
    again = torch.load(last, weights_only=True)
    assert again["global_step"] == whole["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_what_is_stopped_while_it_is_made_begins_by_the_command_it_named(folder: Path, by: str, code: int) -> None:
    moment = (
        STOPPED[0],
        "+callbacks.stopped.where=making",
        "+callbacks.stopped.number=1",
        f"+callbacks.stopped.by={by}",
    )
    ended = train(folder, f"paths.run={by}", *moment)
    assert ended.returncode == code, ended.stderr
    command = ended.stderr.splitlines()[-1]
    assert command.endswith(f" paths.run={by}")
    assert "resume=true" not in command
    assert "Traceback" not in ended.stderr
    assert {path.name for path in (folder / by).iterdir()} <= {"train.log"}


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_what_is_stopped_while_a_job_of_a_sweep_is_prepared_goes_on(folder: Path, by: str, code: int) -> None:
    moment = (
        *STOPPED[:1],
        "+callbacks.stopped.where=making",
        "+callbacks.stopped.number=1,9",
        f"+callbacks.stopped.by={by}",
    )
    ended = train(folder, "-m", f"paths.sweep=sweep {by}", *moment)
    assert ended.returncode == code, ended.stderr
    command = ended.stderr.splitlines()[-1]
    assert command.endswith(f" 'paths.sweep=sweep {by}' resume=true")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_disturb_what_the_first_leaves(folder: Path) -> None:
    twice = ("+callbacks.stopped.by=SIGINT", "+callbacks.stopped.again=true")
    ended = train(folder, "paths.run=twice", *STOPPED, *twice)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("resume=true")
    assert "Traceback" not in ended.stderr
    assert read_record(folder / "twice" / "run.json")["starts"][-1]["status"] == "stopped"


@pytest.mark.ddp
def test_sigterm_stops_all_processes(folder: Path) -> None:
    third = "+callbacks.stopped.number=3"
    ended = train(folder, "paths.run=two", *TWO_PROCESSES, *STOPPED[:-1], third, "+callbacks.stopped.by=SIGTERM")
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert ended.stderr.count("resume=true") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.ddp
def test_ctrl_c_while_the_others_start_stops_all_processes(folder: Path) -> None:
    given = ("cache=the [cache]", *TWO_EPOCHS, *TWO_PROCESSES, "paths.run=starting")
    slow = "+callbacks.slow._target_=tests.operations.stopped_run.SlowStart"
    process = subprocess.Popen(
        ["env", "--default-signal=INT", TRAIN, *given, slow],
        cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not (folder / "starting.txt").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        # As a terminal does it.
        os.killpg(process.pid, signal.SIGINT)
        # The pipe stays open as long as one process lives.
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    assert " paths.run=starting" in said.splitlines()[-1]
    assert "Traceback" not in said
