"""Show at the start of a run what it is trained on: the sizes that are drawn, and patches as they are changed."""

from io import BytesIO
from pathlib import Path
from typing import Final

import PIL.Image
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch.utils.data import DataLoader

from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.patches import PatchDataset, collate
from nodule_lightning.data.sampler import PatchSampler
from nodule_lightning.data.size_distribution import count_sizes
from nodule_lightning.io.files import write_whole
from nodule_lightning.report.augmentation_figure import draw_augmentations
from nodule_lightning.report.canvas import to_png
from nodule_lightning.report.size_distribution_figure import draw_size_distribution

SHOWN_PATCHES: Final = 5


class TrainingData(Callback):
    """Write `sampling.csv`, `sampling.png` and `augmentation.png` into the run's folder, and log the pictures to wandb.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write; the other ranks go on."""
        loader = trainer.train_dataloader
        if not trainer.is_global_zero or not isinstance(loader, DataLoader):
            return
        sampler, dataset = loader.sampler, loader.dataset
        if isinstance(sampler, PatchSampler):
            self._show_sizes(trainer, sampler)
            if isinstance(dataset, PatchDataset) and isinstance(pl_module.augment, Augment):
                self._show_patches(trainer, sampler, dataset, pl_module.augment)

    def _show_sizes(self, trainer: pl.Trainer, sampler: PatchSampler) -> None:
        sizes = count_sizes(sampler.diameter_mm, sampler.drawn_mm(trainer.current_epoch), sampler.rule.edges_mm)
        write_whole(self.folder / "sampling.csv", sizes.to_csv().encode())
        self._show(trainer, "sampling", to_png(draw_size_distribution(sizes)))

    def _show_patches(
        self, trainer: pl.Trainer, sampler: PatchSampler, dataset: PatchDataset, augment: Augment
    ) -> None:
        draws = sampler.nodule_draws(trainer.current_epoch, SHOWN_PATCHES)
        if not draws:
            return
        cut = collate([dataset[draw] for draw in draws])

        def change(chosen: Augment) -> AugmentedBatch:
            return chosen(cut, torch.Generator().manual_seed(sampler.seed))

        rows = {"as cut": change(Augment(mirror_axes=()))}
        rows |= {name: change(part) for name, part in augment.parts().items()}
        rows |= {"all together": change(augment)} if len(rows) > 2 else {}
        self._show(trainer, "augmentation", to_png(draw_augmentations(cut, rows)))

    def _show(self, trainer: pl.Trainer, name: str, png: bytes) -> None:
        write_whole(self.folder / f"{name}.png", png)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"training_data/{name}", [PIL.Image.open(BytesIO(png))])
