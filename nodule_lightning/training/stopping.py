"""Let Ctrl-C, SIGTERM and a full disk stop a training at any time, once, and say how to go on."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString

from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.config.quoting import as_typed
from nodule_lightning.errors import IncompleteError, full_disk
from nodule_lightning.training.resuming import has_begun

if TYPE_CHECKING:
    import pytorch_lightning as pl

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


@dataclass(slots=True)
class Progress:
    """How far a command has come.

    Attributes:
        trainer: of the run, once it is made.
    """

    trainer: "pl.Trainer | None" = None


@contextmanager
def told_how_to_go_on(checkpoint: Path, path_keys: Sequence[str]) -> Iterator[Progress]:
    """Print the command that goes on, or begins anew, where Ctrl-C or SIGTERM stops a training or its preparation.

    Args:
        checkpoint: the last of the run, to be.
        path_keys: the arguments that are paths.

    Raises:
        IncompleteError: the disk is full; names that command.
    """
    progress = Progress()
    try:
        yield progress
    except (KeyboardInterrupt, SystemExit):
        if not _rank():
            print(f"{_stopped(progress.trainer, checkpoint)}. {_how_to_go_on(checkpoint, path_keys)}", file=sys.stderr)
        raise
    except Exception as error:
        if (full := full_disk(error)) is None:
            raise
        # What the system knows of the place, the folder for temporary files perhaps.
        raise IncompleteError(
            f"nothing more can be written to {full.filename or checkpoint.parent.parent}: {full.strerror}; "
            f"{_stopped(progress.trainer, checkpoint)}. Make room. {_how_to_go_on(checkpoint, path_keys)}"
        ) from None


def _rank() -> int:
    """Give the rank among the processes of this job, by what has started them: no trainer need be there yet."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def _stopped(trainer: "pl.Trainer | None", checkpoint: Path) -> str:
    kept = f"{checkpoint} holds what was done before" if checkpoint.exists() else "there is no checkpoint yet"
    if trainer is None or not trainer.fit_loop.epoch_progress.total.ready:
        return f"stopped before the first step; {kept}"
    if trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs:
        return f"stopped after the last epoch; {kept}"
    return f"stopped in epoch {trainer.current_epoch + 1}; {kept}"


def _how_to_go_on(checkpoint: Path, path_keys: Sequence[str]) -> str:
    if "SUBMITIT_EXECUTOR" not in os.environ:
        goes_on = is_swept() or has_begun(checkpoint.parent.parent)
        return f"{'Go on' if goes_on else 'Begin anew'} with\n  {_command_to_go_on(path_keys, resume=goes_on)}"
    end = sys.exception()
    # Lightning turns Ctrl-C into an exit.
    if isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt):
        return "The job is in the queue again, and goes on from there"
    return "Go on with the command of the sweep and resume=true"


def _command_to_go_on(path_keys: Sequence[str], *, resume: bool) -> str:
    """Give the running command with the folder named, and `resume=true` where it has begun, as a shell reads it."""
    settings = HydraConfig.get()
    key, folder = ("paths.sweep", settings.sweep.dir) if is_swept() else ("paths.run", settings.runtime.output_dir)
    replaced = (f"{key}=", "resume=")
    arguments = [argument for argument in sys.argv[1:] if not argument.lstrip("+").startswith(replaced)]
    named = f"{key}={QuotedString(os.path.relpath(folder), Quote.single).with_quotes()}"
    typed = as_typed([*arguments, named], path_keys)
    return shlex.join([Path(sys.argv[0]).name, *typed, *(["resume=true"] if resume else [])])
