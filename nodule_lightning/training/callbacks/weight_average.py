"""A moving average of the weights, used for validation, the best checkpoint and prediction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from nodule_lightning.errors import InputError


class WeightAverage(WeightAveraging):
    """Exponential moving average of the weights and the batch norm statistics.

    The decay warms up as (1 + n) / (10 + n) after n steps, so that the initial weights do not dominate the average of a
    short training.

    A checkpoint holds the average as `state_dict`, and the current weights, from which training resumes, as
    `current_model_state`.

    Args:
        decay: upper limit of the decay, in [0, 1); 0.999 averages over about 1000 steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"the decay of the weights' average must lie in [0, 1), not {decay}", "argument-invalid")
        self.decay = decay
        super().__init__(multi_avg_fn=self._update)

    @torch.no_grad()
    def _update(self, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        """Update a group of tensors of the same device and dtype."""
        share = 1 - min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        for average, value in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average to the module's device: Lightning creates it before the module is moved.

        `_average_model` has no public accessor, and the constructor's `device` is resolved before the device is known.
        """
        if self._average_model is not None:
            self._average_model.to(pl_module.device)


@contextmanager
def averaged_weights(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Use the averaged weights inside the context, if the trainer has a weight averaging callback."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    for average in averages:
        average.on_validation_epoch_start(trainer, pl_module)
    try:
        yield
    finally:
        for average in averages:
            average.on_validation_epoch_end(trainer, pl_module)
