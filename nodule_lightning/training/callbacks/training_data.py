"""Pictures of the training data at the start of each stage: sampled nodule sizes and augmented patches."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.patches import PatchBatch, PatchDataset, collate
from nodule_lightning.data.size_distribution import count_sizes
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.io.run_folder import AUGMENTATION, SAMPLING
from nodule_lightning.report.augmentation_figure import draw_augmentations
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.size_distribution_figure import draw_size_distribution


class TrainingData(Callback):
    """Write `sampling.csv`, `sampling.png` and `augmentation.png` into the run's folder, and log the pictures to wandb.

    The sizes are those drawn in the first epoch of a stage, mined patches included. In a curriculum with several stages
    each has its own files, such as `sampling_plain.png`. A run that resumes within a stage leaves them unchanged.

    Args:
        folder: the run's folder.
        patches: number of patches shown before and after augmentation; 0 keeps pictures of scans out of the folder and
            wandb.

    Raises:
        InputError: `patches` is negative.
    """

    def __init__(self, folder: Path | str, patches: int = 4) -> None:
        if patches < 0:
            raise InputError(f"patches must not be negative, not {patches}; 0 shows none", "argument-invalid")
        self.folder = Path(folder)
        self.patches = patches

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the pictures if a stage begins with this epoch."""
        loader, epoch = trainer.train_dataloader, trainer.current_epoch
        if not trainer.is_global_zero or not isinstance(loader, DataLoader):
            return
        sampler, dataset, augment = loader.sampler, loader.dataset, pl_module.augment
        if not isinstance(sampler, CurriculumSampler) or not isinstance(dataset, PatchDataset):
            return
        if sampler.curriculum.begins_at(epoch) and isinstance(augment, Augment):
            try:
                self.show(sampler, dataset, augment, epoch, trainer.loggers, trainer.global_step)
            except (InputError, OSError) as error:
                # A failed picture must not end a training.
                rank_zero_warn(f"the pictures of the training data could not be written: {error}")

    def show(
        self,
        sampler: CurriculumSampler,
        dataset: PatchDataset,
        augment: Augment,
        epoch: int = 0,
        loggers: Sequence[Logger] = (),
        step: int = 0,
    ) -> None:
        """Draw the nodule sizes of an epoch and, for epoch 0, some nodules before and after each augmentation."""
        curriculum = sampler.curriculum
        place = curriculum.index(epoch)
        name = SAMPLING if len(curriculum.stages) == 1 else f"{SAMPLING}_{curriculum.names[place]}"
        there_mm = np.concatenate([np.zeros(0), *sampler.diameter_mm])
        sizes = count_sizes(there_mm, sampler.drawn_mm(epoch), curriculum.stages[place].sampler.edges_mm)
        write_whole(self.folder / f"{name}.csv", sizes.to_csv())
        self._keep(name, draw_size_distribution(sizes), loggers, step)
        draws = [draw for draw in sampler.draw_epoch(epoch) if draw.finding_index >= 0][: self.patches]
        if epoch == 0 and draws:
            cut = collate([dataset[draw] for draw in draws])
            rows = augmented_rows(cut, augment, sampler.seed)
            self._keep(AUGMENTATION, draw_augmentations(cut, rows), loggers, step)

    def _keep(self, name: str, figure: Figure, loggers: Sequence[Logger], step: int) -> None:
        png = to_png(figure)
        write_whole(self.folder / f"{name}.png", png)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"training_data/{name}", [PIL.Image.open(BytesIO(png))], step)


def augmented_rows(cut: PatchBatch, augment: Augment, seed: int) -> dict[str, AugmentedBatch]:
    """Return the patches as cut, after each augmentation alone, and after all of them, by name.

    This runs on the CPU with a separate generator, so the training draws the same numbers with and without it.
    """
    parts = {"as cut": Augment(mirror_axes=()), **augment.parts()}
    chosen = {**parts, "all together": augment} if len(parts) > 2 else parts
    return {name: part(cut, torch.Generator().manual_seed(seed)) for name, part in chosen.items()}
