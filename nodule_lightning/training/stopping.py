"""Let Ctrl-C, SIGTERM or a full disk stop a training, and print the command that continues it."""

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

    A signal that has a handler already, such as submitit's on a cluster, keeps it; one that is ignored stays ignored.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM, with the exit code 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number, default in _DEFAULTS.items() if signal.getsignal(number) == default]
    stopped = False

    # Setting the others to be ignored would not do: Lightning restores each signal's handler when the fit ends.
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
    """Say what a stopped training has kept, and how to continue it.

    Args:
        checkpoint: the last one of the run, which may not exist.
        command: gives the command that continues the run, or begins it again; asked once it has stopped.

    Raises:
        IncompleteError: the disk is full; names the disk and the command.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        print(f"stopped; {_kept(checkpoint)}. {_instruction(end, command())}", file=sys.stderr)
        raise
    except Exception as error:
        if (full := full_disk(error)) is None:
            raise
        # The full disk may be another one, that of the folder for temporary files for example.
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
        return "The job is in the queue again, and continues from there"
    return f"Continue with\n  {command}"
