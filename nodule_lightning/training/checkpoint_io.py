"""Atomic checkpoint writing: a killed process leaves the previous checkpoint intact."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from nodule_lightning.io.files import drafts_of, replacing


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a draft in the same folder, sync it to disk, then rename it over the previous one.

    Lightning writes to the temporary folder of the machine and moves the file. Across disks the move is a copy, and a
    kill during the copy leaves half a checkpoint and no older one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write the whole checkpoint, or leave the previous one untouched.

        Raises:
            InputError: the folder cannot be created or written to.
        """
        path = Path(path)
        # Only one process writes checkpoints, so these are large leftovers of killed ones.
        for draft in drafts_of(path.parent, path.name):
            draft.unlink(missing_ok=True)
        with replacing(path) as draft, draft.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch hides the disk's error behind its own complaint about a half-written archive.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.flush()
            os.fsync(file.fileno())
