"""The launcher of `hydra/launcher=slurm`: submitit's, which waits for each job until SLURM says that it is over.

submitit itself learns of a job's end from `sacct`, which not every cluster has, and stops waiting for the others as
soon as SLURM has killed one.
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
# Whatever else SLURM says of a job, it may still run, or run again.
OVER: Final = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
)  # fmt: skip
# These reasons to wait come and go as other jobs do.
USUAL: Final = ("None", "Priority", "Resources", "BeginTime", "Dependency")


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What SLURM's queue says of a job.

    Attributes:
        state: `PENDING`, `RUNNING`, or one of `OVER`, among others.
        reason: why it waits, or why it has ended.
    """

    state: str
    reason: str


def read_queue(text: str) -> dict[str, QueuedJob]:
    """Read what `squeue --format=%i|%T|%r` has printed, by the job's id."""
    rows = [line.strip().split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    # After a comma come the nodes that are not there at the moment.
    return {job: QueuedJob(state, reason.partition(",")[0]) for job, state, reason in rows}


def ask_queue() -> dict[str, QueuedJob] | None:
    """Ask SLURM for the user's jobs; None where it does not answer."""
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T|%r"]
    try:
        return read_queue(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
    except (OSError, subprocess.SubprocessError):
        return None


def wait_for(jobs: Sequence[str]) -> dict[str, str]:
    """Wait until SLURM has ended or forgotten each job; print once for each unusual reason which jobs wait.

    Returns:
        The last state of each job, by its id.
    """
    ended: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    pause_s = FIRST_POLL_S
    while len(ended) < len(jobs):
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
        if (queue := ask_queue()) is None:
            continue
        for job in set(jobs) - set(ended):
            found = queue.get(job, QueuedJob("no longer in the queue", "None"))
            if found.state in OVER or job not in queue:
                ended[job] = found.state.lower()
        waiting = {(queue[job].reason, job) for job in jobs if job in queue and queue[job].state == "PENDING"}
        new = sorted(pair for pair in waiting - told if pair[0] not in USUAL)
        told |= waiting
        for reason in dict.fromkeys(reason for reason, _ in new):
            names = " ".join(job for its_own, job in new if its_own == reason)
            print(f"note: SLURM does not start {names} yet: {reason} (scancel ends the wait)", file=sys.stderr)
    return ended


def require_a_task_for_each_device(config: DictConfig) -> None:
    """Refuse now what Lightning would refuse once the job has waited for its turn.

    Args:
        config: of the sweep; the values that it sweeps over are not looked at.

    Raises:
        InputError: the trainer wants other numbers of devices or nodes than the job has.
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
                "set both alike",
                "argument-conflict",
            )


def result_of(job: "submitit.Job[Any]", state: str, sweep: Path, number: int, overrides: Sequence[str]) -> JobReturn:
    """Read what a job that is over has returned; a job without a result has failed, and gets a note that says so."""
    from submitit.core.utils import pickle_load

    from nodule_lightning.cli._sweep import note_failure, noted_failure

    line = noted_failure(sweep, number)
    # The first of a job's processes has the result.
    paths = job.task(0).paths
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
    # Without the extra `sweeps` there is no such launcher.
    pass
else:

    class SlurmSweepLauncher(SlurmLauncher):  # type: ignore[misc] # it is not typed
        """Give each job of a sweep to SLURM, and wait for all of them."""

        def setup(self, *, config: DictConfig, **rest: Any) -> None:  # noqa: ANN401 - Hydra's own signature
            """Check the configuration before the sweep makes its folder."""
            require_a_task_for_each_device(config)
            super().setup(config=config, **rest)

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Submit the jobs as one array, wait, and return their results in order."""
            # Else the other tasks of a job would wait for one that has failed. sbatch passes it on to srun.
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
