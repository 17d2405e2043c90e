"""What a child process of a job is started with, and what is left when the job has trained."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from nodule_lightning.cli._application import run_application
from nodule_lightning.training import launch
from nodule_lightning.training.launch import child_processes_of_this_job
from tests.commands import Runner
from tests.ranks import ENVIRONMENT

LIGHTNINGS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TRAINER = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
WAITS = """
import time
from nodule_lightning.cli._application import run_application
from nodule_lightning.training.launch import follow_the_first_process

def wait(config):
    follow_the_first_process()
    time.sleep(3)

run_application(wait, "train", ("cache",))
"""


class Job:
    """Stand in for a training, and for Lightning that starts its children."""

    def __init__(self) -> None:
        self.arguments: list[list[str]] = []
        self.folders: list[str] = []
        self.ranks_found: list[str | None] = []

    def __call__(self, config: DictConfig) -> None:
        self.ranks_found.append(os.environ.get("LOCAL_RANK"))
        with child_processes_of_this_job(TRAINER):
            self.arguments.append(sys.argv[1:])
            self.folders.append(HydraConfig.get().run.dir)
            for name in LIGHTNINGS:
                os.environ.setdefault(name, "0")

    def main(self) -> None:
        run_application(self, "train", ("cache", "paths.sweep", "paths.run"))


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIGHTNINGS:
        monkeypatch.delenv(name, raising=False)


def test_each_job_of_a_sweep_has_its_own_command_line_and_folder(run: Runner) -> None:
    job = Job()
    Path("more/optim").mkdir(parents=True)
    Path("more/optim/mine.yaml").write_text("lr: 0.125\n")
    sweep = ["-m", "cache=a, b", "seed=0,1", "optim=mine", 'paths.sweep=the "sweep"', "hydra.job.chdir=false"]
    ended = run(job.main, *sweep, "--config-dir", "more")
    assert ended.code == 0, ended.error
    for number, arguments in enumerate(job.arguments):
        assert not {"-m", "--multirun"} & set(arguments)
        assert not [text for text in arguments if "hydra.mode" in text]
        assert {f"seed={number}", f"hydra.job.num={number}", "cache='a, b'", "hydra.job.chdir=false"} <= set(arguments)
        assert arguments[:2] == ["--config-name", "train"]
        assert arguments[arguments.index("--config-dir") + 1].endswith("more")
        assert job.folders[number] == str(Path.cwd() / 'the \\"sweep\\"' / str(number))
    assert job.ranks_found == [None, None]
    assert not set(LIGHTNINGS) & set(os.environ)
    assert {"-m", "--config-dir", "more"} <= set(sys.argv)


def test_an_interpolation_reaches_the_child_as_it_was_written(run: Runner) -> None:
    job = Job()
    ended = run(job.main, "cache=a", "datamodule.seed=${nowhere}", "paths.run=r")
    assert ended.code == 0, ended.error
    assert "datamodule.seed=${nowhere}" in job.arguments[0]


def test_a_child_runs_the_same_job_as_its_parent(run: Runner) -> None:
    parent = Job()
    run(parent.main, "-m", "cache=a, b", "seed=7,8", "paths.sweep=s")
    seen: list[tuple[int, str, str]] = []

    def note(config: DictConfig) -> None:
        seen.append((config.seed, config.cache, HydraConfig.get().runtime.output_dir))

    for arguments, folder in zip(parent.arguments, parent.folders, strict=True):
        added = [f'hydra.run.dir="{folder}"', "hydra.output_subdir=null"]  # as Lightning does
        assert run(lambda: run_application(note, "train", ("cache",)), *arguments, *added).code == 0
    assert seen == [(7, "a, b", str(Path("s/0").resolve())), (8, "a, b", str(Path("s/1").resolve()))]


def test_what_a_cluster_has_set_stays(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(Job().main, "cache=a", "paths.run=r").code == 0
    assert os.environ["WORLD_SIZE"] == "4"
    assert "LOCAL_RANK" not in os.environ


def job_with(children: Sequence[Sequence[str]], work: Callable[[], None]) -> Callable[[], None]:
    """Give the command whose job starts children by these commands, as Lightning does."""

    def task(config: DictConfig) -> None:
        launcher = _SubprocessScriptLauncher(LightningEnvironment(), len(children) + 1, 1)

        def start() -> None:
            for rank, command in enumerate(children, start=1):
                launcher.procs.append(subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(rank)}))

        launcher._call_children_scripts = start  # type: ignore[method-assign]
        trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
        with child_processes_of_this_job(trainer):  # type: ignore[arg-type]
            launcher._call_children_scripts()
            # For those on its list that fail, Lightning would kill this process.
            assert launcher.procs == []
            work()

    return lambda: run_application(task, "train", ("cache",))


def comes_and(line: str) -> list[str]:
    return ["sh", "-c", f'touch "$NODULE_TRAIN_MEETING/$LOCAL_RANK"; {line}']


def fail() -> None:
    raise ZeroDivisionError


def be_busy() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        sum(range(1000))


def test_many_children_that_do_not_end_are_waited_for_no_longer_than_one(
    run: Runner, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "_PATIENCE_S", 1.0)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        run(job_with([comes_and("exec sleep 60")] * 8, fail), "cache=a", "paths.run=r")
    assert time.monotonic() - began < 30
    assert capfd.readouterr().err.count("does not end by itself, and is killed") == 8


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (comes_and("kill -9 $$"), "-9 (killed from outside, for want of memory perhaps)"),
        (comes_and("exit 3"), "3"),
        (["sh", "-c", "exit 3"], "3"),
    ],
    ids=["killed", "failed", "failed before it has come"],
)
def test_a_lost_child_ends_the_job_of_a_process_that_is_busy_or_waits(
    run: Runner, monkeypatch: pytest.MonkeyPatch, command: list[str], code: str
) -> None:
    monkeypatch.setattr(launch, "_TO_FAIL_S", 0.1)
    ended = run(job_with([command], be_busy), "-m", "cache=a", "seed=0", "paths.sweep=s")
    assert ended.failed_job().endswith(f"failed: process 1 of this job has ended with code {code}")
    assert "Traceback" not in ended.error
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL


def test_a_failure_that_follows_from_a_killed_child_names_the_child(run: Runner) -> None:
    def fail_after_the_child() -> None:
        time.sleep(0.5)
        fail()

    ended = run(job_with([comes_and("kill -9 $$")], fail_after_the_child), "cache=a", "paths.run=r")
    assert ended.code == 1
    assert ended.error.splitlines() == [
        "error: process 1 of this job has ended with code -9 (killed from outside, for want of memory perhaps)"
    ]


def test_a_child_that_nobody_waits_for_any_more_ends_without_a_word(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODULE_TRAIN_MEETING", str(tmp_path / "gone"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    job = Job()
    ended = run(job.main, "cache=a", "paths.run=r")
    assert (ended.code, ended.error, job.arguments) == (0, "", [])


def test_a_failure_of_its_own_is_not_hidden_by_what_becomes_of_a_child(
    run: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    job = job_with([comes_and("sleep 2; kill -6 $$")], fail)
    with pytest.raises(ZeroDivisionError):
        run(job, "cache=a", "paths.run=r")
    assert "error: process 1 of this job has ended with code -6\n" in capfd.readouterr().err


@pytest.mark.parametrize(("rank", "code"), [("1", 1), ("0", 0)])
def test_a_child_whose_first_process_is_gone_before_it_trains_ends(tmp_path: Path, rank: str, code: int) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    started = {"NODULE_TRAIN_STARTED_BY": str(gone.pid), "LOCAL_RANK": rank}
    command = [sys.executable, "-c", WAITS, "cache=a", "paths.run=r"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**ENVIRONMENT, **started}, capture_output=True, encoding="utf-8", check=False
    )
    assert ended.returncode == code, ended.stderr
    assert ("the first process of this job is gone" in ended.stderr) == (rank == "1")
