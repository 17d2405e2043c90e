"""Let SIGTERM end a training as Ctrl-C does, and leave a cluster's signals to their owner."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

Handler = Callable[[int, FrameType | None], Any]

# submitit puts its job into the queue again at the second.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR2)


class StopSignal(Callback):
    """Stop at once, with the exit code 143, where nobody else has taken hold of SIGTERM before the fit began.

    What holds is the last checkpoint, from which the run goes on exactly. Lightning's own handler would wait for the
    end of the step and let the ranks meet in between, and those that are about to meet for something else never come.
    Who has taken hold of SIGTERM or SIGUSR2 before, such as submitit on a cluster, keeps it, and one that is ignored
    stays so. A process that one of them has reached knows that the job ends, and takes it for no failure that another
    process of the job goes first.
    """

    def __init__(self) -> None:
        self._owners: dict[signal.Signals, Handler] = {}
        self._ignored = False
        self._told = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look who has the signals, before Lightning takes one."""
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        self._owners = {number: handler for number, handler in found.items() if callable(handler)}
        self._ignored = found[signal.SIGTERM] == signal.SIG_IGN

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM from Lightning, which gives all signals back to the first at the end of the fit."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.SIGTERM not in self._owners:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self._ignored else _stop)
        for number in self._owners:
            signal.signal(number, self._tell)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave, with the exit code 143, where the job ends and another process of it went first."""
        if self._told and isinstance(exception, Exception):
            print("the job has been told to end, and another process of it went first", file=sys.stderr)
            _stop(signal.SIGTERM, None)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True
        try:
            self._owners[signal.Signals(number)](number, frame)
        except Exception:
            # The owner does not put the job into the queue again, and says why.
            self._told = False
            raise


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
