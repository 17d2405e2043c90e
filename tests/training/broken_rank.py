"""Train in two processes of which the second gives a loss that is not a number.

Called as `broken_rank.py CACHE`; Lightning starts the second process by the same command.
"""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from nodule_lightning.models.heads import AnchorDetector
from tests.balls import tiny_datamodule, tiny_module, tiny_network


class BrokenOnTheSecondRank(AnchorDetector):
    """As good as any on the first."""

    def __init__(self) -> None:
        network = tiny_network()
        super().__init__(network.backbone, network.anchors, hidden=16)

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        maps = super().forward(images, position)
        return maps * torch.nan if torch.distributed.get_rank() == 1 else maps


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        strategy="ddp",
        accelerator="cpu",
        devices=2,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(tiny_module(BrokenOnTheSecondRank()), datamodule=tiny_datamodule(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
