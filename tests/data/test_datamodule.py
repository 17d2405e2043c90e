"""The data module: sets, loaders, ranks."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from nodule_lightning.cache.entries import write_entry
from nodule_lightning.data.datamodule import NoduleDataModule, RankStride
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.errors import InputError
from nodule_lightning.structures import Labels
from tests.balls import SETTINGS, ball_entry, one_stage, tiny_datamodule, write_balls


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


def batches(module: NoduleDataModule, epoch: int = 0) -> list[PatchBatch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def test_an_epoch_has_its_batches_and_workers_change_nothing(cache: Path) -> None:
    alone, helped = tiny_datamodule(cache), tiny_datamodule(cache, workers=2)
    alone.setup("fit")
    helped.setup("fit")
    first, second = batches(alone), batches(helped)
    assert len(first) == 4
    assert first[0].image.shape == (4, 1, 32, 32, 32)
    for one, other in zip(first, second, strict=True):
        assert one.scan_id == other.scan_id
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.boxes, other.boxes)
    assert any(a.scan_id != b.scan_id for a, b in zip(first, batches(alone, epoch=1), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_comes_out_of_the_loader_meets_the_target(tmp_path: Path, workers: int) -> None:
    """A scan has one nodule or none, so that the scans of the patches tell what was drawn."""
    diameters = [12.0, 7.0, None, 4.0, 9.0, 6.0, None, 7.0, 12.0, 4.0, 8.0, None, 6.0]
    for index, diameter in enumerate(diameters):
        entry, nodules = ball_entry(f"scan{index:02}", [] if diameter is None else [(20.0, 22.0, 26.0, diameter)])
        write_entry(tmp_path, replace(entry, labels=Labels("0", nodules)))
    rule = SamplingRule(600, 0.4, (5.0, 10.0), target_share=(0.5, 0.35, 0.15), small_mm=0.0)
    module = NoduleDataModule(tmp_path, one_stage(rule), 16, 12, workers, validation_fraction=0.01, border_voxels=4.0)
    module.setup("fit")
    loader = module.train_dataloader()
    drawn: Counter[str] = Counter()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            drawn.update(batch.scan_id)
    scans = module.split.train
    bins = [np.searchsorted((5, 10), module.catalog.nodules(scan).diameter_mm).tolist() for scan in scans]
    members = Counter(place for places in bins for place in places)
    shares = [sum((0.5, 0.35, 0.15)[place] / members[place] for place in places) for places in bins]
    expected = 1200 * (0.6 * np.array(shares) + 0.4 / len(scans))
    counts = [drawn[scan] for scan in scans]
    assert sum(counts) == 1200
    assert chisquare(counts, expected).pvalue > 0.01
    assert chisquare(counts).pvalue < 1e-9


def test_the_cut_off_rest_of_an_epoch_is_said(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = tiny_datamodule(cache, patches_per_epoch=4)
    module.setup("fit")
    with caplog.at_level("INFO"):
        module.train_dataloader()
    assert "patches_per_epoch=4 is less than one pass of 8" in caplog.text


def test_one_pass_draws_every_nodule(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = NoduleDataModule(cache, one_stage(SamplingRule(negative_share=0.25)), 32, 4, validation_fraction=0.25)
    module.setup("fit")
    with caplog.at_level("INFO"):
        drawn = {scan_id for batch in batches(module) for scan_id in batch.scan_id}
    assert {scan_id for scan_id in module.split.train if len(module.catalog.nodules(scan_id))} <= drawn
    assert "less than one pass" not in caplog.text


def test_validation_serves_whole_scans_once(cache: Path) -> None:
    module = tiny_datamodule(cache)
    module.setup("fit")
    scans = list(module.val_dataloader())
    assert tuple(scan.entry.scan_id for scan in scans) == module.split.validation
    assert [scan.index for scan in scans] == list(range(len(scans)))
    assert scans[0].to(torch.device("meta")) is scans[0]
    assert module.preparation == SETTINGS


def test_test_subsets_stay_out_of_training(cache: Path) -> None:
    module = NoduleDataModule(cache, one_stage(40), 32, 8, test_subsets=["1"], validation_fraction=0.3)
    module.setup()
    assert {module.catalog.subset(scan_id) for scan_id in module.split.test} == {"1"}
    assert len(list(module.test_dataloader())) == 3
    drawn = {scan_id for batch in batches(module) for scan_id in batch.scan_id}
    assert drawn <= set(module.split.train)
    assert not drawn & {*module.split.test, *module.split.validation}


def test_unannotated_subsets_stay_out_of_every_set(cache: Path) -> None:
    module = NoduleDataModule(cache, one_stage(40), 32, 8, unannotated_subsets=["1"], validation_fraction=0.3)
    module.setup()
    chosen = {*module.split.train, *module.split.validation, *module.split.test}
    assert {module.catalog.subset(scan_id) for scan_id in chosen} == {"0", "2"}


def test_ranks_read_each_scan_exactly_once() -> None:
    ranks = [list(RankStride(5, rank, 2)) for rank in range(2)]
    assert ranks == [[0, 2, 4], [1, 3]]


def test_no_rank_is_left_without_a_scan() -> None:
    assert [list(RankStride(2, rank, 5)) for rank in range(5)] == [[0], [1], [0], [1], [0]]
    assert [list(RankStride(0, rank, 2)) for rank in range(2)] == [[], []]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"batch_size": 0}, "argument-invalid"),
        ({"workers": -1}, "argument-invalid"),
        ({"patch_voxels": 50}, "argument-invalid"),
        ({"validation_fraction": 0.0}, "split-invalid"),
    ],
)
def test_what_cannot_work_is_said(cache: Path, arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError) as error:
        NoduleDataModule(cache, one_stage(16), **arguments).setup("fit")
    assert error.value.key == key
    ((name, value),) = arguments.items()
    assert name in str(error.value)
    assert str(value) in str(error.value)


def test_an_epoch_smaller_than_a_batch_is_refused(cache: Path) -> None:
    with pytest.raises(InputError) as error:
        NoduleDataModule(cache, one_stage(7), 32, batch_size=8).setup("fit")
    assert error.value.key == "argument-invalid"
    assert "patches_per_epoch=7" in str(error.value)
