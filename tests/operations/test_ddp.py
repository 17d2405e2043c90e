"""Several processes on one machine: started by the console script, by a sweep and by torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest

from nodule_lightning.io.tables import read_scan_ids
from tests import warm
from tests.balls import write_balls
from tests.ranks import ENVIRONMENT

TRAIN = Path(sys.executable).parent / "nodule-train"
SMALL = (
    "data=folder",
    "model=res_unet_narrow",
    "logger=csv",
    "data.validation_fraction=0.4",
    "sampler.patches_per_epoch=8",
    "datamodule.batch_size=2",
    "datamodule.patch_voxels=32",
    "datamodule.workers=0",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
)
# Batch norm over processes needs a GPU.
TWO_PROCESSES = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache, [1]"), 9)


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [TRAIN, *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def train_forked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = warm.run("train", *arguments, folder=folder, before=warm.FORKED_RANKS, timeout_s=240)
    assert ended.returncode == 0, ended.stderr
    return ended


def logs(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.log")}


@pytest.mark.ddp
def test_a_sweep_starts_each_job_exactly_once_with_all_its_processes(cache: Path, tmp_path: Path) -> None:
    ended = train_forked(
        tmp_path, "-m", f"cache={cache}", *SMALL, *TWO_PROCESSES, "seed=0,1",
        "+datamodule.border_voxels=${hydra:job.num}", 'paths.sweep=sweep, "1"',
    )  # fmt: skip
    # One tree, with one folder for each job, and one log.
    assert {path.name for path in tmp_path.iterdir()} == {'sweep, "1"'}
    sweep = tmp_path / 'sweep, "1"'
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1"}
    for job in ("0", "1"):
        assert logs(sweep / job) == {"train.log"}
        assert (sweep / job / "checkpoints" / "best.ckpt").exists()
        assert f"seed: {job}" in (sweep / job / ".hydra" / "config.yaml").read_text(encoding="utf-8")
    for rank in ("0", "1"):
        assert ended.stderr.count(f"Initializing distributed: GLOBAL_RANK: {rank}, MEMBER: ") == 2
        assert f"Initializing distributed: GLOBAL_RANK: {rank}, MEMBER: {int(rank) + 1}/2" in ended.stderr
    assert ended.stdout.count("best checkpoint:") == 2
    assert read_scan_ids(sweep / "0" / "splits" / "train.csv") != read_scan_ids(sweep / "1" / "splits" / "train.csv")


@pytest.mark.ddp
def test_one_run_has_one_folder_for_all_its_processes(cache: Path, tmp_path: Path) -> None:
    ended = train(tmp_path, f"cache={cache}", *SMALL, *TWO_PROCESSES, "paths.run=run (1)=肺")
    assert {path.name for path in tmp_path.iterdir()} == {"run (1)=肺"}
    assert logs(tmp_path / "run (1)=肺") == {"train.log"}
    assert ended.stdout.count("best checkpoint:") == 1


@pytest.mark.ddp
def test_torchrun_starts_one_run_with_one_folder(cache: Path, tmp_path: Path) -> None:
    """Each process composes its own configuration, in which the folder's name has its own time."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    given = ["-m", "nodule_lightning.cli.train", f"cache={cache}", *SMALL, *TWO_PROCESSES, "rehearsal=false"]
    ended = subprocess.run(
        [*launcher, *given], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False,
        timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    [run] = (tmp_path / "outputs" / "train").iterdir()
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    assert logs(run) == {"train.log"}
    assert (run / "checkpoints" / "best.ckpt").exists()
    assert ended.stdout.count("best checkpoint:") == 1
