"""Let Lightning start the other processes of a job, one for each device, also where the job is one of a sweep.

Lightning starts them by the command line of this process. In a sweep that is the whole sweep: each child would run
all jobs again, in another folder. Here the command line is that of the one job for as long as it trains, and
afterwards nothing is left that would make the next job take itself for a child.

None of them outlives the others: each process that Lightning has started ends with the one that started it, and that
one waits for all of them. Only the first writes files.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import Node, OmegaConf, read_write

from nodule_lightning.cli._instantiate import as_written
from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

# Which process has started this one.
_STARTED_BY: Final = "NODULE_TRAIN_STARTED_BY"
# What Lightning tells its children by, and finds again in the next job of this process.
_RENDEZVOUS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# A child that has failed needs this long to say so.
_PATIENCE_S: Final = 20.0
_WATCH_EVERY_S: Final = 1.0


def write_files_in_the_first_process_only() -> None:
    """Close the log file of each process but the first of a job, whoever has started them."""
    from pytorch_lightning.utilities import rank_zero_only

    # Lightning's decorator knows it from whatever has started the process.
    if not getattr(rank_zero_only, "rank", 0):
        return
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
            handler.close()


def require_startable(trainer: "pl.Trainer") -> None:
    """Refuse a job of several processes where Lightning would start them by a command line that is not this command's.

    Raises:
        InputError: a launcher other than Hydra's own has begun the job, in a process of that launcher.
    """
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    settings, launcher = HydraConfig.get(), trainer.strategy.launcher
    own = str(settings.launcher["_target_"]).endswith(".BasicLauncher")
    started_here = (
        isinstance(launcher, _SubprocessScriptLauncher)
        and launcher.num_processes > 1
        and not launcher.cluster_environment.creates_processes_externally
    )
    if is_swept() and started_here and not own:
        raise InputError(
            f"hydra/launcher={settings.runtime.choices['hydra/launcher']} runs each job in one process, and this one "
            f"needs {trainer.world_size}: leave the launcher out, so that the jobs come one after the other, or set "
            "trainer.devices=1"
        )


@contextmanager
def child_processes_of_this_job(trainer: "pl.Trainer") -> Iterator[None]:
    """Hold the command line of the running Hydra job; leave no process, no process group and no rank behind."""
    given = sys.argv
    # Set by torchrun or a cluster, they are not Lightning's and stay.
    own = [name for name in _RENDEZVOUS if name not in os.environ]
    sys.argv = [given[0], *_arguments()]
    _name_folder()
    # That one may be gone before this one has come here, and whatever else inherits the variable is no child.
    if _STARTED_BY in os.environ and int(os.environ.get("LOCAL_RANK", "0")):
        Thread(target=_end_with, args=(int(os.environ[_STARTED_BY]),), daemon=True).start()
    os.environ[_STARTED_BY] = str(os.getpid())
    try:
        yield
    finally:
        sys.argv = given
        _destroy_process_group()
        stopped = isinstance(sys.exception(), (KeyboardInterrupt, SystemExit))
        _see_the_end_of(trainer, 0.0 if stopped else _PATIENCE_S)
        for name in (*own, _STARTED_BY):
            os.environ.pop(name, None)


def _arguments() -> list[str]:
    """Give the arguments that compose this job's configuration in a process of its own."""
    settings = HydraConfig.get()
    folders = [source.path for source in settings.runtime.config_sources if source.provider == "command-line"]
    flags = ["--config-name", str(settings.job.config_name)]
    for folder in folders:
        flags += ["--config-dir", str(folder)]
    replaced = ("hydra.mode=", "hydra.run.")
    others = [text for text in settings.overrides.hydra if not text.lstrip("+").startswith(replaced)]
    number = [] if OmegaConf.is_missing(settings.job, "num") else [f"hydra.job.num={settings.job.num}"]
    return [*flags, *others, *number, *as_written(settings.overrides.task)]


def _name_folder() -> None:
    """Say the job's own folder where Lightning looks for it, so that it is right between Lightning's double quotes."""
    settings = HydraConfig.get()
    # The node is declared as the dataclass that it was made from.
    with read_write(cast(Node, settings)):
        settings.run.dir = QuotedString(settings.runtime.output_dir, Quote.double).with_quotes()[1:-1]


def _destroy_process_group() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: over NCCL it would wait for that one for ever."""
    while os.getppid() == parent:
        time.sleep(_WATCH_EVERY_S)
    print("error: the first process of this job is gone, and this one ends with it", file=sys.stderr, flush=True)
    os._exit(1)


def _see_the_end_of(trainer: "pl.Trainer", patience_s: float) -> None:
    """Wait for all of the children and tell which of them have failed; kill those that take longer."""
    procs: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    children = list(procs)
    # Lightning's watch over them kills this process where one has failed, and with it the other jobs of a sweep.
    procs.clear()
    until = time.monotonic() + patience_s
    for rank, child in enumerate(children, start=1):
        try:
            code = child.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait() if patience_s else 0
        if code:
            print(f"error: process {rank} of this job has ended with code {code}", file=sys.stderr, flush=True)
