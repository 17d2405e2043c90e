"""Go on with a training where it was stopped, and say how."""

import errno
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from nodule_lightning.cli._application import IncompleteError
from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.cli._values import flag
from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

# The disk, what the user may have of it, or the file.
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def resumes(config: DictConfig) -> bool:
    """Say whether the run is to go on: the user says so, or SLURM has put its job into the queue again."""
    return flag(config, "resume") or is_requeued()


def is_requeued() -> bool:
    """Say whether SLURM has put the job of this process into the queue again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


@contextmanager
def told_how_to_go_on(trainer: "pl.Trainer", checkpoint: Path) -> Iterator[None]:
    """Print the command that goes on, where Ctrl-C or SIGTERM stops the training.

    Raises:
        IncompleteError: the disk is full; names that command.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if trainer.is_global_zero:
            print(f"{_stopped(trainer, checkpoint)}. {_how_to_go_on()}", file=sys.stderr)
        raise
    except (OSError, InputError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        why = f"nothing more can be written to {checkpoint.parent.parent}: {cause.strerror}"
        raise IncompleteError(f"{why}; {_stopped(trainer, checkpoint)}. Make room. {_how_to_go_on()}") from None


def _stopped(trainer: "pl.Trainer", checkpoint: Path) -> str:
    kept = f"{checkpoint} holds what was done before" if checkpoint.exists() else "there is no checkpoint yet"
    return f"stopped in epoch {trainer.current_epoch + 1}; {kept}"


def _how_to_go_on() -> str:
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return f"Go on with\n  {command_to_go_on()}"
    if isinstance(sys.exception(), SystemExit):
        return "The job is in the queue again, and goes on from there"
    return "Go on with the command of the sweep and resume=true"


def command_to_go_on() -> str:
    """Give the running command with the folder named and `resume=true`, as a shell reads it."""
    settings = HydraConfig.get()
    key, folder = ("paths.sweep", settings.sweep.dir) if is_swept() else ("paths.run", settings.runtime.output_dir)
    replaced = (f"{key}=", "resume=")
    arguments = [argument for argument in sys.argv[1:] if not argument.lstrip("+").startswith(replaced)]
    named = QuotedString(os.path.relpath(folder), Quote.single).with_quotes()
    return shlex.join([Path(sys.argv[0]).name, *arguments, f"{key}={named}", "resume=true"])
