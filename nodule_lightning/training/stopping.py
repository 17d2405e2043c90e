"""Clean stops by Ctrl-C, SIGTERM or a full disk, with the command that continues the training."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nodule_lightning.errors import IncompleteError, full_disk

_DEFAULTS: Final[dict[signal.Signals, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextmanager
def stopped_once() -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into an exception, and ignore later ones, which would disturb the clean-up.

    Signals that already have a handler, such as submitit's on a cluster, keep it; ignored ones stay ignored.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM, with the exit code 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number, default in _DEFAULTS.items() if signal.getsignal(number) == default]
    stopped = False

    # SIG_IGN after the first signal would not last: Lightning restores each handler when the fit ends.
    def stop(number: int, _: object) -> None:
        nonlocal stopped
        if stopped:
            return
        stopped = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, _DEFAULTS[number])


@contextmanager
def explain_stop(checkpoint: Path, command: Callable[[], str]) -> Iterator[None]:
    """When a training stops, print which checkpoint is left and how to continue.

    Args:
        checkpoint: the last checkpoint of the run, which may not exist.
        command: returns the command that continues or restarts the run; called after the stop.

    Raises:
        IncompleteError: the disk is full; the message names the folder and the command.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        print(f"stopped; {_kept(checkpoint)}. {_instruction(end, command())}", file=sys.stderr)
        raise
    except Exception as error:
        if (full := full_disk(error)) is None:
            raise
        # Another disk may be the full one, such as that of the temporary folder.
        place = full.filename or checkpoint.parent.parent
        raise IncompleteError(
            f"nothing more can be written to {place}: {full.strerror}; {_kept(checkpoint)}. Make room. Continue with "
            f"{command()}"
        ) from None


def _kept(checkpoint: Path) -> str:
    return f"{checkpoint} holds the training so far" if checkpoint.exists() else "there is no checkpoint yet"


def _instruction(end: BaseException, command: str) -> str:
    # Lightning turns Ctrl-C into an exit.
    by_signal = isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt)
    if "SUBMITIT_EXECUTOR" in os.environ and by_signal:
        return "SLURM requeues the job, which continues from there"
    return f"Continue with\n  {command}"
