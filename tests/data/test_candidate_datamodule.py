"""The data module of the second stage: its sets are the detector's, and test scans stay unread."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nodule_lightning.boxes import NODULE
from nodule_lightning.cache import catalog as catalog_module
from nodule_lightning.cache.entries import open_entry
from nodule_lightning.data.candidate_datamodule import CandidateDataModule
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.errors import InputError
from tests.balls import one_stage, tiny_datamodule, write_balls
from tests.marked_balls import SIDE, mark_balls, tiny_candidate_datamodule


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 12)


@pytest.fixture(scope="module")
def candidates(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mark_balls(cache, tmp_path_factory.mktemp("found") / "submission.csv")


def batches(module: CandidateDataModule, epoch: int = 0) -> list[PatchBatch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def test_batches_are_balanced_and_workers_change_nothing(cache: Path, candidates: Path) -> None:
    alone, helped = (tiny_candidate_datamodule(cache, candidates, workers=workers) for workers in (0, 2))
    alone.setup("fit")
    helped.setup("fit")
    first, second = batches(alone), batches(helped)
    assert [batch.image.shape for batch in first] == [(8, 1, SIDE, SIDE, SIDE)] * 4
    assert sum(int((batch.kind == NODULE).any(dim=1).sum()) for batch in first) == 16
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.kind, other.kind)
    assert any(not torch.equal(one.image, other.image) for one, other in zip(first, batches(alone, 1), strict=True))


def test_the_sets_are_those_of_the_detector(cache: Path, candidates: Path) -> None:
    detector, reducer = tiny_datamodule(cache), tiny_candidate_datamodule(cache, candidates)
    detector.validation_fraction = reducer.validation_fraction
    for module in (detector, reducer):
        module.test_subsets = ("1",)
        module.setup("fit")
    assert detector.split == reducer.split


def test_no_test_scan_is_ever_opened(
    cache: Path, candidates: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: set[str] = set()

    def watched(cache: Path, scan_id: str) -> Any:  # noqa: ANN401 - as what it stands for
        opened.add(scan_id)
        return open_entry(cache, scan_id)

    monkeypatch.setattr(catalog_module, "open_entry", watched)
    module = tiny_candidate_datamodule(cache, candidates, test_subsets=("0",))
    module.setup("fit")
    with caplog.at_level("INFO"):
        drawn = {scan_id for batch in batches(module) for scan_id in batch.scan_id}
    validated = {scan.entry.scan_id for scan in module.val_dataloader()}
    assert len(module.split.test) == 4
    assert drawn
    assert validated == set(module.split.validation)
    assert opened == {*module.split.train, *module.split.validation}
    assert drawn <= set(module.split.train)
    assert not set(module.listed) & set(module.split.test)
    assert "candidates of test scans, which training never sees, are left out" in caplog.text


def test_validation_scans_come_with_their_candidates(cache: Path, candidates: Path) -> None:
    module = tiny_candidate_datamodule(cache, candidates)
    module.setup("fit")
    for scan in module.val_dataloader():
        assert len(scan.candidates) == len(module.listed[scan.entry.scan_id].candidates)
        assert len(scan.candidates) >= 6


def lines_of(path: Path, scan_ids: set[str]) -> str:
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    return "\n".join([header, *(row for row in rows if row.split(",")[0] in scan_ids)]) + "\n"


def test_what_the_file_lacks_is_said(
    cache: Path, candidates: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tiny_candidate_datamodule(cache, candidates)
    whole.setup("fit")
    first, *others = whole.split.validation
    path = tmp_path / "some.csv"
    path.write_text(lines_of(candidates, {*whole.split.train, *others}) + "elsewhere,0,0,0,0.5\n")
    module = tiny_candidate_datamodule(cache, path)
    module.setup("fit")
    with caplog.at_level("INFO"):
        module.train_dataloader()
    assert f"1 of {len(others) + 1} validation scans have no candidate, such as {first}" in caplog.text
    assert "1 candidates of scans that no set holds are left out" in caplog.text
    path.write_text(lines_of(candidates, set(whole.split.train)))
    with pytest.raises(InputError) as error:
        tiny_candidate_datamodule(cache, path).setup("fit")
    assert error.value.key == "split-invalid"
    assert first in str(error.value)


def test_one_class_alone_cannot_be_learnt(cache: Path, tmp_path: Path) -> None:
    right = mark_balls(cache, tmp_path / "right.csv", wrong=0)
    with pytest.raises(InputError) as only_nodules:
        tiny_candidate_datamodule(cache, right).setup("fit")
    assert only_nodules.value.key == "annotations-missing"
    assert str(right) in str(only_nodules.value)
    module = tiny_candidate_datamodule(cache, mark_balls(cache, tmp_path / "all.csv"))
    module.setup("fit")
    wrong = tmp_path / "wrong.csv"
    rows = ["seriesuid,coordX,coordY,coordZ,class", *(f"{scan},-40,30,310,0" for scan in module.catalog.scan_ids)]
    wrong.write_text("\n".join(rows) + "\n")
    module = tiny_candidate_datamodule(cache, wrong)
    module.with_nodules = False
    with pytest.raises(InputError) as no_nodule:
        module.setup("fit")
    assert no_nodule.value.key == "annotations-missing"
    assert str(wrong) in str(no_nodule.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"positive_share": 0.0},
        {"positive_share": 1.0},
        {"epochs": 0},
        {"patches_per_epoch": 63},
        {"batch_size": 0},
    ],
)
def test_wrong_settings(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        CandidateDataModule("cache", "found.csv", **arguments)
    assert error.value.key == "argument-invalid"
    ((name, value),) = arguments.items()
    assert name in str(error.value)
    assert str(value) in str(error.value)


def test_the_detectors_epochs_are_those_of_its_curriculum(cache: Path, candidates: Path) -> None:
    assert tiny_datamodule(cache, curriculum=one_stage()).epochs == 1
    assert tiny_candidate_datamodule(cache, candidates).epochs == 20
