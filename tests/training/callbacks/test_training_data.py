"""What a run is trained on lies in its folder, and goes to wandb."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger

from nodule_lightning.data.augment import Augment
from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.curriculum_sampler import CurriculumSampler
from nodule_lightning.data.datamodule import NoduleDataModule, patch_sampler
from nodule_lightning.data.patches import PatchDataset, collate
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.losses.hard_mining import HardMiningLoss
from nodule_lightning.training.callbacks.patch_mining import PatchMining
from nodule_lightning.training.callbacks.training_data import TrainingData, augmented_rows
from tests.balls import one_stage, tiny_datamodule, tiny_module, write_balls

pytestmark = [
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 9)


class Recorder(WandbLogger):
    """Takes pictures without any run of wandb."""

    def __init__(self) -> None:
        self.pictures: dict[str, list[Any]] = {}

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        self.pictures[key] = images


class TrainedOn(pl.Callback):
    """Counts the draws of nodules in each epoch."""

    def __init__(self) -> None:
        self.nodules: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.nodules.append(sum(draw.finding_index >= 0 for draw in patch_sampler(trainer).drawn))


def fit(folder: Path, datamodule: NoduleDataModule, *callbacks: pl.Callback, epochs: int = 1) -> None:
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[TrainingData(folder), *callbacks], use_distributed_sampler=False,
        limit_train_batches=2, limit_val_batches=0, log_every_n_steps=1, num_sanity_val_steps=0,
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(tiny_module(curriculum=datamodule.curriculum), datamodule=datamodule)


def served(datamodule: NoduleDataModule) -> tuple[CurriculumSampler, PatchDataset]:
    datamodule.setup("fit")
    return parts_of(datamodule)


def parts_of(datamodule: NoduleDataModule) -> tuple[CurriculumSampler, PatchDataset]:
    loader = datamodule.train_dataloader()
    assert isinstance(loader.sampler, CurriculumSampler)
    assert isinstance(loader.dataset, PatchDataset)
    return loader.sampler, loader.dataset


def test_a_fit_leaves_its_distribution_and_its_patches_behind(cache: Path, tmp_path: Path) -> None:
    fit(tmp_path, tiny_datamodule(cache))
    assert {path.name for path in tmp_path.iterdir()} == {"sampling.csv", "sampling.png", "augmentation.png"}


def test_only_the_first_rank_writes(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    fit(tmp_path, tiny_datamodule(cache))
    assert not list(tmp_path.iterdir())


def test_the_numbers_are_those_of_the_epoch(cache: Path, tmp_path: Path) -> None:
    rule = SamplingRule(40, 0.25, (8.0,), copies=(4, 1))
    sampler, dataset = served(NoduleDataModule(cache, one_stage(rule), 32, 4, validation_fraction=0.25))
    TrainingData(tmp_path).show(sampler, dataset, Augment())
    _, *rows = [line.split(",") for line in (tmp_path / "sampling.csv").read_text(encoding="utf-8").splitlines()]
    diameters = np.concatenate(sampler.diameter_mm)
    assert sum(int(row[2]) for row in rows) == len(diameters) > 1
    assert sum(int(row[4]) for row in rows) == 30
    small = int((diameters < 8).sum())
    large = len(diameters) - small
    drawn = sum(int(row[4]) for row in rows if row[1] and float(row[1]) <= 8)
    assert drawn == pytest.approx(30 * 4 * small / (4 * small + large), abs=1)


def test_each_stage_shows_what_it_draws_with_what_mining_brings_back(cache: Path, tmp_path: Path) -> None:
    """The epochs that are trained say the same."""
    rules = SamplingRule(24, negative_share=0.25), SamplingRule(24, 0.25, (8.0,), copies=(3, 1))
    stages = Stage(1, HardMiningLoss(), rules[0]), Stage(2, HardMiningLoss(), rules[1], replay_share=0.5)
    datamodule = tiny_datamodule(cache, curriculum=Curriculum(dict(zip(("first", "second"), stages, strict=True))))
    trained = TrainedOn()
    fit(tmp_path, datamodule, PatchMining(), trained, epochs=3)
    assert {path.stem for path in tmp_path.glob("*.csv")} == {"sampling_first", "sampling_second"}
    for epoch, name in enumerate(("first", "second")):
        _, *rows = [
            line.split(",") for line in (tmp_path / f"sampling_{name}.csv").read_text(encoding="utf-8").splitlines()
        ]
        assert sum(int(row[4]) for row in rows) == trained.nodules[epoch]
    assert (tmp_path / "augmentation.png").exists()


def test_a_picture_that_cannot_be_written_does_not_end_the_training(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "sampling.csv").mkdir()
    with pytest.warns(UserWarning, match="sampling"):
        fit(tmp_path, tiny_datamodule(cache))


def test_wandb_gets_the_same_pictures(cache: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    TrainingData(tmp_path).show(*served(tiny_datamodule(cache)), Augment(rotation_degrees=30.0), 0, [recorder])
    assert set(recorder.pictures) == {"training_data/sampling", "training_data/augmentation"}
    for name, (picture,) in recorder.pictures.items():
        written = PIL.Image.open(tmp_path / f"{name.removeprefix('training_data/')}.png")
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(written))


def test_no_patch_is_shown_where_none_is_wanted(cache: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    TrainingData(tmp_path, patches=0).show(*served(tiny_datamodule(cache)), Augment(), 0, [recorder])
    assert {path.name for path in tmp_path.iterdir()} == {"sampling.csv", "sampling.png"}
    assert set(recorder.pictures) == {"training_data/sampling"}


def test_it_takes_no_random_number_from_the_run(cache: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    TrainingData(tmp_path).show(*served(tiny_datamodule(cache)), Augment(scale=1.2))
    assert torch.equal(before, torch.get_rng_state())


def test_rows_are_the_changes_that_are_turned_on(cache: Path) -> None:
    sampler, dataset = served(tiny_datamodule(cache))
    cut = collate([dataset[draw] for draw in sampler.draw_epoch(0) if draw.finding_index >= 0][:3])
    assert list(augmented_rows(cut, Augment(()), 0)) == ["as cut"]
    assert list(augmented_rows(cut, Augment(), 0)) == ["as cut", "mirror"]
    rows = augmented_rows(cut, Augment(warp_voxels=2.0, resampled_share=0.0), 0)
    assert list(rows) == ["as cut", "mirror"]
    rows = augmented_rows(cut, Augment(warp_voxels=2.0), 0)
    assert list(rows) == ["as cut", "mirror", "warp", "all together"]
    assert torch.equal(rows["as cut"].boxes, cut.boxes)


def test_without_nodules_there_are_only_the_empty_charts(cache: Path, tmp_path: Path) -> None:
    datamodule = tiny_datamodule(cache)
    datamodule.setup("fit")
    datamodule.split = replace(datamodule.split, train=("scan2", "scan5"))
    TrainingData(tmp_path).show(*parts_of(datamodule), Augment())
    assert {path.name for path in tmp_path.iterdir()} == {"sampling.csv", "sampling.png"}
