"""Sweeps on a real SLURM of one node: two tasks for each job, and a job that is put into the queue again."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.balls import write_balls
from tests.ranks import ENVIRONMENT
from tests.test_ddp import SMALL, TRAIN, TWO_PROCESSES

NEEDED = ("slurmctld", "slurmd", "munged")
LACKING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} missing: apt-get install slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons need root"),
]

SCRIPT = Path(__file__).with_name("slurm.sh")
ON_SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.tasks_per_node=2",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.timeout_min=30",
    "hydra.launcher.partition=tests",
)


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


def said_by_jobs(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("sweep/.submitit/*/*.out")))


def test_two_jobs_of_two_tasks_end_with_their_scores(slurm: dict[str, str], cache: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        command(cache, "seed=0,1"),
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


def test_a_job_that_is_put_into_the_queue_again_resumes(slurm: dict[str, str], cache: Path, tmp_path: Path) -> None:
    last = tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(
        command(cache, "seed=0", "trainer.max_epochs=20"), cwd=tmp_path, env=slurm, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 300
        while not last.exists():
            assert time.monotonic() < until, said_by_jobs(tmp_path)
            time.sleep(0.2)
        before = torch.load(last, weights_only=True)["epoch"]
        [job] = {path.name for path in (tmp_path / "sweep" / ".submitit").iterdir() if path.is_dir()}
        subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
        assert process.wait(500) == 0, said_by_jobs(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert before < 19
    assert torch.load(last, weights_only=True)["epoch"] == 19
    assert "Restored all states" in (tmp_path / "sweep" / "0" / "train.log").read_text(encoding="utf-8")
