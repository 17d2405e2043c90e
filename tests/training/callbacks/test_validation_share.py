"""The clock of validation."""

import logging
import time

import pytest
import pytorch_lightning as pl

from nodule_lightning.training.callbacks.validation_share import ValidationShare


def test_the_share_is_the_time_between_start_and_end_of_validation(caplog: pytest.LogCaptureFixture) -> None:
    trainer, module, share = pl.Trainer(logger=False, barebones=True), pl.LightningModule(), ValidationShare()
    with caplog.at_level(logging.INFO):
        share.on_fit_start(trainer, module)
        time.sleep(0.02)
        for _ in range(2):
            share.on_validation_start(trainer, module)
            time.sleep(0.02)
            share.on_validation_end(trainer, module)
        share.on_fit_end(trainer, module)
    assert 0.04 <= share.seconds < share.total_seconds
    assert 0.1 < share.share < 0.9
    assert caplog.text.count("0 s") == 2
