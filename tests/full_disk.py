"""A disk that is full when a checkpoint is written."""

import os
from pathlib import Path

import pytorch_lightning as pl

from nodule_lightning import checkpoint_io


def fill_disk() -> None:
    """Lead every checkpoint that is written from now on to the kernel's own device that takes no byte."""

    def lead_away(folder: Path, name: str) -> list[Path]:
        (folder / f".{name}.{os.getpid()}").symlink_to("/dev/full")
        return []

    vars(checkpoint_io)["drafts_of"] = lead_away


class FullDisk(pl.Callback):
    """Fill the disk once an epoch has begun.

    Args:
        epoch: from 0.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            fill_disk()
