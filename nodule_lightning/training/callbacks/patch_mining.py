"""Hard mining, level 2: the patches with the highest loss are drawn again in the next epoch."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from nodule_lightning.data.datamodule import patch_sampler
from nodule_lightning.data.sampler import PatchDraw
from nodule_lightning.training.module import NoduleDetector


class PatchMining(Callback):
    """Pass the hardest draws of an epoch to the sampler if the next epoch's stage has a `replay_share`.

    A repeated draw is the same crop of the same scan; only its augmentation differs.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._hardest: list[PatchDraw] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass the draws restored from a checkpoint to the sampler."""
        patch_sampler(trainer).hardest = self._hardest

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard the losses of the previous epoch."""
        self._losses.clear()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Collect the patch losses on their device; reading them here would synchronise every step."""
        if _share_of_next(trainer, pl_module):
            assert isinstance(outputs, dict)
            self._losses.append(outputs["patch_loss"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather the losses of all ranks and select the hardest draws."""
        sampler = patch_sampler(trainer)
        self._hardest = []
        if share := _share_of_next(trainer, pl_module):
            # The sampler deals its draws to the ranks in turn.
            gathered = pl_module.all_gather(torch.cat(self._losses))
            assert isinstance(gathered, Tensor)
            losses = gathered.view(trainer.world_size, -1).T.flatten()
            order = np.argsort(-losses.float().cpu().numpy(), kind="stable")
            self._hardest = [sampler.drawn[place] for place in order[: round(share * sampler.patches)]]
        sampler.hardest = self._hardest

    def state_dict(self) -> dict[str, Any]:
        """Return the hardest draws as tensors, which `torch.load` reads with `weights_only`."""
        draws = self._hardest
        numbers = [(draw.scan_index, draw.finding_index, draw.seed) for draw in draws]
        places = [draw.place_zyx or (torch.nan,) * 3 for draw in draws]
        return {
            "draws": torch.tensor(numbers, dtype=torch.int64).view(-1, 3),
            "places_zyx": torch.tensor(places, dtype=torch.float64).view(-1, 3),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the hardest draws."""
        self._hardest = []
        for (scan, finding, seed), (z, y, x) in zip(
            state_dict["draws"].tolist(), state_dict["places_zyx"].tolist(), strict=True
        ):
            self._hardest.append(PatchDraw(scan, finding, seed, None if np.isnan(z) else (z, y, x)))


def _share_of_next(trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
    assert isinstance(pl_module, NoduleDetector)
    return pl_module.curriculum.stage(trainer.current_epoch + 1).replay_share
