"""No advertisements of Lightning's."""

import logging

import pytest

from nodule_lightning.cli._quiet import silence_tips


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
