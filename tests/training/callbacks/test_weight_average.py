"""The averaged weights are those that are validated, saved and predicted with; training goes on from the others."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.training.callbacks.weight_average import WeightAverage, averaged_weights
from nodule_lightning.training.checkpoint import load_detector
from tests.balls import tiny_datamodule, tiny_module, write_balls

pytestmark = [
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]

MODEL = {
    "network": {
        "_target_": "nodule_lightning.models.heads.AnchorDetector",
        "backbone": {
            "_target_": "nodule_lightning.models.res_unet.ResUNet",
            "channels": [8, 8, 16, 16, 16],
            "blocks": [0, 1, 1, 1],
            "decoder_channels": [16, 16],
            "decoder_blocks": [1, 1],
            "norm": "batch",
            "stem_stride": 2,
            "dropout": 0.0,
        },
        "anchors": {"_target_": "nodule_lightning.detection.anchors.AnchorGrid", "diameters_mm": [6.0, 10.0]},
        "hidden": 16,
    },
    "inference": {"_target_": "nodule_lightning.search.inference.InferenceSettings"},
}


def weights(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


class Watcher(pl.Callback):
    """Notes the weights after each step, and those of each validation and of a look in between."""

    def __init__(self) -> None:
        self.stepped: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.lent: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:  # noqa: ANN401
        self.stepped.append(weights(pl_module))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:  # noqa: ANN401
        self.validated.append(weights(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with averaged_weights(trainer, pl_module):
            self.lent.append(weights(pl_module))
        assert equal(weights(pl_module), self.stepped[-1])


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(stepped: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = {name: value.double() for name, value in stepped[0].items()}
    for step, current in enumerate(stepped[1:], start=1):
        kept = min(decay, (1 + step) / (10 + step))
        for name, value in current.items():
            whole = not value.is_floating_point()
            average[name] = value.double() if whole else kept * average[name] + (1 - kept) * value.double()
    return average


def test_the_average_is_validated_saved_and_predicted_with(tmp_path: Path) -> None:
    watcher = Watcher()
    module = tiny_module()
    module.recipe = MODEL
    datamodule = tiny_datamodule(write_balls(tmp_path / "cache", 8), 32)
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            WeightAverage(0.3),
            watcher,
            ModelCheckpoint(tmp_path / "run", "best", monitor="val/froc", mode="max", save_on_train_epoch_end=True),
        ],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    datamodule.setup("fit")
    datamodule.preparation = PreparationSettings().to_dict()
    datamodule.setup = lambda stage=None: None  # type: ignore[method-assign]
    trainer.fit(module, datamodule)

    expected = by_hand(watcher.stepped, 0.3)
    assert len(watcher.stepped) == 8
    checkpoint = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    saved = checkpoint["state_dict"]
    for name, value in expected.items():
        assert torch.allclose(saved[name].double(), value, atol=1e-6), name
    assert equal(checkpoint["current_model_state"], watcher.stepped[-1])
    assert not equal(saved, watcher.stepped[-1])
    assert equal(watcher.validated[0], saved)
    assert equal(watcher.lent[0], saved)
    loaded = load_detector(tmp_path / "run" / "best.ckpt").network.state_dict()
    assert equal({f"network.{name}": value for name, value in loaded.items()}, saved)


def test_the_average_follows_the_model_to_its_device() -> None:
    average, module = WeightAverage(), tiny_module()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    average.setup(trainer, module, "fit")
    module.to("meta")
    average.on_fit_start(trainer, module)
    checkpoint: dict[str, Any] = {"state_dict": {}}
    average.on_save_checkpoint(trainer, module, checkpoint)
    assert checkpoint["state_dict"].keys() == module.state_dict().keys()
    assert {value.device.type for value in checkpoint["state_dict"].values()} == {"meta"}


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_makes_no_sense_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match=str(decay)) as error:
        WeightAverage(decay)
    assert error.value.key == "argument-invalid"
