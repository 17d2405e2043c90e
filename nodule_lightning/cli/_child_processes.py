"""Let Lightning start the other processes of a job, one for each device, also where the job is one of a sweep.

Lightning starts them by the command line of this process. In a sweep that is the whole sweep: each child would run
all jobs again, in another folder. Here the command line is that of the one job for as long as it trains, and
afterwards nothing is left that would make the next job take itself for a child.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import Node, OmegaConf, read_write

from nodule_lightning.cli._instantiate import as_written

# What Lightning tells its children by, and finds again in the next job of this process.
_RENDEZVOUS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def child_processes_of_this_job() -> Iterator[None]:
    """Hold the command line of the running Hydra job; leave no process group and no rank behind."""
    given = sys.argv
    # Set by torchrun or a cluster, they are not Lightning's and stay.
    own = [name for name in _RENDEZVOUS if name not in os.environ]
    sys.argv = [given[0], *_arguments()]
    _name_folder()
    try:
        yield
    finally:
        sys.argv = given
        _destroy_process_group()
        for name in own:
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
