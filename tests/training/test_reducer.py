"""The second stage on tiny scans: it trains, lowers false positives, repeats itself and is saved."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from nodule_lightning.errors import InputError
from nodule_lightning.losses.classification import ClassificationLoss
from nodule_lightning.search.rescoring import RULES, RescoringSettings
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY
from nodule_lightning.training.reducer import FalsePositiveReducer
from tests.balls import SETTINGS, write_balls
from tests.marked_balls import mark_balls, tiny_candidate_datamodule, tiny_classifier, tiny_reducer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 18)


@pytest.fixture(scope="module")
def candidates(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mark_balls(cache, tmp_path_factory.mktemp("found") / "submission.csv")


def fit(
    cache: Path, candidates: Path, folder: Path, *, epochs: int = 2, patches: int = 32, resume: Path | None = None
) -> tuple[FalsePositiveReducer, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    module = tiny_reducer()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        log_every_n_steps=1,
    )
    datamodule = tiny_candidate_datamodule(cache, candidates, patches=patches)
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume)
    return module, trainer


def test_it_lowers_the_false_positives_of_a_detector(cache: Path, candidates: Path, tmp_path: Path) -> None:
    _, trainer = fit(cache, candidates, tmp_path, epochs=5, patches=96)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    # The detector was surest of empty places: two thirds of the marks of each scan are false and above the ball's.
    assert scores["val/froc_detector"] < 0.7
    assert scores["val/froc"] > 0.95
    assert {f"val/froc_{rule}" for rule in RULES if rule != "product"} <= set(scores)
    assert scores["val/froc_geometric"] == scores["val/froc"]


def test_a_checkpoint_is_of_plain_values_and_resumes_to_the_same_weights(
    cache: Path, candidates: Path, tmp_path: Path
) -> None:
    whole, trainer = fit(cache, candidates, tmp_path)
    assert {"loss/total", "loss/positive", "loss/negative", "val/sensitivity@1"} <= set(trainer.callback_metrics)
    first = tmp_path / "epoch=0.ckpt"
    about = torch.load(first, weights_only=True)[CHECKPOINT_KEY]
    assert about["model"] == {"channels": [4, 8, 8]}
    assert about["preparation"] == SETTINGS
    resumed, _ = fit(cache, candidates, tmp_path, resume=first)
    assert trainer.global_step == 8
    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    other_epoch = torch.load(first, weights_only=True)["state_dict"]
    assert any(not torch.equal(one[name], other_epoch[name]) for name in one)


def test_a_scan_without_candidates_counts_with_its_misses(cache: Path, candidates: Path, tmp_path: Path) -> None:
    module = tiny_reducer()
    datamodule = tiny_candidate_datamodule(cache, candidates)
    datamodule.setup("fit")
    for place, scan in enumerate(datamodule.whole_scans(datamodule.split.validation)):
        assert len(scan.candidates) == 0
        module.validation_step(scan, place)
    assert module.froc.compute()["froc"] == 0
    assert len(module.froc.scans().scan_ids) == len(datamodule.split.validation)


def test_patches_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(InputError) as error:
        FalsePositiveReducer(
            tiny_classifier(), ClassificationLoss(), tiny_reducer().augment, RescoringSettings(18), torch.optim.SGD
        )
    assert error.value.key == "argument-invalid"
    for named in ("patch_voxels", "4", "18"):
        assert named in str(error.value)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_scans(
    cache: Path, candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.marked_balls.tiny_classifier", broken)
    with pytest.raises(FloatingPointError, match=r"nan .*step 0.* scan\d"):
        fit(cache, candidates, tmp_path)


def broken() -> torch.nn.Module:
    network = tiny_classifier()
    with torch.no_grad():
        assert network.output.bias is not None
        network.output.bias.fill_(np.nan)
    return network
