"""Follow the jobs that a sweep has given to SLURM until each is over, however it ends.

submitit learns of a job's end from `sacct`, which not every cluster has, and lets the first job that SLURM has killed
end the wait for the others.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import submitit
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher

from nodule_lightning.cli._sweep import note_failure_of, noted_failure
from nodule_lightning.errors import InputError

# Whatever else SLURM says of a job, it may still run, or run again.
_OVER: Final = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
)  # fmt: skip
_LEFT_THE_QUEUE: Final = "no longer in the queue"
# What does not change by waiting; all other reasons come and go as other jobs do.
_HOPELESS: Final = re.compile(
    "TimeLimit|NodeLimit|MaxWall|BadConstraints|Held|Invalid|NotAllowed|NeverSatisfied|NotAvail"
)


class Queue(SlurmInfoWatcher):
    """Learn from SLURM's own queue what became of the jobs, and say once of each why it is not to begin."""

    def __init__(self, delay_s: int = 60) -> None:
        super().__init__(delay_s)
        self._told: set[tuple[str, str]] = set()

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Read what squeue has printed; a job that it does not know is over since longer than SLURM remembers."""
        text = string if isinstance(string, str) else string.decode()
        rows = [line.strip().split("|", 2) for line in text.splitlines()]
        states = {job: state if state in _OVER else "RUNNING" for job, state, _ in rows}
        # After a comma come the nodes that are not there, today's.
        reasons = {job: reason.partition(",")[0] for job, state, reason in rows if state == "PENDING"}
        return {
            job: {"State": states.get(job, _LEFT_THE_QUEUE), "Reason": reasons.get(job, "None")}
            for job in self._registered
        }

    def update(self) -> None:
        """Ask SLURM, and say of which jobs it has a reason to wait that may last for ever."""
        super().update()
        waiting = {(job, info["Reason"]) for job, info in self._info_dict.items() if _HOPELESS.search(info["Reason"])}
        new = sorted(waiting - self._told, key=lambda pair: (len(pair[0]), pair))
        self._told |= waiting
        for reason in dict.fromkeys(reason for _, reason in new):
            jobs = " ".join(job for job, its_own in new if its_own == reason)
            print(
                f"note: SLURM does not start {jobs}: {reason}. That may last for ever; scancel {jobs} ends the wait",
                file=sys.stderr,
            )


def require_a_task_for_each_device(config: DictConfig) -> None:
    """Refuse now what Lightning would refuse once the job has waited for its turn.

    Args:
        config: of the sweep; what it sweeps over is not looked at.

    Raises:
        InputError: the trainer wants other numbers of devices or nodes than the job has.
    """
    trainer, launcher = config.get("trainer", {}), config.hydra.launcher
    nodes = trainer.get("num_nodes", 1)
    for key, wanted, of_launcher in (
        ("trainer.devices", trainer.get("devices"), "tasks_per_node"),
        ("trainer.num_nodes", nodes, "nodes"),
    ):
        given = launcher.get(of_launcher)
        if isinstance(wanted, int) and wanted != given:
            raise InputError(
                f"{key} is {wanted} and hydra.launcher.{of_launcher} is {given}: there is one task for each device, so "
                "set both alike"
            )


def end_with_the_first_task() -> None:
    """Let the first task that fails end the others of its job, which would wait for it.

    srun looks at the variable, and sbatch hands it on, also with a `setup` of the user's. What is set already holds.
    """
    os.environ.setdefault("SLURM_KILL_BAD_EXIT", "1")


def follow_to_the_end(folder: Path) -> None:
    """Let submitit wait for all jobs of the sweep that this process has begun, and take one that is lost for failed.

    Args:
        folder: of the sweep, where a failure is noted.
    """

    def results(job: submitit.SlurmJob[Any]) -> list[JobReturn]:
        job.wait()
        overrides, _, number, *_ = job.submission().args
        if noted := noted_failure(folder, number):
            return [JobReturn(overrides, status=JobStatus.FAILED, _return_value=noted)]
        # The first of a job's processes says what came out.
        first = job.task(0)
        try:
            outcome, result = first._get_outcome_and_result()
        except UncompletedJobError:
            outcome, result = "error", f"SLURM has ended it ({first.state.lower()})"
        if outcome == "success":
            assert isinstance(result, JobReturn)
            return [result]
        said = f"; what it said is in {first.paths.stderr}" if first.paths.stderr.exists() else ""
        failure = note_failure_of(folder, number, overrides, f"{str(result).strip().splitlines()[-1]}{said}")
        return [JobReturn(overrides, status=JobStatus.FAILED, _return_value=failure)]

    job_class: Any = submitit.SlurmJob
    job_class.results = results
    job_class.watcher = Queue(delay_s=60)
