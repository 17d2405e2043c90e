"""The course of a training in a log file."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nodule_lightning.training.callbacks.validation_line import ValidationLine

pytestmark = [
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


class Known(pl.LightningModule):
    """Has the loss 0.25 * (step + 1) and the score 0.5 + epoch / 10."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight.sum() * 0 + 0.25 * (self.global_step + 1)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/froc", 0.5 + self.current_epoch / 10)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_each_validation_gives_a_line_with_epoch_loss_and_score(caplog: pytest.LogCaptureFixture) -> None:
    loader: DataLoader[Tensor] = DataLoader(TensorDataset(torch.zeros(2, 1)))  # type: ignore[arg-type]
    trainer = pl.Trainer(
        max_epochs=4,
        check_val_every_n_epoch=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ValidationLine()],
    )
    with caplog.at_level(logging.INFO):
        trainer.fit(Known(), loader, loader)
        trainer.validate(trainer.lightning_module, loader, verbose=False)
    lines = [record.message for record in caplog.records if record.message.startswith("epoch ")]
    # Losses 0.25 to 1.0, then 1.25 to 2.0: the mean starts anew after each line.
    assert lines == [
        "epoch 2 of 4: loss 0.6250, val/froc 0.6000",
        "epoch 4 of 4: loss 1.6250, val/froc 0.8000",
    ]
