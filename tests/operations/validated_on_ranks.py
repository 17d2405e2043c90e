"""Validate random cases with a Trainer in several processes; each prints what a checkpoint would be chosen by.

Called as `validated_on_ranks.py NUMBER`; Lightning starts the other processes by the same command. Each process prints
one line of JSON: for each seed the logged values.
"""

import json
import os
import sys
import warnings

import pytorch_lightning as pl
import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset

from nodule_lightning.data.datamodule import RankStride
from nodule_lightning.training.module import NoduleDetector
from tests.balls import tiny_module
from tests.metrics.cases import Case, random_case
from tests.metrics.froc_on_rank import add_scans

# Of seven scans, four and one. The score of each is one of which the mean over three ranks differs in the last digit.
SEEDS = (39, 58, 97)


class Numbers(Dataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class Known(NoduleDetector):
    """Finds in each scan what the case says."""

    def __init__(self, case: Case) -> None:
        tiny = tiny_module()
        super().__init__(tiny.network, tiny.assigner, tiny.curriculum, tiny.augment, tiny.inference, tiny.optimizer)
        self.case = case

    def validation_step(self, scan: int, batch_idx: int) -> None:  # type: ignore[override]
        add_scans(self.froc, self.case, [scan])

    def val_dataloader(self) -> DataLoader[int]:
        scans = Numbers(len(self.case.scan_ids))
        sampler = RankStride(len(scans), self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(scans, batch_size=None, sampler=sampler)


def logged(seed: int, trainer: pl.Trainer) -> dict[str, float]:
    trainer.validate(Known(random_case(seed)), verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def silent_trainer(number: int) -> pl.Trainer:
    return pl.Trainer(
        strategy="ddp" if number > 1 else "auto",
        accelerator="cpu",
        devices=number,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    trainer = silent_trainer(int(sys.argv[1]))
    sys.stdout.write(json.dumps({seed: logged(seed, trainer) for seed in SEEDS}) + "\n")
    sys.stdout.flush()
    if trainer.world_size > 1:
        torch.distributed.barrier()
    # Gloo's threads now and then abort a process that is done and takes itself down in order.
    os._exit(0)


if __name__ == "__main__":
    main()
