"""A callback with which one of several processes fails."""

import os
import signal
import time
from pathlib import Path

import pytorch_lightning as pl


class FailingRank(pl.Callback):
    """Fail in a step, and say when in the file `failed`.

    Args:
        rank: of the process that fails.
        how: `raise` an error, `kill` itself, or kill itself while the others are `busy` for five minutes.
    """

    def __init__(self, rank: int, how: str) -> None:
        self.rank = rank
        self.how = how

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, step: int
    ) -> None:
        if step != 1:
            return
        if trainer.global_rank != self.rank:
            if self.how == "busy":
                time.sleep(300)
            return
        Path("failed").write_text(str(time.time()), encoding="utf-8")
        if self.how == "raise":
            raise ZeroDivisionError(f"nothing is left on rank {self.rank}")
        os.kill(os.getpid(), signal.SIGKILL)
