"""Functions that `launch` runs in its processes."""

import errno
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined] # torch does not list it

from nodule_lightning.errors import InputError


def rank() -> int:
    return int(os.environ["RANK"])


def give(text: str) -> tuple[str, str, str, str]:
    return text, os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["OMP_NUM_THREADS"]


def refuse() -> None:
    raise InputError(f"rank {rank()} takes no such file", "file-foreign")


def divide() -> float:
    return 1 / 0


def fill_the_disk() -> None:
    try:
        raise OSError(errno.ENOSPC, "no space", "/full")
    except OSError as error:
        raise RuntimeError("could not write") from error


def leave() -> None:
    if rank() == 1:
        os._exit(3)
    time.sleep(120)


def kill(how: str) -> None:
    """Kill the second process while the first one sleeps, is busy, waits in C, or waits for it and fails thereby."""
    if how == "joined":
        distributed.init_process_group("gloo")
    if rank() == 1:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    until = time.monotonic() + 120
    if how == "joined":
        distributed.barrier()
    if how == "deaf":
        TCPStore("127.0.0.1", 0, world_size=2, is_master=True, timeout=timedelta(seconds=120))
    while how == "busy" and time.monotonic() < until:
        sum(range(1000))
    time.sleep(120)


def note_and_sleep(folder: Path) -> None:
    (folder / str(rank())).write_text(str(os.getpid()))
    time.sleep(120)
