"""A callback with which one of several processes fails."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
from torch.distributed import TCPStore  # type: ignore[attr-defined] # torch does not list it


class FailingRank(pl.Callback):
    """Fail in a step, and say when in the file `failed`.

    Args:
        rank: of the process that fails.
        how: `raise` an error, or `kill` itself while the others are in the midst of the step, `busy` for five minutes,
            or `deaf` for as long, in a call that no signal interrupts.
        step: from 0; one that there is not fails nobody.
    """

    def __init__(self, rank: int, how: str, step: int = 1) -> None:
        self.rank = rank
        self.how = how
        self.step = step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, step: int
    ) -> None:
        if step != self.step:
            return
        if trainer.global_rank != self.rank:
            until = time.monotonic() + 300
            while self.how == "busy" and time.monotonic() < until:
                sum(range(1000))
            if self.how == "deaf":
                TCPStore("127.0.0.1", 0, world_size=2, is_master=True, timeout=timedelta(seconds=300))
            return
        Path("failed").write_text(str(time.time()), encoding="utf-8")
        if self.how == "raise":
            raise ZeroDivisionError(f"nothing is left on rank {self.rank}")
        os.kill(os.getpid(), signal.SIGKILL)


class FailingStart(pl.Callback):
    """Kill its process before that can join the others.

    Args:
        rank: of the process; one that there is not kills nobody.
    """

    def __init__(self, rank: int) -> None:
        if int(os.environ.get("LOCAL_RANK", "0")) == rank:
            os.kill(os.getpid(), signal.SIGKILL)
