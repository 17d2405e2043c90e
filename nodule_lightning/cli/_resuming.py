"""Go on with a training where it was stopped, and say how."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from nodule_lightning.cli._application import IncompleteError
from nodule_lightning.cli._checks import CHECKPOINTS
from nodule_lightning.cli._full_disk import full_disk
from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.cli._values import flag
from nodule_lightning.runs import SPLITS

if TYPE_CHECKING:
    import pytorch_lightning as pl


def resumes(config: DictConfig) -> bool:
    """Say whether the run is to go on: the user says so, or SLURM has put its job into the queue again."""
    return flag(config, "resume") or is_requeued()


def is_requeued() -> bool:
    """Say whether SLURM has put the job of this process into the queue again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def has_begun(folder: Path) -> bool:
    """Say whether a run has made anything in its folder that it can go on from, its first epoch perhaps."""
    from nodule_lightning.cli._rehearsal import PLACE

    # What a run makes first; killed in its rehearsal, it has no more.
    return any((folder / name).exists() for name in (PLACE, SPLITS, CHECKPOINTS))


@dataclass(slots=True)
class Progress:
    """How far a command has come.

    Attributes:
        trainer: of the run, once it is made.
    """

    trainer: "pl.Trainer | None" = None


@contextmanager
def told_how_to_go_on(checkpoint: Path) -> Iterator[Progress]:
    """Print the command that goes on, or begins anew, where Ctrl-C or SIGTERM stops a training or its preparation.

    Args:
        checkpoint: the last of the run, to be.

    Raises:
        IncompleteError: the disk is full; names that command.
    """
    progress = Progress()
    try:
        yield progress
    except (KeyboardInterrupt, SystemExit):
        if not rank_of_this_process():
            print(f"{_stopped(progress.trainer, checkpoint)}. {_how_to_go_on(checkpoint)}", file=sys.stderr)
        raise
    except Exception as error:
        if (why := full_disk(error)) is None:
            raise
        raise IncompleteError(
            f"nothing more can be written to {checkpoint.parent.parent}: {why}; "
            f"{_stopped(progress.trainer, checkpoint)}. Make room. {_how_to_go_on(checkpoint)}"
        ) from None


def rank_of_this_process() -> int:
    """Give the rank among the processes of this job, by what has started them: no trainer need be there yet."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def _stopped(trainer: "pl.Trainer | None", checkpoint: Path) -> str:
    kept = f"{checkpoint} holds what was done before" if checkpoint.exists() else "there is no checkpoint yet"
    if trainer is None or trainer.state.fn is None:
        return f"stopped before the first step; {kept}"
    if trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs:
        return f"stopped after the last epoch; {kept}"
    return f"stopped in epoch {trainer.current_epoch + 1}; {kept}"


def _how_to_go_on(checkpoint: Path) -> str:
    if "SUBMITIT_EXECUTOR" not in os.environ:
        goes_on = is_swept() or has_begun(checkpoint.parent.parent)
        return f"{'Go on' if goes_on else 'Begin anew'} with\n  {command_to_go_on(resume=goes_on)}"
    if isinstance(sys.exception(), SystemExit):
        return "The job is in the queue again, and goes on from there"
    return "Go on with the command of the sweep and resume=true"


def command_to_go_on(*, resume: bool = True) -> str:
    """Give the running command with the folder named, and `resume=true` where it has begun, as a shell reads it."""
    settings = HydraConfig.get()
    key, folder = ("paths.sweep", settings.sweep.dir) if is_swept() else ("paths.run", settings.runtime.output_dir)
    replaced = (f"{key}=", "resume=")
    arguments = [argument for argument in sys.argv[1:] if not argument.lstrip("+").startswith(replaced)]
    named = QuotedString(os.path.relpath(folder), Quote.single).with_quotes()
    return shlex.join([Path(sys.argv[0]).name, *arguments, f"{key}={named}", *(["resume=true"] if resume else [])])
