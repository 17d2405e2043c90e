"""The share of validation in the duration of a fit."""

import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info


class ValidationShare(Callback):
    """Measure the time spent in validation, and log its share when the fit ends.

    Attributes:
        seconds: time spent in validation so far.
        total_seconds: duration of the fit, once it has ended.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.total_seconds = 0.0
        self._fit_began = 0.0
        self._validation_began = 0.0

    @property
    def share(self) -> float:
        """Share of validation in the duration of the fit, in 0..1."""
        return self.seconds / max(self.total_seconds, 1e-9)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.seconds = 0.0
        self._fit_began = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record when the validation began."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the duration of this validation."""
        self.seconds += time.perf_counter() - self._validation_began

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the share."""
        self.total_seconds = time.perf_counter() - self._fit_began
        rank_zero_info(
            f"validation took {self.seconds:.0f} s of {self.total_seconds:.0f} s of training ({self.share:.0%})"
        )
