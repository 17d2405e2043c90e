"""What becomes of a sweep's jobs: each one that fails leaves a note in the sweep's folder, and the end lists them.

The jobs may run in other processes or on other machines, so that each note is a file, `failed/NUMBER.txt`.
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

from nodule_lightning.cli._errors import explained, one_line
from nodule_lightning.config.instantiate import as_written

FAILED: Final = "failed"

# The sweep that this process has begun; Hydra passes it to nobody else.
_folders: list[Path] = []


class SweepJobs(Callback):
    """Forget what an earlier sweep in the same folder, or an earlier start of the same job, has noted."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's own signature
        """Remember where the sweep writes, and remove the notes there."""
        _folders.append(Path(config.hydra.sweep.dir).absolute())
        for path in _notes(_folders[-1]):
            path.unlink()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ANN401 - Hydra's own signature
        """Remove the job's own note: SLURM may have queued the job again, say after its machine was lost."""
        if is_swept():
            _note(Path(config.hydra.sweep.dir), config.hydra.job.num).unlink(missing_ok=True)


def is_swept() -> bool:
    """Tell whether the running job is one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def fail_job(error: Exception) -> None:
    """Print and note why the running job of a sweep fails.

    Ends the process if it is one of several tasks of a job on SLURM: with an exit code of 0, which Hydra would give
    it, the other tasks would wait for it.
    """
    if (why := explained(error)) is None:
        traceback.print_exception(error)
        why = f"{type(error).__name__}: {error}"
    settings = HydraConfig.get()
    line = note_failure(Path(settings.sweep.dir), settings.job.num, as_written(settings.overrides.task), why)
    print(f"error: {line}", file=sys.stderr)
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        sys.exit(1)


def note_failure(folder: Path, number: int, overrides: Sequence[str], why: str) -> str:
    """Note in a sweep's folder why a job of it has failed, and return the line.

    Where several processes of a job note something, the first note stands: the others fail because of it. A full disk
    takes no note.

    Args:
        folder: of the sweep.
        number: of the job.
        overrides: its arguments.
        why: in any number of lines.
    """
    line = f"job {number} ({' '.join(overrides)}) failed: {one_line(why)}"
    note = _note(folder, number)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with note.open("x", encoding="utf-8") as file:
            file.write(f"{line}\n")
    return line


def noted_failure(folder: Path, number: int) -> str | None:
    """Read the note about a job of a sweep; None where there is none."""
    note = _note(folder, number)
    # A full disk leaves an empty one.
    return (note.exists() and _read(note)) or None


def sweep_folder() -> Path | None:
    """Return the folder of the sweep that this process has begun, if it has begun one."""
    return _folders[-1] if _folders else None


def failures() -> list[str]:
    """Return the notes of this process's last sweep, in the order of its jobs, and forget the sweep."""
    return [line for path in _notes(_folders.pop()) if (line := _read(path))] if _folders else []


def _note(folder: Path, number: int) -> Path:
    return folder / FAILED / f"{number}.txt"


def _read(note: Path) -> str:
    return note.read_text(encoding="utf-8").strip()


def _notes(folder: Path) -> list[Path]:
    return sorted((folder / FAILED).glob("*.txt"), key=lambda path: (len(path.name), path.name))
