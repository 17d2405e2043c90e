"""Tell when a stage of the curriculum begins."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from nodule_lightning.training.module import NoduleDetector


class StageLine(Callback):
    """Log one line for each stage as it begins, or as a run goes on within it; none where there is only one stage."""

    def __init__(self) -> None:
        self._said: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._said = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line."""
        assert isinstance(pl_module, NoduleDetector)
        curriculum = pl_module.curriculum
        place = curriculum.index(trainer.current_epoch)
        if place == self._said or len(curriculum.stages) == 1:
            return
        self._said = place
        stages, name = len(curriculum.stages), curriculum.names[place]
        rank_zero_info(f"epoch {trainer.current_epoch + 1}: stage {place + 1} of {stages}, {name}")
