"""Sweeps on a real SLURM of one node, two tasks for each job, and whatever SLURM may do to a job."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nodule_lightning.cli._sweep import note_failure
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL, TRAIN, TWO_PROCESSES
from tests.ranks import ENVIRONMENT

NEEDED = ("slurmctld", "slurmd", "munged")
LACKING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} missing: make cluster, as root"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
]

SCRIPT = Path(__file__).with_name("slurm.sh")
ON_SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.tasks_per_node=2",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.partition=tests",
)
EPOCHS = 6
HELD = (f"trainer.max_epochs={EPOCHS}", "+callbacks.held._target_=tests.operations.held_run.HeldRun")
IN_THE_FOURTH_EPOCH = "+callbacks.held.epoch=3"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start SLURM; give the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    try:
        # The daemons keep the pipes of their starter open, so it has none.
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=120)
        yield {**ENVIRONMENT, "SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)


def command(cache: Path, *arguments: str) -> list[str]:
    given = (f"cache={cache}", "paths.sweep=sweep", *SMALL, *TWO_PROCESSES, *ON_SLURM)
    return [str(TRAIN), "-m", *given, *arguments]


def said_by_jobs(folder: Path, kind: str = "out") -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"sweep/.submitit/*/*.{kind}")))


@contextmanager
def on_the_login_node(command: Sequence[str], folder: Path, slurm: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start the command that waits there for its jobs."""
    with (
        (folder / "login.err").open("w") as said,
        subprocess.Popen(command, cwd=folder, env=slurm, stderr=said, encoding="utf-8") as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            subprocess.run(["scancel", "--user=root"], env=slurm, check=True)


def said_on_the_login_node(folder: Path) -> list[str]:
    return (folder / "login.err").read_text(encoding="utf-8").splitlines()


def wait_until(happened: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < until, said_by_jobs(folder, "err")
        time.sleep(0.2)


def epochs_told(job: Path) -> list[int]:
    log = job / "train.log"
    told = log.read_text(encoding="utf-8") if log.exists() else ""
    return [int(number) for number in re.findall(rf"epoch (\d+) of {EPOCHS}:", told)]


def number_of(folder: Path) -> str:
    [job] = {path.name for path in (folder / "sweep" / ".submitit").iterdir() if path.is_dir()}
    return job


def restarts(job: str, slurm: dict[str, str]) -> int:
    told = subprocess.run(
        ["scontrol", "show", "job", job], env=slurm, check=True, capture_output=True, encoding="utf-8"
    )
    return int(re.findall(r"Restarts=(\d+)", told.stdout)[0])


def set_limit(job: str, limit: str, slurm: dict[str, str]) -> None:
    subprocess.run(["scontrol", "update", f"JobId={job}", limit], env=slurm, check=True)


def test_two_jobs_of_two_tasks_end_with_their_scores(slurm: dict[str, str], cache: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        command(cache, "seed=0,1", "hydra.launcher.timeout_min=30"),
        cwd=tmp_path, env=slurm, capture_output=True, encoding="utf-8", check=False, timeout=500,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr + said_by_jobs(tmp_path)
    said = said_by_jobs(tmp_path)
    assert said.count("validation FROC: 0.") + said.count("validation FROC: 1.") == 2
    for job in ("0", "1"):
        folder = tmp_path / "sweep" / job
        assert (folder / "checkpoints" / "best.ckpt").exists()
        assert [path.name for path in folder.glob("*.log")] == ["train.log"]
        assert len(list((folder / "metrics").iterdir())) == 1
        # Eight patches for two tasks with batches of two.
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_job_whose_time_runs_out_goes_on_from_its_last_checkpoint(
    slurm: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    time_out = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=5")
    begun = command(cache, "seed=0", *HELD, IN_THE_FOURTH_EPOCH, *time_out)
    with on_the_login_node(begun, tmp_path, slurm) as process:
        wait_until((tmp_path / "sweep" / "0").exists, tmp_path)
        job = number_of(tmp_path)
        # As a user cannot: on a slow machine neither three epochs nor the rest is done within a minute.
        set_limit(job, "TimeLimit=30", slurm)
        wait_until(lambda: len(epochs_told(tmp_path / "sweep" / "0")) == 3, tmp_path)
        set_limit(job, "EndTime=now+60", slurm)
        wait_until(lambda: "is timed-out" in said_by_jobs(tmp_path), tmp_path)
        wait_until(lambda: restarts(job, slurm) > 0, tmp_path)
        set_limit(job, "TimeLimit=30", slurm)
        assert process.wait(200) == 0, said_by_jobs(tmp_path, "err")
    assert_it_went_on(tmp_path)
    said = said_by_jobs(tmp_path, "err")
    assert "SLURM requeues the job" in said
    # The second process, which has seen the first one go, has nothing to complain of.
    assert "the job was told to stop, and another of its processes exited first" in said
    assert "Traceback" not in said
    # Lightning, which would put it into the queue as well, was not asked.
    assert not list(tmp_path.glob("**/hpc_ckpt*"))


def test_a_job_that_is_preempted_goes_on_from_its_last_checkpoint(
    slurm: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    begun = command(cache, "seed=0", *HELD, IN_THE_FOURTH_EPOCH, "hydra.launcher.timeout_min=30")
    with on_the_login_node(begun, tmp_path, slurm) as process:
        wait_until(lambda: len(epochs_told(tmp_path / "sweep" / "0")) == 3, tmp_path)
        job = number_of(tmp_path)
        # As a process that sees another one die with its machine, before SLURM puts the job into the queue again.
        note_failure(tmp_path / "sweep", 0, ["seed=0"], "connection closed by peer")
        urgent = ["sbatch", "--wait", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"]
        subprocess.run(urgent, env=slurm, check=True, timeout=200, stdout=subprocess.DEVNULL)
        assert restarts(job, slurm) == 1
        assert process.wait(200) == 0, said_by_jobs(tmp_path, "err")
    assert_it_went_on(tmp_path)


def assert_it_went_on(folder: Path) -> None:
    job = folder / "sweep" / "0"
    assert epochs_told(job) == [1, 2, 3, 4, 5, 6]
    log = (job / "train.log").read_text(encoding="utf-8")
    assert log.count("Restored all states") == 1
    last = torch.load(job / "checkpoints" / "last.ckpt", weights_only=True)
    # Eight patches for two tasks with batches of two.
    assert (last["epoch"], last["global_step"]) == (EPOCHS - 1, 2 * EPOCHS)
    assert said_by_jobs(folder).count("validation FROC: ") == 1
    assert not list(folder.glob("sweep/failed/*"))


def test_a_job_that_is_killed_for_good_is_listed_and_the_others_end(
    slurm: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    begun = command(cache, "seed=0", *HELD, f"{IN_THE_FOURTH_EPOCH},{EPOCHS}", "hydra.launcher.timeout_min=30")
    with on_the_login_node(begun, tmp_path, slurm) as process:
        wait_until(lambda: len(epochs_told(tmp_path / "sweep" / "0")) == 3, tmp_path)
        [job] = [path.name for path in (tmp_path / "sweep" / ".submitit").glob("*_0")]
        subprocess.run(["scancel", job], env=slurm, check=True)
        assert process.wait(200) == 1
    headline, line = said_on_the_login_node(tmp_path)[-2:]
    assert headline == "error: 1 of the sweep's jobs failed:"
    assert line.startswith("  job 0 (")
    assert "failed: SLURM has ended it (cancelled); its output is in " in line
    assert Path(line.rpartition(" ")[2]).exists()
    assert epochs_told(tmp_path / "sweep" / "1") == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in (tmp_path / "sweep" / "failed").iterdir()] == ["0.txt"]


def test_a_job_whose_first_task_fails_alone_ends_with_its_error(
    slurm: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    failing = "+callbacks.failing._target_=tests.operations.held_run.FirstProcessFails"
    places = "+callbacks.failing.place=making,training,nowhere"
    begun = command(cache, failing, places, "hydra.launcher.timeout_min=30")
    with on_the_login_node(begun, tmp_path, slurm) as process:
        assert process.wait(400) == 1
    headline, *lines = said_on_the_login_node(tmp_path)[-3:]
    assert headline == "error: 2 of the sweep's jobs failed:"
    for number, (place, line) in enumerate(zip(("making", "training"), lines, strict=True)):
        assert line.startswith(f"  job {number} (")
        assert f"place={place}) failed: " in line
        assert line.endswith("out of luck")
    assert said_by_jobs(tmp_path).count("validation FROC: ") == 1


def test_why_a_job_is_never_to_begin_is_said_once(slurm: dict[str, str], cache: Path, tmp_path: Path) -> None:
    too_long = command(cache, "seed=0,1", "hydra.launcher.partition=short", "hydra.launcher.timeout_min=30")
    with on_the_login_node(too_long, tmp_path, slurm) as process:
        wait_until(lambda: any("PartitionTimeLimit" in line for line in said_on_the_login_node(tmp_path)), tmp_path)
        jobs = sorted(path.name for path in (tmp_path / "sweep" / ".submitit").glob("*_*") if path.is_dir())
        subprocess.run(["scancel", *jobs], env=slurm, check=True)
        assert process.wait(200) == 1
    said = said_on_the_login_node(tmp_path)
    [note] = [line for line in said if "PartitionTimeLimit" in line]
    assert " ".join(jobs) in note
    assert said[-3] == "error: 2 of the sweep's jobs failed:"
    for line in said[-2:]:
        assert "failed: SLURM has ended it (" in line
        # It has not begun.
        assert "its output" not in line


def test_what_slurm_does_not_take_is_said_in_one_line(slurm: dict[str, str], cache: Path, tmp_path: Path) -> None:
    refused = subprocess.run(
        command(cache, "seed=0", "hydra.launcher.partition=nowhere"),
        cwd=tmp_path, env=slurm, capture_output=True, encoding="utf-8", check=False, timeout=100,
    )  # fmt: skip
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: SLURM does not take the job: sbatch: ")
    assert "invalid partition specified: nowhere" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
