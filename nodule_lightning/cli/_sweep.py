"""Failed jobs of a sweep: each leaves a note in the sweep's folder, and the end of the sweep lists them.

Jobs may run in other processes or on other machines, so each note is a file, `failed/NUMBER.txt`.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from nodule_lightning.cli._errors import one_line, user_message
from nodule_lightning.config.instantiate import as_written

FAILED: Final = "failed"

# Folders of the sweeps that this process started; Hydra passes them only to callbacks.
_folders: list[Path] = []


class SweepJobs(Callback):
    """Remove the notes of an earlier sweep in the same folder, and of an earlier start of the same job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's own signature
        """Store the folder of the sweep, and remove the notes in it."""
        _folders.append(Path(config.hydra.sweep.dir).absolute())
        for path in _notes(_folders[-1]):
            path.unlink()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's own signature
        """Remove the job's own note: SLURM may have requeued the job, for example after a node failure."""
        if is_swept():
            _note(Path(config.hydra.sweep.dir), config.hydra.job.num).unlink(missing_ok=True)


def is_swept() -> bool:
    """Check whether the running job belongs to a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def fail_job(error: Exception) -> None:
    """Print and note why the running job of a sweep failed.

    A process that is one of several tasks of a SLURM job exits with code 1: Hydra would exit with 0, and the other
    tasks would wait for it.
    """
    if (why := user_message(error)) is None:
        traceback.print_exception(error)
        why = f"{type(error).__name__}: {error}"
    settings = HydraConfig.get()
    line = note_failure(Path(settings.sweep.dir), settings.job.num, as_written(settings.overrides.task), why)
    print(f"error: {line}", file=sys.stderr)
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        sys.exit(1)


def note_failure(folder: Path, number: int, overrides: Sequence[str], why: str) -> str:
    """Write a note about a failed job to the sweep's folder, and return its line.

    If several processes of a job fail, only the first writes a note, because the others fail as a consequence. On a
    full disk there is no note.

    Args:
        folder: the sweep's folder.
        number: the job's number.
        overrides: the job's overrides.
        why: the reason, in any number of lines.
    """
    line = f"job {number} ({' '.join(overrides)}) failed: {one_line(why)}"
    note = _note(folder, number)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with note.open("x", encoding="utf-8") as file:
            file.write(f"{line}\n")
    return line


def read_failure_note(folder: Path, number: int) -> str | None:
    """Return the note about a job of a sweep; None if there is none."""
    note = _note(folder, number)
    # On a full disk the note is empty.
    return (note.exists() and _read(note)) or None


def sweep_folder() -> Path | None:
    """Return the folder of the sweep that this process started; None if it started none."""
    return _folders[-1] if _folders else None


def failures() -> list[str]:
    """Return the notes of this process's last sweep in the order of its jobs, once only."""
    return [line for path in _notes(_folders.pop()) if (line := _read(path))] if _folders else []


def _note(folder: Path, number: int) -> Path:
    return folder / FAILED / f"{number}.txt"


def _read(note: Path) -> str:
    return note.read_text(encoding="utf-8").strip()


def _notes(folder: Path) -> list[Path]:
    return sorted((folder / FAILED).glob("*.txt"), key=lambda path: (len(path.name), path.name))
