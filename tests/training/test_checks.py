"""What a training is refused for before its first step."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.cache.entries import list_entries, update_labels
from nodule_lightning.cache.failures import keep_failure
from nodule_lightning.cli import train
from nodule_lightning.data.datamodule import NoduleDataModule
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Labels
from nodule_lightning.training.checks import require_nodules, require_space
from nodule_lightning.training.rehearsal import with_one_scan
from tests.balls import tiny_datamodule, write_balls
from tests.commands import Runner, write_cache

STARTS = ("data.test_subsets=[0]", "data.validation_fraction=0.5", "model=res_unet_narrow")


@pytest.fixture
def datamodule(tmp_path: Path) -> NoduleDataModule:
    module = tiny_datamodule(write_balls(tmp_path / "cache", 8))
    module.setup("fit")
    return module


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_set_without_nodules_is_refused(datamodule: NoduleDataModule, name: str) -> None:
    require_nodules(datamodule)
    for scan_id in getattr(datamodule.split, name):
        update_labels(datamodule.cache, scan_id, Labels())
    datamodule.catalog = Catalog.open(datamodule.cache)
    with pytest.raises(InputError) as error:
        require_nodules(datamodule)
    assert error.value.key == "annotations-missing"
    assert f"{len(getattr(datamodule.split, name))} {name} scans" in str(error.value)
    assert str(datamodule.cache) in str(error.value)


def test_the_command_refuses_it_and_leaves_nothing(run: Runner, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", ["one", "three", "two"])
    for scan_id in list_entries(cache):
        update_labels(cache, scan_id, Labels({"one": "0"}.get(scan_id, "1")))
    ended = run(train.main, f"cache={cache}", *STARTS, "+model.anchors.spacing_mm=4.0")
    assert ended.key == "annotations-missing"
    for named in ("1 train", str(cache), "data.fold"):
        assert named in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_the_command_refuses_a_cache_that_lacks_a_scan(run: Runner, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", ["one", "three", "two", "zwei"])
    (cache / "scans/zwei/scan.json").unlink()
    arguments = (f"cache={cache}", *STARTS)
    ended = run(train.main, *arguments)
    assert ended.key == "cache-incomplete"
    for named in (str(cache), "1 of 4", "zwei"):
        assert named in ended.line()
    assert list(Path.cwd().iterdir()) == []
    keep_failure(cache, "zwei", "cut short")
    # It is said, and what is asked for next is refused.
    ended = run(train.main, *arguments)
    said, refused = ended.error.splitlines()
    for named in ("1 of 4", str(cache), "zwei (cut short)"):
        assert named in said
    assert "+model.anchors.spacing_mm=4.0" in refused
    assert refused.endswith("[cache-settings-differ]")


@pytest.mark.parametrize("value", ["maybe", "1", "null"])
def test_a_rehearsal_is_wanted_or_not(run: Runner, cache: Path, value: str) -> None:
    ended = run(train.main, f"cache={cache}", *STARTS, "+model.anchors.spacing_mm=4.0", f"rehearsal={value}")
    assert ended.key == "argument-invalid"
    assert "rehearsal" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights of 40 MB: three files of four times as much, and 100 MB.
    network = torch.nn.Linear(10_000, 1000, bias=False)

    def free(megabytes: int) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=megabytes * 10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    free(581)
    require_space(tmp_path, network)
    free(579)
    with pytest.raises(InputError) as error:
        require_space(tmp_path, network)
    assert error.value.key == "disk-full"
    for named in ("579 MB", "580 MB", "paths.output"):
        assert named in str(error.value)
    # What a resumed run has written already it need not write again.
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(bytes(2_000_000))
    require_space(tmp_path, network)


def test_the_command_refuses_a_full_disk(run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    ended = run(train.main, f"cache={cache}", *STARTS, "+model.anchors.spacing_mm=4.0", "paths.run=run")
    assert ended.key == "disk-full"
    assert "1 MB" in ended.line()
    assert list(Path.cwd().iterdir()) == []


def test_the_largest_scan_with_a_nodule_is_rehearsed(datamodule: NoduleDataModule) -> None:
    sizes = {
        scan_id: (len(datamodule.catalog.nodules(scan_id)) > 0, np.prod(datamodule.catalog.entry(scan_id).grid.shape))
        for scan_id in datamodule.split.validation
    }
    [chosen] = with_one_scan(datamodule).split.validation
    assert sizes[chosen] == max(sizes.values())
    assert len(datamodule.split.validation) > 1
