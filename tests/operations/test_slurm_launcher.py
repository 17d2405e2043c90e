"""The launcher of sweeps on SLURM: what became of each job, by what SLURM's queue says of it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from nodule_lightning.cli import train
from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import FAILED, note_failure
from nodule_lightning.errors import InputError
from tests.commands import Runner

pytest.importorskip("submitit")

from hydra_plugins.nodule_slurm_launcher import launcher
from hydra_plugins.nodule_slurm_launcher.launcher import read_queue, result_of, wait_for

QUEUE = """12_0|RUNNING|None
12_1|PENDING|Resources
13|CANCELLED|None
15|PENDING|ReqNodeNotAvail,_UnavailableNodes:a[1-2]
"""


def answers(monkeypatch: pytest.MonkeyPatch, *texts: str | None) -> None:
    """Let SLURM's queue be these texts one after the other; None where it does not answer."""
    left = list(texts)

    def run(*_: object, **__: object) -> SimpleNamespace:
        text = left.pop(0)
        if text is None:
            raise subprocess.CalledProcessError(1, "squeue")
        return SimpleNamespace(stdout=text)

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_the_queue_is_read_without_the_nodes_of_today() -> None:
    # Hydra executes a plugin's module once more when it looks for plugins, so that its classes are not the same.
    assert {job: (found.state, found.reason) for job, found in read_queue(QUEUE).items()} == {
        "12_0": ("RUNNING", "None"),
        "12_1": ("PENDING", "Resources"),
        "13": ("CANCELLED", "None"),
        "15": ("PENDING", "ReqNodeNotAvail"),
    }
    assert read_queue("") == {}


def test_a_job_is_over_once_slurm_has_ended_or_forgotten_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "1|RUNNING|None\n2|REQUEUED|None\n", None, "1|OUT_OF_MEMORY|None\n2|PENDING|None\n", "")
    assert wait_for(["1", "2"]) == {"1": "out_of_memory", "2": "no longer in the queue"}


def test_an_unusual_reason_to_wait_is_printed_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = "7_1|PENDING|PartitionTimeLimit\n7_2|PENDING|PartitionTimeLimit\n"
    answers(monkeypatch, "7_1|PENDING|Priority\n7_2|PENDING|None\n", limit, limit, "")
    wait_for(["7_1", "7_2"])
    [line] = capsys.readouterr().err.splitlines()
    assert "7_1 7_2" in line
    assert "PartitionTimeLimit" in line


def job(folder: Path) -> Any:  # noqa: ANN401 - stands in for submitit's
    paths = SimpleNamespace(result_pickle=folder / "result", stderr=folder / "stderr")
    return SimpleNamespace(task=lambda number: SimpleNamespace(paths=paths))


def why(result: JobReturn) -> str:
    assert result.status is JobStatus.FAILED
    with pytest.raises(RuntimeError) as error:
        assert result.return_value
    return str(error.value)


def test_a_job_that_slurm_has_killed_is_noted_with_the_place_of_its_output(tmp_path: Path) -> None:
    (tmp_path / "stderr").touch()
    said = why(result_of(job(tmp_path), "cancelled", tmp_path, 3, ["seed=1"]))
    assert said.startswith("job 3 (seed=1) failed: ")
    assert "cancelled" in said
    assert str(tmp_path / "stderr") in said
    assert (tmp_path / FAILED / "3.txt").read_text(encoding="utf-8") == f"{said}\n"


def test_what_a_job_has_noted_itself_stands(tmp_path: Path) -> None:
    noted = note_failure(tmp_path, 3, ["seed=1"], "out of luck")
    assert why(result_of(job(tmp_path), "completed", tmp_path, 3, ["seed=1"])) == noted


@pytest.mark.parametrize(
    "given", ["trainer.devices=2", "+trainer.num_nodes=4", "hydra.launcher.nodes=2"], ids=["devices", "nodes", "tasks"]
)
def test_devices_without_tasks_are_refused_before_the_job_waits_for_its_turn(run: Runner, given: str) -> None:
    ended = run(train.main, "-m", "cache=c", "seed=0,1", "paths.sweep=s", "hydra/launcher=slurm", given)
    assert ended.code == 2
    assert ended.error.splitlines()[-1].endswith("[argument-conflict]")
    assert not Path("s").exists()


def test_one_of_several_tasks_of_a_job_leaves_with_a_code_once_the_cause_is_noted(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: DictConfig) -> None:
        raise InputError(f"seed {config.seed} is no good", "argument-invalid")

    def failed_jobs(tasks: str) -> list[str]:
        monkeypatch.setenv("SLURM_NTASKS", tasks)
        ended = run(lambda: run_application(fail, "train", ("cache",)), "-m", "cache=c", "seed=0,1", "paths.sweep=s")
        assert ended.code == 1
        return sorted(path.name for path in Path("s", FAILED).iterdir())

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    # Here the jobs share a process, which the first takes with it.
    assert failed_jobs("2") == ["0.txt"]
    assert failed_jobs("1") == ["0.txt", "1.txt"]


def test_the_launcher_is_the_one_of_the_configuration(run: Runner) -> None:
    shown = run(train.main, "--cfg", "hydra", "-p", "hydra.launcher", "hydra/launcher=slurm", "cache=c").out
    assert f"{launcher.__name__}.SlurmSweepLauncher" in shown
