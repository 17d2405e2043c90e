"""Hard mining, level 3: false positives of the current model in whole training scans become training patches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from nodule_lightning.data.bank import Bank, false_positives
from nodule_lightning.data.datamodule import NoduleDataModule, patch_sampler
from nodule_lightning.errors import InputError
from nodule_lightning.search.inference import detect
from nodule_lightning.training.callbacks.weight_average import averaged_weights
from nodule_lightning.training.module import NoduleDetector


class ScanMining(Callback):
    """Refill the bank of false positives every few epochs, in stages that have a `bank_share`.

    Each round searches the training scans, with the averaged weights if there are any. The ranks divide the scans, and
    each gets the whole bank. False positives that the model no longer makes leave the bank; those that survive a round
    are drawn more often (`Bank.chances`). The first round runs just before the first such stage.

    Args:
        every_n_epochs: epochs between two rounds.
        most_per_scan: false positives kept per scan, the most probable first.
        min_probability: false positives below this probability are not kept.
    """

    def __init__(self, every_n_epochs: int = 5, most_per_scan: int = 20, min_probability: float = 0.1) -> None:
        if every_n_epochs < 1 or most_per_scan < 1 or not 0 < min_probability <= 1:
            raise InputError(
                "mining in scans needs every_n_epochs >= 1, most_per_scan >= 1 and 0 < min_probability <= 1, "
                f"not {every_n_epochs}, {most_per_scan} and {min_probability}",
                "argument-invalid",
            )
        self.every_n_epochs = every_n_epochs
        self.most_per_scan = most_per_scan
        self.min_probability = min_probability
        self._bank = Bank.empty()
        self._mined_before: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass the bank restored from a checkpoint to the sampler."""
        patch_sampler(trainer).bank = self._bank

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Run a round of mining if one is due."""
        if not self._is_due(trainer, pl_module):
            return
        datamodule: object = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, NoduleDetector)
        assert isinstance(datamodule, NoduleDataModule)
        with averaged_weights(trainer, pl_module), trainer.precision_plugin.forward_context():
            mine = Bank.concatenate(list(self._search(trainer, pl_module, datamodule)))
        former, self._bank = self._bank, Bank.concatenate(_gather(mine)).after(self._bank)
        self._mined_before = trainer.current_epoch + 1
        patch_sampler(trainer).bank = self._bank
        rank_zero_info(
            f"mined {len(self._bank)} false positives in {len(datamodule.split.train)} training scans; "
            f"{int((self._bank.rounds > 1).sum())} were among the {len(former)} of the round before"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the bank and the epoch of the last round."""
        return {"bank": self._bank.to_state(), "mined_before": self._mined_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the bank and the epoch of the last round."""
        self._bank = Bank.from_state(state_dict["bank"])
        self._mined_before = state_dict["mined_before"]

    def _is_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        assert isinstance(pl_module, NoduleDetector)
        following = trainer.current_epoch + 1
        if following == trainer.max_epochs or not pl_module.curriculum.stage(following).bank_share:
            return False
        return self._mined_before is None or following - self._mined_before >= self.every_n_epochs

    def _search(self, trainer: pl.Trainer, module: NoduleDetector, datamodule: NoduleDataModule) -> Iterator[Bank]:
        """Yield the false positives of each of this rank's scans."""
        catalog, scan_ids = datamodule.catalog, datamodule.split.train
        for index in range(trainer.global_rank, len(scan_ids), trainer.world_size):
            entry = catalog.entry(scan_ids[index])
            labels = entry.labels
            wrong = false_positives(
                detect(module.network, entry, module.inference),
                labels.nodules,
                labels.excluded,
                self.most_per_scan,
                self.min_probability,
            )
            place_zyx = entry.grid.to_index(wrong.centre_xyz_mm)
            count = np.ones(len(wrong), np.int64)
            yield Bank(index * count, place_zyx, wrong.probability, count)


def _gather(bank: Bank) -> list[Bank]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [bank]
    banks = [bank] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(banks, bank)
    return banks
