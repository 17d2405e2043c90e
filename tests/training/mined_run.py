"""A training that mines, and what it drew: in one process, or in two that Lightning starts.

Called as `mined_run.py CACHE FOLDER` it trains in two processes; each writes `RANK.json` into the folder.
"""

import json
import sys
import warnings
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from nodule_lightning.cache.entries import open_entry, write_entry
from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.datamodule import patch_sampler
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.data.sampler import PatchDraw, SamplingRule
from nodule_lightning.losses.hard_mining import HardMiningLoss
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.structures import Candidates, Entry, Findings, Labels
from nodule_lightning.training.callbacks import scan_mining
from nodule_lightning.training.callbacks.patch_mining import PatchMining
from nodule_lightning.training.callbacks.scan_mining import ScanMining
from tests.balls import tiny_datamodule, tiny_module, write_balls

SENTINEL_ZYX = (30, 33, 40)
SENTINEL = 255
"""A grey value that the tiny scans have nowhere else."""
EPOCHS = 3


@dataclass
class Watched:
    """What one rank saw.

    Attributes:
        scans: training scans.
        searched: scans that were searched after each epoch.
        shown: for each epoch and batch, how many of the patches show the sentinel.
        losses: for each epoch, the scan and the loss of each patch.
        hardest: scans of the draws that come back after each epoch.
        returned: for each epoch, how many of its draws came back from the one before.
        bank: places in the bank after each epoch.
    """

    scans: list[str] = field(default_factory=list)
    searched: list[list[str]] = field(default_factory=lambda: [[]])
    shown: list[list[int]] = field(default_factory=list)
    losses: list[list[tuple[str, float]]] = field(default_factory=list)
    hardest: list[list[str]] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    bank: list[list[list[float]]] = field(default_factory=list)


class Watcher(pl.Callback):
    """Notes it, and the last weights of the network at each search; stands after the callbacks that mine."""

    def __init__(self) -> None:
        self.watched = Watched()
        self.weights: list[Tensor] = []
        self._hardest: list[PatchDraw] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.watched.shown.append([])
        self.watched.losses.append([])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: PatchBatch, batch_idx: int
    ) -> None:
        self.watched.shown[-1].append(int((batch.image == SENTINEL).flatten(1).any(dim=1).sum()))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: PatchBatch,
        batch_idx: int,
    ) -> None:
        assert isinstance(outputs, dict)
        self.watched.losses[-1] += zip(batch.scan_id, outputs["patch_loss"].tolist(), strict=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        sampler = patch_sampler(trainer)
        self.watched.returned.append(sum(draw in self._hardest for draw in sampler.drawn))
        self._hardest = list(sampler.hardest)
        self.watched.hardest.append([self.watched.scans[draw.scan_index] for draw in self._hardest])
        self.watched.bank.append(sampler.bank.place_zyx.tolist())
        self.watched.searched.append([])


def write_cache(folder: Path) -> Path:
    """Write ten scans, one of which shows the sentinel, and has a nodule and an excluded finding elsewhere."""
    cache = write_balls(folder, 10)
    entry = open_entry(cache, "scan0")
    ct = np.array(entry.ct)
    np.minimum(ct, SENTINEL - 1, out=ct)
    z, y, x = SENTINEL_ZYX
    ct[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = SENTINEL
    excluded = Findings(entry.grid.to_world(np.array([[10.0, 10.0, 10.0]])), np.array([-1.0]))
    labels = Labels("0", entry.labels.nodules, excluded)
    write_entry(cache, replace(entry, ct=ct, lung=np.array(entry.lung), labels=labels))
    return cache


def train(cache: Path, workers: int, devices: int = 1, *callbacks: pl.Callback) -> Watcher:
    """Train with a model that marks in scan0 the sentinel, the nodule and the excluded finding, and nothing else."""
    watcher = Watcher()

    def detect(network: DetectionNetwork, entry: Entry, settings: InferenceSettings) -> Candidates:
        watcher.watched.searched[-1].append(entry.scan_id)
        watcher.weights.append(network.get_parameter("head.output.weight").detach().clone())
        if entry.scan_id != "scan0":
            return Candidates.empty()
        index = np.array([SENTINEL_ZYX, (10, 10, 12)], dtype=np.float64)
        nodule = entry.labels.nodules.centre_xyz_mm
        centre = np.concatenate([entry.grid.to_world(index), nodule])
        return Candidates(centre, np.full(len(centre), 0.9), np.full(len(centre), 5.0))

    scan_mining.detect = detect  # type: ignore[attr-defined]
    rule = SamplingRule(32, negative_share=0.5)
    stage = Stage(EPOCHS, HardMiningLoss(hard_per_patch=4), rule, replay_share=0.25, bank_share=1.0)
    curriculum = Curriculum({"only": stage})
    pl.seed_everything(0, verbose=False)
    module = tiny_module(curriculum=curriculum)
    datamodule = tiny_datamodule(cache, workers=workers, curriculum=curriculum)
    datamodule.setup("fit")
    watcher.watched.scans = list(datamodule.split.train)
    trainer = pl.Trainer(
        strategy="ddp" if devices > 1 else "auto",
        accelerator="cpu",
        devices=devices,
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ScanMining(every_n_epochs=1), PatchMining(), watcher, *callbacks],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule)
    return watcher


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    watched = train(Path(sys.argv[1]), workers=2, devices=2).watched
    path = Path(sys.argv[2], f"{torch.distributed.get_rank()}.json")
    path.write_text(json.dumps(asdict(watched)), encoding="utf-8")


if __name__ == "__main__":
    main()
