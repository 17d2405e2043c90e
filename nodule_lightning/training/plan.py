"""What a training is made from, in plain values, so that it can be handed to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A composed configuration of `nodule-train`, every interpolation resolved.

    Attributes:
        folder: of the run.
        seed: of splits, draws and weights.
        resume: whether to go on from the last checkpoint in the folder.
        rehearsal: whether to rehearse before the first step.
        datamodule: `_target_` and arguments of the data module.
        module: `_target_` and arguments of the LightningModule.
        trainer: `_target_` and arguments of the Trainer, without callbacks and loggers; `auto` is already decided.
        callbacks: `_target_` and arguments of each callback.
        loggers: `_target_` and arguments of each logger.
        recipe: what the checkpoint keeps to build the network again, and what a resumed run may not change.
        settings: what the loggers are given; see `logged_settings`.
        configuration: the files of this start's configuration, by name, as text.
        is_swept: whether the run is a job of a sweep.
        names_folder: whether the user has named the run's folder.
    """

    folder: Path
    seed: int
    resume: bool
    rehearsal: bool
    datamodule: Mapping[str, Any]
    module: Mapping[str, Any]
    trainer: Mapping[str, Any]
    callbacks: tuple[Mapping[str, Any], ...]
    loggers: tuple[Mapping[str, Any], ...]
    recipe: Mapping[str, Any]
    settings: Mapping[str, Any]
    configuration: Mapping[str, str]
    is_swept: bool = False
    names_folder: bool = False


def decide_auto(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `auto` by what it means on this machine for the precision and for batch norm over several processes."""
    import torch

    from nodule_lightning.search.precision import is_quick_in_bf16

    on_gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
    precise = "bf16-mixed" if is_quick_in_bf16(on_gpu) else "32-true"
    # CPUs have no batch norm over processes.
    meant = {"precision": precise, "sync_batchnorm": on_gpu}
    return {key: meant[key] if key in meant and value == "auto" else value for key, value in trainer.items()}
