"""A callback that writes down, for each rank, what was validated."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from nodule_lightning.data.datamodule import WholeScan
from nodule_lightning.training.module import NoduleDetector


class WatchedScans(pl.Callback):
    """Write `watched-RANK.json`: the scans that the rank has searched, and how many the score of all ranks counts."""

    def __init__(self) -> None:
        self.searched: list[str] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own signature
        batch: WholeScan,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.searched.append(batch.entry.scan_id)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, NoduleDetector)
        with pl_module.froc.sync_context():
            counted = len(pl_module.froc.scans().scan_ids)
        watched = {"searched": self.searched, "counted": counted}
        Path(f"watched-{trainer.global_rank}.json").write_text(json.dumps(watched), encoding="utf-8")
