"""Keep a moving average of the weights: it is what is validated, saved and predicted with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from nodule_lightning.errors import InputError


class WeightAverage(WeightAveraging):
    """Average the weights and the statistics of batch norm exponentially, step by step.

    The decay begins low, at (1 + n) / (10 + n) after n steps, so that the average of a short training is not held back
    by what the network knew at its start.

    A checkpoint holds the average as `state_dict`, and the weights that training goes on from as
    `current_model_state`.

    Args:
        decay: the largest; of 0.999, the average reaches back about 1000 steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"the decay of the weights' average must lie in [0, 1), not {decay}", "argument-invalid")
        self.decay = decay
        super().__init__(multi_avg_fn=self._update)

    @torch.no_grad()
    def _update(self, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        """Update tensors of one type."""
        share = 1 - min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        for average, value in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow the model to its device: the average was made before the model went there."""
        if self._average_model is not None:
            self._average_model.to(pl_module.device)


@contextmanager
def averaged_weights(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Let the module have its averaged weights for a while, where the trainer keeps an average."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    for average in averages:
        average.on_validation_epoch_start(trainer, pl_module)
    try:
        yield
    finally:
        for average in averages:
            average.on_validation_epoch_end(trainer, pl_module)
