"""Write checkpoints so that a kill leaves the one before."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from nodule_lightning.io.files import drafts_of, replacing


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name, onto the disk, and only then put it in the place of the last one.

    Lightning writes to the machine's temporary folder and moves the file from there, which is a copy where that is
    another disk: killed in it, a run has half a checkpoint and no older one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write all of it or leave what was there.

        Raises:
            InputError: the folder cannot be made or written to.
        """
        path = Path(path)
        # Only one process of a run writes checkpoints: these are of killed ones, and as large.
        for draft in drafts_of(path.parent, path.name):
            draft.unlink(missing_ok=True)
        with replacing(path) as draft, draft.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # What the disk said, torch's archive hides behind a complaint of its own: it is left half-written.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.flush()
            os.fsync(file.fileno())
