"""The plan of a training: its whole configuration in plain values, which other processes can unpickle."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A composed configuration of `nodule-train`, every interpolation resolved.

    Attributes:
        folder: the run's folder.
        seed: of splits, sampling and weights.
        resume: whether to continue from the last checkpoint in the folder.
        rehearsal: whether to rehearse before the first step.
        datamodule: `_target_` and arguments of the data module.
        module: `_target_` and arguments of the LightningModule.
        trainer: `_target_` and arguments of the Trainer, without callbacks and loggers.
        callbacks: `_target_` and arguments of each callback.
        loggers: `_target_` and arguments of each logger.
        recipe: what a checkpoint needs to rebuild the network, and what a resumed run must not change.
        settings: what the loggers log as hyperparameters; see `logged_settings`.
        configuration: text of this start's configuration files, by file name.
        is_swept: whether the run is a job of a sweep.
        names_folder: whether the user named the run's folder.
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
    """Resolve `auto` for `precision` and `sync_batchnorm` on this machine.

    This asks the GPU what it can do: only a process that trains on it may call it, not one that launches others.
    """
    import torch

    from nodule_lightning.search.precision import is_quick_in_bf16

    on_gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
    precise = "bf16-mixed" if is_quick_in_bf16(on_gpu) else "32-true"
    # Synchronised batch norm exists on GPUs only.
    meant = {"precision": precise, "sync_batchnorm": on_gpu}
    return {key: meant[key] if key in meant and value == "auto" else value for key, value in trainer.items()}
