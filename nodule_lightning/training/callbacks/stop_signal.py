"""SIGTERM during a fit: stop at once, but leave the signals of a cluster to their handlers."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

Handler = Callable[[int, FrameType | None], Any]

# submitit requeues its job on SIGUSR2.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR2)


class StopSignal(Callback):
    """Exit with code 143 on SIGTERM, unless the signal already had a handler before the fit.

    Stopping at once is safe, because a run resumes exactly from its last checkpoint. Lightning's own handler would wait
    for the end of the step and synchronise the ranks, which deadlocks if some of them are in another collective.

    Handlers of SIGTERM and SIGUSR2 that were installed before, such as submitit's on a cluster, stay in charge, and an
    ignored SIGTERM stays ignored. After such a signal the job is ending, so errors that follow from the exit of another
    process of the job are not reported as failures.
    """

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Handler] = {}
        self._ignored = False
        self._is_stopping = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Record the current handlers, before Lightning replaces that of SIGTERM."""
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        self._handlers = {number: handler for number, handler in found.items() if callable(handler)}
        self._ignored = found[signal.SIGTERM] == signal.SIG_IGN

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM; Lightning restores all handlers when the fit ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.SIGTERM not in self._handlers:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self._ignored else _stop)
        for number in self._handlers:
            signal.signal(number, self._forward)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Exit with code 143 if the job is ending and another process of it exited first."""
        if self._is_stopping and isinstance(exception, Exception):
            print("the job was told to stop, and another of its processes exited first", file=sys.stderr)
            _stop(signal.SIGTERM, None)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        try:
            self._handlers[signal.Signals(number)](number, frame)
        except Exception:
            # The handler refuses to requeue the job and raises the reason, which is a failure of its own.
            self._is_stopping = False
            raise


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
