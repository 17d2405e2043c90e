"""Training: what it refuses before the first step."""

from pathlib import Path

import pytest

from nodule_lightning.cli.train import require_same_split
from nodule_lightning.data.datamodule import NoduleDataModule
from nodule_lightning.errors import InputError
from nodule_lightning.io.tables import write_scan_ids
from tests.balls import tiny_datamodule, write_balls


@pytest.fixture
def datamodule(tmp_path: Path) -> NoduleDataModule:
    module = tiny_datamodule(write_balls(tmp_path / "cache", 8))
    module.setup("fit")
    return module


def test_a_run_goes_on_with_its_own_scans_only(datamodule: NoduleDataModule, tmp_path: Path) -> None:
    split = datamodule.split
    for name in ("train", "validation", "test"):
        write_scan_ids(tmp_path / f"{name}.csv", getattr(split, name))
    require_same_split(tmp_path, datamodule)
    moved, *rest = split.train
    write_scan_ids(tmp_path / "train.csv", rest)
    with pytest.raises(InputError, match=rf"train\.csv has other scans .*such as {moved}"):
        require_same_split(tmp_path, datamodule)
    write_scan_ids(tmp_path / "train.csv", split.train)
    write_scan_ids(tmp_path / "test.csv", ["gone"])
    with pytest.raises(InputError, match=r"test\.csv has other scans .*such as gone"):
        require_same_split(tmp_path, datamodule)
