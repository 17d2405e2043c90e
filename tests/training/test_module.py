"""The whole thread on tiny scans: it trains, scores, saves, repeats itself and stops on a broken loss."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor

import nodule_lightning
from nodule_lightning.cache.entries import list_entries, open_entry, write_entry
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.data.augment import Augment, AugmentedBatch
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.detection.assignment import Assigner, Assignment, CentreAssigner
from nodule_lightning.detection.outlines import OutlineAssigner
from nodule_lightning.errors import InputError
from nodule_lightning.metrics.froc import FROC
from nodule_lightning.models.heads import AnchorDetector, DetectionNetwork, SegmentationDetector
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.training.callbacks.validation_share import ValidationShare
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY
from nodule_lightning.training.module import NoduleDetector
from tests.balls import SETTINGS, one_stage, tiny_datamodule, tiny_module, tiny_network, tiny_segmentation, write_balls
from tests.ranks import ENVIRONMENT

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 12)


def fit(
    cache: Path,
    folder: Path,
    *,
    epochs: int = 2,
    callbacks: tuple[pl.Callback, ...] = (),
    network: DetectionNetwork | None = None,
    patches: int = 16,
    resume: Path | None = None,
    augment: Augment | None = None,
    accumulate: int = 1,
    assigner: Assigner | None = None,
) -> tuple[NoduleDetector, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    module = tiny_module(network)
    module.assigner = assigner or module.assigner
    module.augment = augment or module.augment
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        log_every_n_steps=1,
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(module, datamodule=tiny_datamodule(cache, patches), ckpt_path=resume)
    return module, trainer


def best_by_froc(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="best", monitor="val/froc", mode="max", save_last=True)


def best_and_last(folder: Path) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    path = Path(__file__).parents[2] / "conf" / "callbacks" / "score.yaml"
    configured: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    changes = {"dirpath": str(folder), "every_n_epochs": 1}
    best, last = (instantiate({**configured[name], **changes}) for name in ("best", "last"))
    return best, last


def lightnings_best_and_last(folder: Path) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    best = ModelCheckpoint(
        folder, "best", "val/froc", mode="max", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return best, ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)


def score_with(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    following = iter(scores)
    monkeypatch.setattr(FROC, "compute", lambda _: {"froc": torch.tensor(next(following))})


def epochs_of(folder: Path) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in folder.glob("*.ckpt")}


def test_a_fit_logs_scores_and_saves_a_checkpoint_of_plain_values(cache: Path, tmp_path: Path) -> None:
    module, trainer = fit(cache, tmp_path, callbacks=(best_by_froc(tmp_path), ValidationShare()))
    wanted = {f"loss/{name}" for name in ("total", "positive", "negative", "box")}
    wanted |= {"val/froc", *(f"val/sensitivity@{rate}" for rate in ("0.125", "0.25", "0.5", "1", "2", "4", "8"))}
    assert wanted <= set(trainer.callback_metrics)
    # What a validation has gathered is let go.
    assert module.froc.rows == []
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert checkpoint[CHECKPOINT_KEY] == {
        "version": nodule_lightning.__version__,
        "model": {"channels": [8, 8]},
        "preparation": SETTINGS,
    }
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in module.state_dict().items():
        assert torch.equal(last[name], value), name


def test_the_last_checkpoint_is_the_last_also_when_the_score_falls(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_with(monkeypatch, 0.5, 0.4, 0.3)
    fit(cache, tmp_path, epochs=3, callbacks=best_and_last(tmp_path))
    assert epochs_of(tmp_path) == {"best.ckpt": 0, "last.ckpt": 2}


@pytest.mark.parametrize("saved_by", [best_and_last, lightnings_best_and_last])
def test_a_run_that_was_moved_keeps_its_best(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved_by: Callable[[Path], tuple[ModelCheckpoint, ModelCheckpoint]],
) -> None:
    score_with(monkeypatch, 0.3, 0.5, 0.4, 0.6)
    fit(cache, tmp_path / "before", callbacks=saved_by(tmp_path / "before"))
    moved = tmp_path / "after"
    (tmp_path / "before").rename(moved)
    best, last = best_and_last(moved)
    fit(cache, moved, epochs=3, callbacks=(best, last), resume=moved / "last.ckpt")
    assert epochs_of(moved) == {"best.ckpt": 1, "last.ckpt": 2}
    assert (best.best_model_path, best.best_model_score) == (str(moved / "best.ckpt"), torch.tensor(0.5))
    fit(cache, moved, epochs=4, callbacks=best_and_last(moved), resume=moved / "last.ckpt")
    assert epochs_of(moved) == {"best.ckpt": 3, "last.ckpt": 3}


def test_a_best_that_was_left_behind_is_chosen_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_with(monkeypatch, 0.5, 0.4, 0.3)
    fit(cache, tmp_path, callbacks=best_and_last(tmp_path))
    (tmp_path / "best.ckpt").unlink()
    best, last = best_and_last(tmp_path)
    fit(cache, tmp_path, epochs=3, callbacks=(best, last), resume=tmp_path / "last.ckpt")
    assert epochs_of(tmp_path) == {"best.ckpt": 2, "last.ckpt": 2}
    assert best.best_model_score == torch.tensor(0.3)


def test_the_same_command_gives_the_same_weights(cache: Path, tmp_path: Path) -> None:
    first, second = (fit(cache, tmp_path)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_ends_like_an_uninterrupted_one(cache: Path, tmp_path: Path) -> None:
    def every_epoch() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")

    whole, trainer = fit(cache, tmp_path, callbacks=(every_epoch(),))
    resumed, _ = fit(cache, tmp_path, callbacks=(every_epoch(),), resume=tmp_path / "epoch=0.ckpt")
    assert trainer.global_step == 8
    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_averaged_weights_can_be_validated_and_saved(cache: Path, tmp_path: Path) -> None:
    average = EMAWeightAveraging(decay=0.5)
    module, _ = fit(cache, tmp_path, callbacks=(average, best_by_froc(tmp_path)))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    name = "network.head.output.weight"
    assert torch.equal(checkpoint["state_dict"][name], module.state_dict()[name])
    assert not torch.equal(checkpoint["state_dict"][name], checkpoint["current_model_state"][name])


class Broken(AnchorDetector):
    """Gives a loss that is not a number."""

    def __init__(self) -> None:
        network = tiny_network()
        super().__init__(network.backbone, network.anchors, hidden=16)

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        return super().forward(images, position) * torch.nan


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_scans(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"nan .*step 0.* scan\d"):
        fit(cache, tmp_path, network=Broken())


@pytest.mark.ddp
def test_a_loss_that_is_not_finite_on_one_rank_stops_them_all(cache: Path) -> None:
    script = Path(__file__).with_name("broken_rank.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(cache)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        timeout=90,
    )
    assert ended.returncode
    # Of both ranks' batches: the eight patches are of more scans than the four of one rank can be.
    said = re.findall(r"the loss is nan in step 0, in a batch of the scans ([\w, ]+);", ended.stderr)
    assert len(set(said)) == 1
    assert len(said[0].split(", ")) > 4


class WatchedAugment(Augment):
    """Notes with which seed each batch was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> AugmentedBatch:
        self.seeds.append(generator.initial_seed())
        return super().__call__(batch, generator)


def test_each_batch_has_draws_of_its_own_also_while_gradients_are_accumulated(cache: Path, tmp_path: Path) -> None:
    first, second = WatchedAugment(), WatchedAugment()
    _, trainer = fit(cache, tmp_path, augment=first, accumulate=4)
    assert trainer.global_step == 2
    assert len(set(first.seeds)) == 8
    fit(cache, tmp_path, augment=second)
    assert first.seeds == second.seeds


class ForgetfulAugment(Augment):
    """Says that every nodule has left its patch."""

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> AugmentedBatch:
        augmented = super().__call__(batch, generator)
        return replace(augmented, kind=torch.zeros_like(augmented.kind))


def test_a_nodule_that_augmentation_moved_out_is_not_taught(cache: Path, tmp_path: Path) -> None:
    for augment, taught in ((Augment(), True), (ForgetfulAugment(), False)):
        _, trainer = fit(cache, tmp_path, epochs=1, patches=4, augment=augment)
        assert (trainer.callback_metrics["loss/positive"] > 0) == taught


class Placed(AnchorDetector):
    """Notes where it is told that the images were cut."""

    def __init__(self) -> None:
        network = tiny_network()
        super().__init__(network.backbone, network.anchors, hidden=16)
        self.positions: dict[bool, list[Tensor]] = {True: [], False: []}

    def forward(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        assert position is not None
        self.positions[self.training].append(position)
        return super().forward(images, position)


def test_it_knows_where_patches_and_scans_lie(cache: Path, tmp_path: Path) -> None:
    network = Placed()
    module, _ = fit(cache, tmp_path, network=network)
    patches, scans = torch.cat(network.positions[True]), torch.cat(network.positions[False])
    # Patches of 32 voxels in crops of 40 x 44 x 52, mirrored in half of the cases.
    extent = torch.tensor([31 / 39, 31 / 43, 31 / 51])
    torch.testing.assert_close((patches[..., 1] - patches[..., 0]).abs() / 2, extent.expand(len(patches), 3))
    mirrored = (patches[..., 0] > patches[..., 1]).float().mean()
    assert 0.2 < mirrored < 0.8
    assert patches[..., 0].std(dim=0).min() > 0.1
    # Whole crops, padded to 48 x 48 x 64.
    assert scans[..., 0].eq(-1).all()
    torch.testing.assert_close(scans[..., 1] / 2 + 0.5, torch.tensor([47 / 39, 47 / 43, 63 / 51]).expand(len(scans), 3))
    assert module.training


def test_an_assigner_of_another_kind_of_head_is_refused() -> None:
    with pytest.raises(InputError) as error:
        NoduleDetector(
            tiny_segmentation(), CentreAssigner(), one_stage(), Augment(), InferenceSettings(), torch.optim.SGD
        )
    assert error.value.key == "argument-conflict"
    for named in ("CentreAssigner", "SegmentationDetector"):
        assert named in str(error.value)


def test_a_segmentation_trains_and_is_searched_with(cache: Path, tmp_path: Path) -> None:
    module, trainer = fit(cache, tmp_path, network=tiny_segmentation())
    assert isinstance(module.network, SegmentationDetector)
    assert {"loss/total", "loss/box", "val/froc"} <= set(trainer.callback_metrics)


class KeptLabels(OutlineAssigner):
    """Keeps what it is given and what it makes of it."""

    def __call__(self, anchors: Tensor, boxes: Tensor, kind: Tensor, outlines: Tensor | None = None) -> Assignment:
        assigned = super().__call__(anchors, boxes, kind, outlines)
        if outlines is not None:
            assert torch.equal(assigned.label[..., 0] == 1, outlines[:, 0] == 3)
            self.positive = getattr(self, "positive", 0) + int((assigned.label == 1).sum())
        return assigned


def test_a_segmentation_trains_on_outlines(cache: Path, tmp_path: Path) -> None:
    for scan_id in list_entries(cache):
        entry = open_entry(cache, scan_id)
        drawn = np.where((entry.ct == 180) & (entry.lung == 1), 3, 0).astype(np.uint8)
        write_entry(tmp_path / "drawn", replace(entry, outlines=drawn))
    assigner = KeptLabels()
    _, trainer = fit(tmp_path / "drawn", tmp_path, epochs=1, network=tiny_segmentation(), assigner=assigner)
    assert assigner.positive > 100
    assert {"loss/total", "val/froc"} <= set(trainer.callback_metrics)


def test_outlines_that_the_cache_lacks_are_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        fit(cache, tmp_path, epochs=1, network=tiny_segmentation(), assigner=OutlineAssigner())
    assert error.value.key == "annotations-missing"


@pytest.mark.slow
def test_a_segmentation_learns_to_find_balls(cache: Path, tmp_path: Path) -> None:
    _, trainer = fit(cache, tmp_path, epochs=6, patches=80, network=tiny_segmentation())
    assert trainer.callback_metrics["val/froc"] > 0.8


@pytest.mark.slow
def test_it_learns_to_find_balls(cache: Path, tmp_path: Path) -> None:
    _, trainer = fit(cache, tmp_path, epochs=6, patches=160)
    assert trainer.callback_metrics["val/froc"] > 0.8
