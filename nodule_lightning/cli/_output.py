"""Look at the place of the output before the work starts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nodule_lightning.errors import InputError

# The jobs that share one piece of work out among themselves write to one place.
_SHARING: Final = "shard"


class SweptOutputs:
    """The places that the jobs of one sweep write to, so that none takes another's results away.

    Jobs that a launcher runs in processes of their own do not know of each other.
    """

    def __init__(self) -> None:
        self._jobs: dict[Path, Mapping[str, Any]] = {}

    def require_own(self, key: str, folder: Path, job: Mapping[str, Any]) -> None:
        """Refuse a place that an earlier job wrote to, unless the two differ in nothing but their shard.

        Args:
            key: the setting that names the place, for the message.
            folder: the place.
            job: the settings of the job.

        Raises:
            InputError: the place is taken.
        """
        work = {name: value for name, value in job.items() if name != _SHARING}
        if self._jobs.setdefault(folder.absolute(), work) != work:
            raise InputError(
                f"{key}={folder} holds what another job of this sweep wrote; give each job its own, "
                f"say {key}=\"'{folder}/\\${{hydra:job.num}}'\"",
                "output-refused",
            )


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written into; nothing is made here.

    Raises:
        InputError: the folder, or the part of its path that exists, is a file or closed to the user.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be written: {existing} is a file; choose another output=", "output-refused")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written: {existing} is closed to you; choose another output=", "output-refused"
        )
