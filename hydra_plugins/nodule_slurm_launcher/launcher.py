"""The launcher of `hydra/launcher=slurm`: submitit's, but it waits for every job until SLURM reports its end.

submitit relies on `sacct`, which not every cluster has, and stops waiting for the other jobs when SLURM kills one.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from omegaconf import DictConfig

if TYPE_CHECKING:
    import submitit

POLL_S: Final = 30.0
FIRST_POLL_S: Final = 2.0
LATE_S: Final = 15.0
# So many questions in a row without an answer are worth a note.
UNANSWERED: Final = 5
GONE: Final = "no longer in the queue"
# In any other state a job may still run, or run again.
OVER: Final = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
)  # fmt: skip
# Ordinary reasons to wait, which pass as other jobs end.
USUAL: Final = ("None", "Priority", "Resources", "BeginTime", "Dependency")


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job's entry in SLURM's queue.

    Attributes:
        state: `PENDING`, `RUNNING`, or one of `OVER`, among others.
        reason: why the job waits, or why it ended.
    """

    state: str
    reason: str


def read_queue(text: str) -> dict[str, QueuedJob]:
    """Parse the output of `squeue --format=%i|%T|%r` into entries by job id."""
    rows = [line.strip().split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    # A comma separates the reason from the list of unavailable nodes.
    return {job: QueuedJob(state, reason.partition(",")[0]) for job, state, reason in rows}


def ask_queue() -> dict[str, QueuedJob] | None:
    """Query SLURM for the user's jobs; None if it does not answer."""
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r"]
    try:
        return read_queue(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
    except (OSError, subprocess.SubprocessError):
        return None


def passes(reason: str) -> bool:
    """Check whether a reason to wait passes by itself: the turn of other jobs, or a limit on how much runs at once."""
    return reason in USUAL or ("Limit" in reason and not reason.startswith("Partition"))


def wait_for(jobs: Sequence[str]) -> dict[str, str]:
    """Wait until every job has ended or left the queue, and print unusual reasons to wait once each.

    Returns:
        The final state of each job, by job id.
    """
    ended: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    unanswered = 0
    pause_s = FIRST_POLL_S
    while len(ended) < len(jobs):
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
        if (queue := ask_queue()) is None:
            unanswered += 1
            if unanswered == UNANSWERED:
                print("note: squeue does not answer; the wait goes on", file=sys.stderr)
            continue
        unanswered = 0
        for job in set(jobs) - set(ended):
            found = queue.get(job, QueuedJob(GONE, "None"))
            if found.state in OVER or job not in queue:
                ended[job] = found.state.lower()
        waiting = {(queue[job].reason, job) for job in jobs if job in queue and queue[job].state == "PENDING"}
        new = sorted(pair for pair in waiting - told if not passes(pair[0]))
        told |= waiting
        for reason in dict.fromkeys(reason for reason, _ in new):
            names = " ".join(job for its_own, job in new if its_own == reason)
            print(f"note: SLURM does not start {names} yet: {reason} (scancel ends the wait)", file=sys.stderr)
    return ended


def require_a_task_for_each_device(config: DictConfig) -> None:
    """Check before submission that each device has a task; Lightning would only find out after the wait in the queue.

    Args:
        config: configuration of the sweep; swept values are not checked.

    Raises:
        InputError: the trainer's numbers of devices or nodes differ from the job's.
    """
    from nodule_lightning.errors import InputError

    trainer, launcher = config.get("trainer", {}), config.hydra.launcher
    for key, wanted, of_launcher in (
        ("trainer.devices", trainer.get("devices"), "tasks_per_node"),
        ("trainer.num_nodes", trainer.get("num_nodes", 1), "nodes"),
    ):
        given = launcher.get(of_launcher)
        if isinstance(wanted, int) and wanted != given:
            raise InputError(
                f"{key} is {wanted} and hydra.launcher.{of_launcher} is {given}: there is one task for each device, so "
                "set both to the same number",
                "argument-conflict",
            )


def result_of(job: "submitit.Job[Any]", state: str, sweep: Path, number: int, overrides: Sequence[str]) -> JobReturn:
    """Return the result of an ended job; a job without one has failed, and gets a note."""
    from submitit.core.utils import pickle_load

    from nodule_lightning.cli._sweep import note_failure, read_failure_note

    # Only the first process of a job returns the result.
    paths = job.task(0).paths
    # A shared file system shows a new file some seconds late on other machines.
    until = time.monotonic() + (LATE_S if state in {"completed", "failed", GONE} else 0)
    while (line := read_failure_note(sweep, number)) is None and not paths.result_pickle.exists():
        if time.monotonic() >= until:
            break
        time.sleep(1)
    if line is None and paths.result_pickle.exists():
        outcome, result = pickle_load(paths.result_pickle)
        if outcome == "success":
            assert isinstance(result, JobReturn)
            return result
        line = note_failure(sweep, number, overrides, str(result).strip().splitlines()[-1])
    if line is None:
        said = f"; its output is in {paths.stderr}" if paths.stderr.exists() else ""
        line = note_failure(sweep, number, overrides, f"SLURM has ended it ({state}){said}")
    failed = JobReturn(overrides, status=JobStatus.FAILED)
    failed.return_value = RuntimeError(line)
    return failed


try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
except ImportError:
    # The launcher needs the extra `sweeps`.
    pass
else:

    class SlurmSweepLauncher(SlurmLauncher):  # type: ignore[misc] # hydra-submitit-launcher is untyped
        """Submit each job of a sweep to SLURM, and wait for all of them."""

        def setup(self, *, config: DictConfig, **rest: Any) -> None:  # noqa: ANN401 - Hydra's own signature
            """Check the configuration before the sweep creates its folder."""
            require_a_task_for_each_device(config)
            super().setup(config=config, **rest)

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Submit the jobs as one array, wait, and return their results in order."""
            # Otherwise the other tasks of a job wait for a failed one. sbatch passes the variable on to srun.
            os.environ.setdefault("SLURM_KILL_BAD_EXIT", "1")
            sweep = Path(str(self.config.hydra.sweep.dir)).absolute()
            sweep.mkdir(parents=True, exist_ok=True)
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            jobs = self._executor().map_array(
                self,
                [list(overrides) for overrides in job_overrides],
                ["hydra.sweep.dir"] * len(numbers),
                numbers,
                [f"job_id_for_{number}" for number in numbers],
                [Singleton.get_state()] * len(numbers),
            )
            print(f"{len(jobs)} jobs are in SLURM's queue: {' '.join(job.job_id for job in jobs)}", file=sys.stderr)
            states = wait_for([job.job_id for job in jobs])
            return [
                result_of(job, states[job.job_id], sweep, number, filter_overrides(overrides))
                for job, number, overrides in zip(jobs, numbers, job_overrides, strict=True)
            ]

        def _executor(self) -> "submitit.AutoExecutor":
            import submitit

            values = dict(self.params)
            folder, timeouts = values.pop("submitit_folder"), values.pop("max_num_timeout")
            executor = submitit.AutoExecutor(cluster="slurm", folder=folder, slurm_max_num_timeout=timeouts)
            shared = {"submitit_folder", *BaseQueueConf.__dataclass_fields__}
            executor.update_parameters(
                **{key if key in shared else f"slurm_{key}": value for key, value in values.items()}
            )
            return executor
