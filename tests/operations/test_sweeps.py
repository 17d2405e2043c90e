"""Sweeps with the plugins of the extra `sweeps`, through the console script."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from nodule_lightning.cli._errors import explain
from tests.balls import write_balls
from tests.operations.test_ddp import SMALL, TRAIN, TWO_PROCESSES
from tests.ranks import ENVIRONMENT


def plugged_in(name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(f"hydra_plugins.{name}") is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed: pip install 'nodule_lightning[sweeps]'")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


def sweep(cache: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = (f"cache={cache}", "paths.sweep=sweep", *SMALL, "trainer.accelerator=cpu", "+trainer.limit_train_batches=1")
    return subprocess.run(
        [TRAIN, "-m", *given, *arguments],
        cwd=folder, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False, timeout=500,
    )  # fmt: skip


def test_a_plugin_that_is_missing_is_named_with_its_cure() -> None:
    missing = MissingConfigException("", "hydra/sweeper/optuna", ["basic"])
    line, key = explain(missing, "train")
    assert "pip install 'nodule_lightning[sweeps]'" in line
    assert key == "argument-unknown"


@pytest.mark.slow
@plugged_in("hydra_optuna_sweeper")
def test_optuna_looks_for_the_highest_score_past_a_job_that_fails(cache: Path, tmp_path: Path) -> None:
    ended = sweep(
        cache, tmp_path, "hparams_search=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=1",
        "seed=choice(1,-1)",
    )  # fmt: skip
    jobs = [path.parent.parent for path in (tmp_path / "sweep").glob("*/checkpoints/best.ckpt")]
    found = OmegaConf.to_container(OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml"))
    assert isinstance(found, dict)
    assert found["best_params"]["seed"] == 1
    assert 0.0005 <= found["best_params"]["optim.lr"] <= 0.05
    scores = [float(line.split()[-1]) for line in ended.stdout.splitlines() if line.startswith("validation FROC")]
    assert round(found["best_value"], 4) == max(scores)
    assert len(scores) == len(jobs)
    assert 0 < len(jobs) < 3
    assert ended.returncode == 1
    assert f"error: {3 - len(jobs)} of the sweep's jobs failed:" in ended.stderr
    assert "seed must be a whole number" in ended.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
@plugged_in("hydra_joblib_launcher")
@plugged_in("hydra_submitit_launcher")
def test_jobs_in_processes_of_their_own_are_listed_where_they_fail(cache: Path, tmp_path: Path, launcher: str) -> None:
    ended = sweep(cache, tmp_path, f"hydra/launcher={launcher}", "datamodule.batch_size=2,0")
    assert (tmp_path / "sweep" / "0" / "checkpoints" / "best.ckpt").exists()
    assert ended.returncode == 1, ended.stderr
    headline, line = ended.stderr.splitlines()[-2:]
    assert headline == "error: 1 of the sweep's jobs failed:"
    assert line.startswith("  job 1 (")
    assert "batch_size must be at least 1" in line
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
@plugged_in("hydra_joblib_launcher")
@plugged_in("hydra_submitit_launcher")
def test_a_job_of_several_processes_is_refused_where_it_has_one(cache: Path, tmp_path: Path, launcher: str) -> None:
    ended = sweep(cache, tmp_path, f"hydra/launcher={launcher}", "seed=0", *TWO_PROCESSES)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("  job 0 (")
    assert f"failed: hydra/launcher={launcher} runs each job in one process" in line
