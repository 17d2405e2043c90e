"""Callbacks that hold a job in the midst of an epoch until SLURM ends it, or fail in one of its processes."""

import os
import time

import pytorch_lightning as pl

from nodule_lightning.errors import InputError


class HeldRun(pl.Callback):
    """Hold the first process, for which the others then wait, unless SLURM has put the job into the queue again.

    Args:
        epoch: in which the job is held, from 0; one that there is not holds none.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        begun_anew = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        while trainer.is_global_zero and trainer.current_epoch == self.epoch and not begun_anew:
            time.sleep(0.1)


class FirstProcessFails(pl.Callback):
    """Fail in the first process alone, for which the others then wait.

    Args:
        place: `making` this callback, which is before the processes join each other, `training` or `nowhere`.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        if place == "making" and os.environ["SLURM_PROCID"] == "0":
            raise InputError("out of luck", "argument-invalid")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.is_global_zero and self.place == "training":
            raise RuntimeError("out of luck")
