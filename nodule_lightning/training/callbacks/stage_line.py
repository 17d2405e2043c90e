"""A log line at the start of each stage of the curriculum."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from nodule_lightning.training.module import NoduleDetector


class StageLine(Callback):
    """Log a line when a stage begins or a run resumes within it; nothing if the curriculum has one stage."""

    def __init__(self) -> None:
        self._logged: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset, so that each fit logs its first stage."""
        self._logged = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line if this epoch is in another stage than the last one logged."""
        assert isinstance(pl_module, NoduleDetector)
        curriculum = pl_module.curriculum
        place = curriculum.index(trainer.current_epoch)
        if place == self._logged or len(curriculum.stages) == 1:
            return
        self._logged = place
        stages, name = len(curriculum.stages), curriculum.names[place]
        rank_zero_info(f"epoch {trainer.current_epoch + 1}: stage {place + 1} of {stages}, {name}")
