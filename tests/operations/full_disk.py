"""A disk that is full at a moment of a training."""

import os
import resource
from pathlib import Path

import pytorch_lightning as pl

from nodule_lightning.training import checkpoint_io


def fill_disk() -> None:
    """Lead every checkpoint that is written from now on to the kernel's own device that takes no byte."""

    def lead_away(folder: Path, name: str) -> list[Path]:
        (folder / f".{name}.{os.getpid()}").symlink_to("/dev/full")
        return []

    vars(checkpoint_io)["drafts_of"] = lead_away


def let_no_file_grow() -> None:
    """Let the kernel refuse this process each byte that it writes to a file, whoever runs it."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))


class FullDisk(pl.Callback):
    """Fill the disk once a moment of a kind has come.

    Args:
        where: `checkpoint`, for which alone there is no room, `making` this callback, `step`,
            `validation`, `end` (after the last checkpoint), or `nowhere`.
        number: of the moment among those of its kind, from 1.
    """

    def __init__(self, where: str, number: int = 1) -> None:
        self.where = where
        self.left = number
        self._reach("making")

    def on_before_optimizer_step(self, *_: object) -> None:
        self._reach("step")

    def on_validation_start(self, *_: object) -> None:
        self._reach("validation")

    def on_save_checkpoint(self, *_: object) -> None:
        self._reach("checkpoint")

    def on_train_end(self, *_: object) -> None:
        self._reach("end")

    def _reach(self, where: str) -> None:
        self.left -= where == self.where
        if self.left or where != self.where:
            return
        if where == "checkpoint":
            fill_disk()
        else:
            let_no_file_grow()
