"""What became of the jobs of a sweep, by what SLURM's queue says of them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from nodule_lightning.cli import train
from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import FAILED, JobError, forget_failure, note_failure, note_failure_of
from nodule_lightning.errors import InputError
from nodule_lightning.training import launch
from nodule_lightning.training.launch import child_processes_of_this_job
from tests.commands import Runner
from tests.operations.test_launch import TRAINER

pytest.importorskip("submitit")

import submitit

from nodule_lightning.cli._slurm import Queue, follow_to_the_end

QUEUE = """12_0|RUNNING|None
12_1|PENDING|Resources
12_2|COMPLETING|None
12_3|SUSPENDED|None
12_4|REQUEUED|None
13|CANCELLED|None
14|OUT_OF_MEMORY|OutOfMemory
15|TIMEOUT|TimeLimit
99|RUNNING|None
"""


def test_a_job_is_over_once_slurm_has_ended_or_forgotten_it() -> None:
    queue = Queue()
    jobs = ["12_0", "12_1", "12_2", "12_3", "12_4", "13", "14", "15", "16"]
    for job in jobs:
        queue.register_job(job)
    queue._info_dict.update(queue.read_info(QUEUE.encode()))
    assert [job for job in jobs if queue.is_done(job, mode="cache")] == ["13", "14", "15", "16"]
    assert queue.get_state("14", mode="cache") == "OUT_OF_MEMORY"
    assert queue.get_state("16", mode="cache") == "no longer in the queue"


def test_an_empty_queue_has_no_job() -> None:
    queue = Queue()
    queue.register_job("1")
    assert queue.read_info("") == {"1": {"State": "no longer in the queue", "Reason": "None"}}


def test_a_job_that_may_wait_for_ever_is_told_of_once_for_each_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, said = Queue(), "note: SLURM does not start {0}: {1}. That may last for ever; scancel {0} ends the wait\n"
    for job in ("7_2", "7_10", "8", "9"):
        queue.register_job(job)

    def ask(told: str) -> str:
        monkeypatch.setattr("subprocess.check_output", lambda *_, **__: told.encode())
        queue.update()
        return capsys.readouterr().err

    assert ask("7_2|PENDING|None\n7_10|PENDING|Priority\n8|RUNNING|None\n9|PENDING|QOSMaxJobsPerUserLimit\n") == ""
    limit = "7_2|PENDING|PartitionTimeLimit\n7_10|PENDING|PartitionTimeLimit\n"
    nodes = "8|PENDING|ReqNodeNotAvail,_UnavailableNodes:a[1-{}]\n9|FAILED|NonZeroExitCode\n"
    both = said.format("8", "ReqNodeNotAvail") + said.format("7_2 7_10", "PartitionTimeLimit")
    assert ask(limit + nodes.format(2)) == both
    assert ask(limit + nodes.format(3)) == ""
    assert ask(limit + "8|PENDING|BadConstraints\n99|PENDING|JobHeldUser\n") == said.format("8", "BadConstraints")


def test_of_what_a_jobs_processes_note_the_first_holds(tmp_path: Path) -> None:
    note_failure_of(tmp_path, 3, ["seed=1"], "out of memory")
    second = note_failure_of(tmp_path, 3, ["seed=1"], "connection\nclosed")
    assert str(second) == "job 3 (seed=1) failed: connection closed"
    assert (tmp_path / FAILED / "3.txt").read_text(encoding="utf-8") == "job 3 (seed=1) failed: out of memory\n"


def test_a_job_that_has_noted_its_failure_is_asked_for_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("results", "watcher"):
        monkeypatch.setattr(submitit.SlurmJob, name, None)
    follow_to_the_end(tmp_path)
    note_failure_of(tmp_path, 3, ["seed=1"], "out of luck")
    job: submitit.SlurmJob[JobReturn] = submitit.SlurmJob(tmp_path, "12")
    monkeypatch.setattr(job, "wait", lambda: None)
    monkeypatch.setattr(job, "submission", lambda: SimpleNamespace(args=(["seed=1"], "sweep", 3)))
    [result] = job.results()
    with pytest.raises(JobError, match=r"job 3 \(seed=1\) failed: out of luck"):
        assert result.return_value


def test_a_job_that_begins_anew_forgets_its_own_failure_alone(run: Runner) -> None:
    def fail_and_begin_anew(config: DictConfig) -> None:
        note_failure("lost its machine")
        if HydraConfig.get().job.num == 1:
            forget_failure()

    ended = run(
        lambda: run_application(fail_and_begin_anew, "train", ("cache",)), "-m", "cache=c", "seed=0,1", "paths.sweep=s"
    )
    assert ended.code == 1
    assert [path.name for path in Path("s", FAILED).iterdir()] == ["0.txt"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("trainer.devices=2", "trainer.devices is 2 and hydra.launcher.tasks_per_node is 1"),
        ("+trainer.num_nodes=4", "trainer.num_nodes is 4 and hydra.launcher.nodes is 1"),
        ("hydra.launcher.nodes=2", "trainer.num_nodes is 1 and hydra.launcher.nodes is 2"),
    ],
)
def test_devices_without_tasks_are_refused_before_the_job_waits_for_its_turn(
    run: Runner, given: str, line: str
) -> None:
    ended = run(train.main, "-m", "cache=c", "seed=0,1", "paths.sweep=s", "hydra/launcher=slurm", given)
    assert ended.code == 2
    assert ended.error.splitlines()[-1] == (f"error: {line}: there is one task for each device, so set both alike")
    assert not Path("s").exists()


def test_one_of_several_tasks_of_a_job_leaves_with_a_code_once_the_cause_is_noted(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: DictConfig) -> None:
        raise InputError(f"seed {config.seed} is no good")

    def failed_jobs(tasks: str) -> list[str]:
        monkeypatch.setenv("SLURM_NTASKS", tasks)
        ended = run(lambda: run_application(fail, "train", ("cache",)), "-m", "cache=c", "seed=0,1", "paths.sweep=s")
        assert ended.code == 1
        return sorted(path.read_text(encoding="utf-8").partition("failed: ")[2] for path in Path("s", FAILED).iterdir())

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    # Here the jobs share a process, which the first takes with it.
    assert failed_jobs("2") == ["seed 0 is no good\n"]
    assert failed_jobs("1") == ["seed 0 is no good\n", "seed 1 is no good\n"]


@pytest.mark.parametrize(("tasks", "error", "destroyed"), [("2", True, 0), ("2", False, 1), ("1", True, 1)])
def test_the_other_tasks_learn_of_a_failure_only_once_it_is_noted(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tasks: str, error: bool, destroyed: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(launch, "_leave_process_group", lambda **_: calls.append(None))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_NTASKS", tasks)

    def job(config: DictConfig) -> None:
        with child_processes_of_this_job(TRAINER):
            if error:
                raise InputError("no good")

    run(lambda: run_application(job, "train", ("cache",)), "-m", "cache=c", "seed=0", "paths.sweep=s")
    assert len(calls) == destroyed
