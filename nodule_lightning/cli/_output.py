"""Checks of the output location, before any work is done."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nodule_lightning.errors import InputError

# Jobs that differ only in their shard split one task, and write to one folder.
_SHARING: Final = "shard"


class SweptOutputs:
    """The output folders of a sweep's jobs, so that no job overwrites the results of another.

    This works only within one process: a launcher that runs jobs in separate processes bypasses it.
    """

    def __init__(self) -> None:
        self._jobs: dict[Path, Mapping[str, Any]] = {}

    def require_own(self, key: str, folder: Path, job: Mapping[str, Any]) -> None:
        """Refuse a folder that an earlier job wrote to, unless the two jobs differ only in their shard.

        Args:
            key: the setting that names the folder, for the message.
            folder: the output folder.
            job: the settings of the job.

        Raises:
            InputError: another job wrote to the folder.
        """
        work = {name: value for name, value in job.items() if name != _SHARING}
        if self._jobs.setdefault(folder.absolute(), work) != work:
            raise InputError(
                f"{key}={folder} holds what another job of this sweep wrote; give each job its own, "
                f"say {key}=\"'{folder}/\\${{hydra:job.num}}'\"",
                "output-refused",
            )


def require_writable(folder: Path) -> None:
    """Check that a folder can be created or written to, without creating it.

    Raises:
        InputError: the folder, or its nearest existing parent, is a file or not writable.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written: {existing} is a file; choose another output=", "output-refused")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written: no permission to write to {existing}; choose another output=",
            "output-refused",
        )
