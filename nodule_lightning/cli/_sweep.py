"""Let a sweep go on past a job that fails, and tell at its end which did and why.

The jobs may run in processes or on machines of their own, so that each failure is a file in the sweep's folder.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from nodule_lightning.cli._errors import one_line
from nodule_lightning.config.instantiate import as_written
from nodule_lightning.errors import InputError

FAILED: Final = "failed"

# Those of this process; Hydra tells nobody else of them.
_begun: list[Path] = []


class JobError(Exception):
    """A job of a sweep has failed, and has said why."""


class SweepFolder(Callback):
    """Note where a sweep writes as it begins, forget what failed when it last ran there, and follow its jobs."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's own signature
        """Note the folder, and follow jobs on SLURM."""
        folder = Path(config.hydra.sweep.dir).absolute()
        _begun.append(folder)
        for path in _notes(folder):
            path.unlink()
        if str(config.hydra.launcher["_target_"]).endswith(".SlurmLauncher"):
            _launch_on_slurm(config, folder)


def _launch_on_slurm(config: DictConfig, folder: Path) -> None:
    from nodule_lightning.cli._slurm import end_with_the_first_task, follow_to_the_end, require_a_task_for_each_device

    try:
        require_a_task_for_each_device(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        # Hydra turns any exception of a callback into a warning.
        sys.exit(2)
    end_with_the_first_task()
    follow_to_the_end(folder)


def is_swept() -> bool:
    """Say whether the running job is one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def is_one_of_several_tasks() -> bool:
    """Say whether submitit runs the job in several tasks of SLURM, of which the running process is one."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def note_failure(why: str) -> JobError:
    """Note in the sweep's folder that the running job has failed; give the error that says so."""
    settings = HydraConfig.get()
    return note_failure_of(Path(settings.sweep.dir), settings.job.num, as_written(settings.overrides.task), why)


def note_failure_of(folder: Path, number: int, overrides: Sequence[str], why: str) -> JobError:
    """Note in a sweep's folder that its job of a number has failed; give the error that says so.

    Of several processes of a job that note something, the first knows the cause: the others follow from it. On a full
    disk there is no note, only the error.
    """
    line = f"job {number} ({' '.join(overrides)}) failed: {one_line(why)}"
    note = _note(folder, number)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with note.open("x", encoding="utf-8") as file:
            file.write(f"{line}\n")
    return JobError(line)


def noted_failure(folder: Path, number: int) -> JobError | None:
    """Give the error that is noted in a sweep's folder for its job of a number, None where there is none."""
    note = _note(folder, number)
    # A full disk leaves an empty one.
    return JobError(said) if note.exists() and (said := _read(note)) else None


def forget_failure() -> None:
    """Forget what the running job has noted before it was put into the queue again, as after the loss of a machine."""
    if is_swept():
        settings = HydraConfig.get()
        _note(Path(settings.sweep.dir), settings.job.num).unlink(missing_ok=True)


def begun_sweep() -> Path | None:
    """Give the folder of the sweep that this process has begun, if it is one."""
    return _begun[-1] if _begun else None


def failures() -> list[str]:
    """Give what the jobs of the sweep that this process has begun last have noted, in their order."""
    return [said for path in _notes(_begun.pop()) if (said := _read(path))] if _begun else []


def _note(folder: Path, number: int) -> Path:
    return folder / FAILED / f"{number}.txt"


def _read(note: Path) -> str:
    return note.read_text(encoding="utf-8").strip()


def _notes(folder: Path) -> list[Path]:
    return sorted((folder / FAILED).glob("*.txt"), key=lambda path: (len(path.name), path.name))
