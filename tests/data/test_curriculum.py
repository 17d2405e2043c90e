"""A training in stages: each with its loss and its draws, and the same weights however often it is interrupted."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from nodule_lightning.data.curriculum import Curriculum, Stage
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError
from nodule_lightning.losses.error_weights import StepWeight
from nodule_lightning.losses.hard_mining import HardMiningLoss, LossTerms
from nodule_lightning.models.heads import AnchorDetector
from nodule_lightning.search.inference import InferenceSettings
from nodule_lightning.training.callbacks.patch_mining import PatchMining
from nodule_lightning.training.callbacks.scan_mining import ScanMining
from nodule_lightning.training.callbacks.stage_line import StageLine
from nodule_lightning.training.callbacks.weight_average import WeightAverage
from tests.balls import one_stage, tiny_datamodule, tiny_module, tiny_network, write_balls

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

EPOCHS = 5
SPAN = SamplingRule(8, negative_share=0.25)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 8)


class WatchedLoss(HardMiningLoss):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__(hard_per_patch=4)
        self.calls = 0

    def __call__(self, maps: Tensor, assignment: Assignment, generator: torch.Generator) -> LossTerms:
        self.calls += 1
        return super().__call__(maps, assignment, generator)


class WatchedBatches(pl.Callback):
    """Notes of each epoch how many of its patches show a nodule, and the learning rate of its first step."""

    def __init__(self) -> None:
        self.shown: dict[int, int] = {}
        self.rates: dict[int, float] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: PatchBatch, batch_idx: int
    ) -> None:
        epoch = trainer.current_epoch
        self.shown[epoch] = self.shown.get(epoch, 0) + int((batch.kind == 1).any(dim=1).sum())
        self.rates.setdefault(epoch, trainer.optimizers[0].param_groups[0]["lr"])


def three_stages() -> Curriculum:
    """Two epochs of the plain loss, one that mines in patches, two of weighted examples that mine in scans as well."""
    return Curriculum(
        {
            "plain": Stage(2, HardMiningLoss(hard_per_patch=800), SPAN),
            "mined": Stage(1, HardMiningLoss(hard_per_patch=4), SamplingRule(8, negative_share=0.5), 0.5, 0.25),
            "weighted": Stage(2, HardMiningLoss(hard_per_patch=4, error_weight=StepWeight()), SPAN, 0.25, 0.25, 1.0),
        }
    )


def with_dropout() -> AnchorDetector:
    network = tiny_network()
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout3d):
            part.p = 0.5
    return network


def fit(
    cache: Path,
    folder: Path,
    curriculum: Curriculum,
    *,
    epochs: int = EPOCHS,
    resume: Path | None = None,
    workers: int = 0,
    callbacks: tuple[pl.Callback, ...] = (),
) -> None:
    """Train and keep the checkpoint of each epoch as `0.ckpt` and so on."""
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            *callbacks,
            WeightAverage(0.9),
            PatchMining(),
            ScanMining(every_n_epochs=1, most_per_scan=3, min_probability=0.001),
            ModelCheckpoint(
                folder, "{epoch}", save_top_k=-1, auto_insert_metric_name=False, save_on_train_epoch_end=True
            ),
        ],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    module = tiny_module(with_dropout(), curriculum=curriculum)
    # So that a network that knows nothing yet has false positives.
    module.inference = InferenceSettings(min_probability=0.001)
    # What comes before a resumed run's first step must not matter.
    torch.manual_seed(0 if resume is None else 12345)
    trainer.fit(module, tiny_datamodule(cache, workers=workers, curriculum=curriculum), ckpt_path=resume)


def state(folder: Path, epoch: int = EPOCHS - 1) -> dict[str, Any]:
    """Give the average of the weights, the weights, what moves them, and what mining found."""
    checkpoint = torch.load(folder / f"{epoch}.ckpt", weights_only=True)
    names = ("state_dict", "averaging_state", "current_model_state", "optimizer_states", "lr_schedulers", "global_step")
    callbacks = {name: checkpoint["callbacks"][name] for name in ("PatchMining", "ScanMining")}
    return {**callbacks, **{name: checkpoint[name] for name in names}}


def same(one: object, other: object) -> bool:
    """Compare to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
    return one == other


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fit(cache, folder, three_stages())
    return folder


@pytest.mark.parametrize("stopped", range(EPOCHS - 1), ids=["in plain", "to mined", "to weighted", "in weighted"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_in_any_stage_ends_like_one_that_was_not(
    cache: Path, whole: Path, tmp_path: Path, stopped: int, workers: int
) -> None:
    fit(cache, tmp_path, three_stages(), resume=whole / f"{stopped}.ckpt", workers=workers)
    assert not (tmp_path / f"{stopped}.ckpt").exists()
    assert same(state(tmp_path), state(whole))


def test_mining_is_a_part_of_that(whole: Path) -> None:
    for epoch, (replayed, mined_before) in enumerate([(0, None), (2, None), (2, 3), (2, 4), (2, 4)]):
        found = state(whole, epoch)
        assert len(found["PatchMining"]["draws"]) == replayed
        assert found["ScanMining"]["mined_before"] == mined_before
        assert (len(found["ScanMining"]["bank"]["score"]) > 3) == (mined_before is not None)
    assert (state(whole)["ScanMining"]["bank"]["rounds"] == 2).any()


def test_each_stage_has_its_own_loss_draws_and_learning_rate(cache: Path, tmp_path: Path) -> None:
    losses = [WatchedLoss() for _ in range(3)]
    rules = [SamplingRule(8, negative_share=share) for share in (0.0, 1.0, 0.0)]
    stages = [Stage(*stage) for stage in zip((2, 1, 1), losses, rules, (1.0, 0.5, 0.1), strict=True)]
    watched = WatchedBatches()
    curriculum = Curriculum(dict(zip("abc", stages, strict=True)))
    fit(cache, tmp_path, curriculum, callbacks=(watched,), epochs=5)
    # Two batches an epoch; the last stage goes on.
    assert [loss.calls for loss in losses] == [4, 2, 4]
    assert [watched.shown[epoch] for epoch in (0, 1, 3, 4)] == [8] * 4
    assert watched.shown[2] < 8
    schedule = tiny_module().schedule
    assert schedule is not None
    factors = (1.0, 1.0, 0.5, 0.1, 0.1)
    by_hand = [4e-3 * factor * schedule(2 * epoch, 10) for epoch, factor in enumerate(factors)]
    assert list(watched.rates.values()) == pytest.approx(by_hand)


def test_a_line_says_which_stage_begins(
    cache: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        said = [record.getMessage() for record in caplog.records if ": stage " in record.getMessage()]
        caplog.clear()
        return said

    with caplog.at_level("INFO"):
        fit(cache, tmp_path, three_stages(), resume=whole / "1.ckpt", callbacks=(StageLine(),))
        assert lines() == ["epoch 3: stage 2 of 3, mined", "epoch 4: stage 3 of 3, weighted"]
        fit(cache, tmp_path / "single", one_stage(), epochs=2, callbacks=(StageLine(),))
        assert lines() == []


@pytest.mark.parametrize(
    "numbers", [(0, 1.0), (1, -1.0), (1, 1.0, 1.0), (1, 1.0, -0.1), (1, 1.0, 0.0, 1.1), (1, 1.0, 0.0, -0.1)]
)
def test_stages_that_make_no_sense_are_refused(numbers: tuple[int, float]) -> None:
    epochs, *others = numbers
    with pytest.raises(InputError) as error:
        Stage(epochs, HardMiningLoss(), SPAN, *others)
    assert error.value.key == "argument-invalid"
    assert str(min(numbers) if min(numbers) <= 0 else max(numbers)) in str(error.value)


def test_no_stage_is_refused() -> None:
    with pytest.raises(InputError) as error:
        Curriculum({})
    assert error.value.key == "argument-invalid"
