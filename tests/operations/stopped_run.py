"""Callbacks that stop their own process in the midst of something, or let others stop it."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from nodule_lightning.training import record
from nodule_lightning.training.callbacks import scan_mining


class StoppedRun(pl.Callback):
    """Send this process, if it is the first, a signal at a moment of a kind.

    A checkpoint that is being written is stopped by the kernel, after half a megabyte: SIGXFSZ ends a process as rudely
    as SIGKILL.

    Args:
        where: `making` this callback, `step`, `validation`, `writing` or `mining`.
        number: of the moment among those of its kind in this process, from 1.
        by: name of the signal.
        again: send it once more, while the record of the run is written.
    """

    def __init__(self, where: str, number: int, by: str = "SIGKILL", again: bool = False) -> None:
        self.where = where
        self.left = number
        self.by = by
        self.again = again
        self._reach("making")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        write: Callable[..., None] = vars(record)["write_record"]

        def write_disturbed(*arguments: object) -> None:
            os.kill(os.getpid(), signal.Signals[self.by])
            write(*arguments)

        if self.again:
            vars(record)["write_record"] = write_disturbed
        search: Callable[..., object] = vars(scan_mining)["detect"]

        def detect(*arguments: object) -> object:
            self._reach("mining")
            return search(*arguments)

        vars(scan_mining)["detect"] = detect

    def on_before_optimizer_step(self, *_: object) -> None:
        self._reach("step")

    def on_validation_batch_start(self, *_: object) -> None:
        self._reach("validation")

    def on_save_checkpoint(self, *_: object) -> None:
        self._reach("writing")

    def _reach(self, where: str) -> None:
        self.left -= where == self.where
        if self.left or where != self.where or getattr(rank_zero_only, "rank", 0):
            return
        if where != "writing":
            # Users stop the command, which has launched this process where there are several.
            os.kill(os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else os.getpid(), signal.Signals[self.by])
            return
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


class SlowStart(pl.Callback):
    """Let the second process take some seconds before it joins the first, and say so in the file `starting.txt`."""

    def __init__(self) -> None:
        if os.environ.get("LOCAL_RANK") == "1":
            Path("starting.txt").touch()
            time.sleep(5)
