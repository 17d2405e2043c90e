"""A log line after each validation, for log files, which show no progress bar."""

from collections.abc import Mapping

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor


class ValidationLine(Callback):
    """Log the epoch, the first process's mean loss since the previous line, and the score.

    Args:
        score: name of the logged metric to show.
    """

    def __init__(self, score: str = "val/froc") -> None:
        self.score = score
        self._total: Tensor | float = 0.0
        self._count = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Sum the losses on their device; reading them here would synchronise every step."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._total = self._total + loss.detach().float()
            self._count += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        parts = []
        if self._count:
            parts.append(f"loss {float(self._total) / self._count:.4f}")
            self._total, self._count = 0.0, 0
        if (score := trainer.callback_metrics.get(self.score)) is not None:
            parts.append(f"{self.score} {score.item():.4f}")
        rank_zero_info(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(parts)}")
