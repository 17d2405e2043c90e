"""Let Ctrl-C and SIGTERM stop a command, at any time and once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_DEFAULTS: Final[dict[signal.Signals, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextmanager
def stopped_once() -> Iterator[None]:
    """Take Ctrl-C and SIGTERM where nobody else has: after the first, what is put in order does not hear of a second.

    Whoever insists is heard at the third.

    Who has taken one of them before, such as submitit on a cluster, keeps it, and one that is ignored stays so.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM, with the exit code 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number, default in _DEFAULTS.items() if signal.getsignal(number) == default]
    heard: list[int] = []

    # Ignoring the others would not do: Lightning gives each signal the handler that it had before the fit.
    def stop(number: int, _: object) -> None:
        heard.append(number)
        if len(heard) == 2:
            return
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
