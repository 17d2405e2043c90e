"""Let SIGTERM end a training as Ctrl-C does."""

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class StopSignal(Callback):
    """Stop at once, with the exit code 143, where nobody else has taken hold of SIGTERM before the fit began.

    What holds is the last checkpoint, from which the run goes on exactly. Lightning's own handler would wait for the
    end of the step and let the ranks meet in between, and those that are about to meet for something else never come.
    Who has taken hold before, such as submitit on a cluster, keeps it.
    """

    def __init__(self) -> None:
        self._before: signal.Handlers | object = signal.SIG_DFL

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look who has the signal, before Lightning takes it."""
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take it from Lightning, which gives it back to the first at the end of the fit."""
        if threading.current_thread() is not threading.main_thread():
            return
        taken = callable(self._before)
        signal.signal(signal.SIGTERM, self._before if taken else _stop)  # type: ignore[arg-type]


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
