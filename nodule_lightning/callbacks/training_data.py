"""Show at the start of a run what it is trained on: the sizes that are drawn, and patches as they are changed."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger
from torch.utils.data import DataLoader

from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.patches import PatchBatch, PatchDataset, collate
from nodule_lightning.data.sampler import PatchSampler
from nodule_lightning.data.size_distribution import count_sizes
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.report.augmentation_figure import draw_augmentations
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.size_distribution_figure import draw_size_distribution

SAMPLING, AUGMENTATION = "sampling", "augmentation"


class TrainingData(Callback):
    """Write `sampling.csv`, `sampling.png` and `augmentation.png` into the run's folder, and log the pictures to wandb.

    Args:
        folder: of the run.
        patches: shown as they are cut and changed; 0 keeps all pictures of scans out of the folder and of wandb.

    Raises:
        InputError: `patches` is negative.
    """

    def __init__(self, folder: Path | str, patches: int = 4) -> None:
        if patches < 0:
            raise InputError(f"patches must not be negative, not {patches}; 0 shows none")
        self.folder = Path(folder)
        self.patches = patches

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what the first process of the run is about to be served."""
        loader = trainer.train_dataloader
        if not trainer.is_global_zero or not isinstance(loader, DataLoader):
            return
        sampler, dataset, augment = loader.sampler, loader.dataset, pl_module.augment
        if not isinstance(sampler, CurriculumSampler) or not isinstance(dataset, PatchDataset):
            return
        if isinstance(augment, Augment):
            epoch = trainer.current_epoch
            self.show(sampler.of_epoch(epoch), dataset, augment, epoch, trainer.loggers)

    def show(
        self,
        sampler: PatchSampler,
        dataset: PatchDataset,
        augment: Augment,
        epoch: int = 0,
        loggers: Sequence[Logger] = (),
    ) -> None:
        """Draw the sizes of one epoch, and its first nodules before and after each change."""
        sizes = count_sizes(sampler.diameter_mm, sampler.drawn_mm(epoch), sampler.rule.edges_mm)
        write_whole(self.folder / f"{SAMPLING}.csv", sizes.to_csv())
        self._keep(SAMPLING, draw_size_distribution(sizes), loggers)
        if draws := sampler.nodule_draws(epoch, self.patches):
            cut = collate([dataset[draw] for draw in draws])
            rows = augmented_rows(cut, augment, sampler.seed)
            self._keep(AUGMENTATION, draw_augmentations(cut, rows), loggers)

    def _keep(self, name: str, figure: Figure, loggers: Sequence[Logger]) -> None:
        png = to_png(figure)
        write_whole(self.folder / f"{name}.png", png)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"training_data/{name}", [PIL.Image.open(BytesIO(png))])


def augmented_rows(cut: PatchBatch, augment: Augment, seed: int) -> dict[str, AugmentedBatch]:
    """Change patches by nothing, by each change alone, and by all together; on the CPU, with a generator of its own."""
    parts = {"as cut": Augment(mirror_axes=()), **augment.parts()}
    chosen = {**parts, "all together": augment} if len(parts) > 2 else parts
    return {name: part(cut, torch.Generator().manual_seed(seed)) for name, part in chosen.items()}
