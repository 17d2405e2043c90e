"""The data module: sets, loaders, ranks."""

from pathlib import Path

import pytest
import torch

from nodule_lightning.data.datamodule import NoduleDataModule, RankStride
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.errors import InputError
from tests.balls import SETTINGS, tiny_datamodule, write_balls


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


def test_validation_serves_whole_scans_once(cache: Path) -> None:
    module = tiny_datamodule(cache)
    module.setup("fit")
    scans = list(module.val_dataloader())
    assert tuple(scan.entry.scan_id for scan in scans) == module.split.validation
    assert [scan.index for scan in scans] == list(range(len(scans)))
    assert scans[0].to(torch.device("meta")) is scans[0]
    assert module.preparation == SETTINGS


def test_test_subsets_stay_out_of_training(cache: Path) -> None:
    module = NoduleDataModule(cache, SamplingRule(40), 32, 8, test_subsets=["1"], validation_fraction=0.3)
    module.setup()
    assert {module.catalog.subset(scan_id) for scan_id in module.split.test} == {"1"}
    assert len(list(module.test_dataloader())) == 3
    drawn = {scan_id for batch in batches(module) for scan_id in batch.scan_id}
    assert drawn <= set(module.split.train)
    assert not drawn & {*module.split.test, *module.split.validation}


def test_unannotated_subsets_stay_out_of_every_set(cache: Path) -> None:
    module = NoduleDataModule(cache, SamplingRule(40), 32, 8, unannotated_subsets=["1"], validation_fraction=0.3)
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
    ("arguments", "named"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"workers": -1}, "workers not negative"),
        ({"patch_voxels": 50}, "multiple of 16"),
        ({"validation_fraction": 0.0}, "no scan .* for validation"),
    ],
)
def test_what_cannot_work_is_said(cache: Path, arguments: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        NoduleDataModule(cache, SamplingRule(16), **arguments).setup("fit")  # type: ignore[arg-type]


def test_an_epoch_smaller_than_a_batch_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match="less than one batch"):
        NoduleDataModule(cache, SamplingRule(7), 32, batch_size=8).setup("fit")
