"""The plot and the table that wandb is given."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import wandb
from PIL import Image

from nodule_lightning.metrics.functional import Curve
from nodule_lightning.report.gallery_section import Case, Gallery
from nodule_lightning.training.callbacks.wandb_media import COLUMNS, CURVE, MISTAKES, STAGING, log_media

FLAT = Curve(np.array([0.0, 2.0]), np.array([0.0, 0.5]), np.array([np.inf, 0.5]))


class Told:
    """What a run of wandb's was told, and where files were kept for it meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.run = Mock(spec=wandb.Run, dir=str(folder / "files"), log=self.log)
        self.rows: list[dict[str, Any]] = []
        self.staged_in: list[str] = []

    def log(self, row: dict[str, Any], step: int, commit: bool) -> None:
        assert step == 7
        assert not commit
        self.rows.append(row)
        self.staged_in.append(os.environ[STAGING])


def gallery(*titles: str) -> Gallery:
    buffer = BytesIO()
    Image.new("RGB", (30, 10)).save(buffer, "JPEG")
    return Gallery("", "", [Case(title, ("scan", "slice 1", "near", "far"), buffer.getvalue()) for title in titles])


def test_each_case_is_a_row_with_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STAGING, raising=False)
    told = Told(tmp_path)
    log_media(told.run, FLAT, {"missed nodule": gallery("6 mm"), "false positive": gallery("p = 0.9", "p = 0.8")}, 7)
    [row] = told.rows
    table = row[MISTAKES]
    assert tuple(table.columns) == COLUMNS
    assert [line[:-1] for line in table.data] == [
        ["missed nodule", 1, "6 mm", "scan", "slice 1", "near; far"],
        ["false positive", 1, "p = 0.9", "scan", "slice 1", "near; far"],
        ["false positive", 2, "p = 0.8", "scan", "slice 1", "near; far"],
    ]
    assert [line[-1].image.size for line in table.data] == [(30, 10)] * 3
    assert dict(row[CURVE].table.data)[1.0] == 0.25
    assert told.staged_in == [str(tmp_path)]
    assert STAGING not in os.environ


def test_nothing_wrong_gives_an_empty_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A place that the user has chosen is kept.
    monkeypatch.setenv(STAGING, "chosen")
    told = Told(tmp_path)
    log_media(told.run, FLAT, {"missed nodule": gallery(), "false positive": gallery()}, 7)
    assert told.rows[0][MISTAKES].data == []
    assert told.staged_in == ["chosen"]
    assert os.environ[STAGING] == "chosen"
