"""Nothing that Lightning says in every run and nobody can act on."""

import logging
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from nodule_lightning.training.quiet import drop_deprecated_arguments, silence_tips


def test_tips_are_dropped_and_nothing_else_by_one_filter(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    filters = list(log.filters)
    try:
        # Each job of a sweep asks for it, all in one process.
        for _ in range(3):
            silence_tips()
        assert len(log.filters) <= len(filters) + 1
        with caplog.at_level(logging.INFO, logger=log.name):
            log.info("💡 Tip: For seamless cloud uploads, install something")
            log.info("GPU available: False")
    finally:
        log.filters[:] = filters
    assert [record.message for record in caplog.records] == ["GPU available: False"]


def test_wandb_is_not_handed_what_it_warns_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = WandbLogger(save_dir=tmp_path, mode="disabled")
    drop_deprecated_arguments([CSVLogger(tmp_path), logger])
    assert logger.experiment is not None
    assert "anonymous" not in capfd.readouterr().err
