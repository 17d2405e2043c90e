"""Run a training: build its objects from a plan, check them, rehearse, fit, and report the score."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import SETS, SPLITS
from nodule_lightning.io.tables import write_scan_ids
from nodule_lightning.training.checks import (
    require_a_validation,
    require_nodules,
    require_scans,
    require_space,
    require_spacing,
)
from nodule_lightning.training.launch import count_devices, is_slurm, runs_alone
from nodule_lightning.training.plan import TrainingPlan, decide_auto
from nodule_lightning.training.quiet import drop_deprecated_arguments, silence_log_files, silence_tips

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule

# Warnings of every run that users cannot act on.
NOISE: Final = (
    "`isinstance.treespec, LeafSpec.` is deprecated",
    "The number of training batches .* is smaller than",
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
    "Grad strides do not match bucket view strides",
)


def fit(plan: TrainingPlan) -> float:
    """Train as planned, print the best checkpoint and return its validation FROC.

    Every process of a job calls this; only the first one writes files.

    Raises:
        InputError: before the first step, if the data, the checkpoint to resume from or a setting is unfit.
    """
    with _wandb_finished():
        return _fit(replace(plan, trainer=decide_auto(plan.trainer)))


def _fit(plan: TrainingPlan) -> float:
    import pytorch_lightning as pl

    from nodule_lightning.training.record import fingerprint_candidates, record_of_training
    from nodule_lightning.training.resuming import find_checkpoint, require_new

    pl.seed_everything(plan.seed, workers=True, verbose=False)
    silence_tips()
    silence_log_files()
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    datamodule: ScanDataModule = instantiate(plan.datamodule)
    epochs = plan.trainer["max_epochs"]
    epochs = datamodule.epochs if epochs is None else epochs
    require_a_validation(epochs, plan.trainer.get("check_val_every_n_epoch"))
    require_scans(datamodule.cache)
    datamodule.setup("fit")
    if candidates := fingerprint_candidates(datamodule):
        plan = replace(plan, recipe={**plan.recipe, "candidates": candidates})
    last = find_checkpoint(plan, datamodule) if plan.resume else None
    if not plan.resume:
        require_new(plan.folder)
    module: ScoredModule = instantiate(plan.module)
    module.recipe = dict(plan.recipe)
    require_spacing(module, datamodule)
    require_nodules(datamodule)
    # The other processes of torchrun and srun have no folder.
    if plan.folder.is_dir():
        require_space(plan.folder, module.network)
    trainer = _trainer(plan, epochs)
    if trainer.is_global_zero:
        _begin(plan, trainer, module, datamodule, last)
    with record_of_training(plan, trainer, module, datamodule, last):
        trainer.fit(module, datamodule, ckpt_path=last, weights_only=True)
    return _report(trainer)


def _begin(
    plan: TrainingPlan,
    trainer: "pl.Trainer",
    module: "ScoredModule",
    datamodule: "ScanDataModule",
    last: Path | None,
) -> None:
    """Rehearse, and write which scans and settings the run has; in the first process only."""
    from nodule_lightning.training.rehearsal import rehearse

    if plan.rehearsal and last is None:
        seconds = rehearse(plan, trainer, module, datamodule)
        print(f"rehearsal: one batch, one scan and a checkpoint went well in {seconds:.0f} s")
    if plan.resume and last is None:
        print(f"{plan.folder} holds no checkpoint yet: the run starts with the first epoch")
    for name in SETS:
        write_scan_ids(plan.folder / SPLITS / f"{name}.csv", getattr(datamodule.split, name))
    _log_settings(plan, trainer, datamodule)


def _trainer(plan: TrainingPlan, epochs: object) -> "pl.Trainer":
    from hydra.errors import InstantiationException
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    callbacks, loggers = list(plan.callbacks), list(plan.loggers)
    values = {**plan.trainer, "max_epochs": epochs, "callbacks": callbacks, "logger": loggers}
    try:
        wanted = count_devices(str(values["accelerator"]), values["devices"]) * int(values.get("num_nodes", 1))
        if is_slurm() and runs_alone(wanted):
            # Lightning would wait for the job's other tasks.
            values["plugins"] = [LightningEnvironment()]
        trainer: pl.Trainer = instantiate(values)
    except MisconfigurationException as error:
        raise InputError(f"the trainer cannot be made: {error}", "device-unavailable") from None
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise InputError(f"the trainer cannot be made: {error.__cause__}", "argument-invalid") from None
        raise
    drop_deprecated_arguments(trainer.loggers)
    return trainer


def _log_settings(plan: TrainingPlan, trainer: "pl.Trainer", datamodule: "ScanDataModule") -> None:
    split = datamodule.split
    values: dict[str, Any] = {
        **plan.settings,
        "preparation": datamodule.preparation,
        "scans": {name: len(getattr(split, name)) for name in SETS},
        "processes": trainer.world_size,
        "trainer": {
            **plan.settings["trainer"],
            **{key: plan.trainer[key] for key in ("precision", "sync_batchnorm") if key in plan.trainer},
            "max_epochs": trainer.max_epochs,
        },
    }
    for logger in trainer.loggers:
        logger.log_hyperparams(values)


@contextmanager
def _wandb_finished() -> Iterator[None]:
    """Finish the wandb run at the end: the next job of a sweep in this process would log into it."""
    try:
        yield
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish()


def _report(trainer: "pl.Trainer") -> float:
    from rich.console import Console
    from rich.text import Text

    best = trainer.checkpoint_callback
    path = Path(getattr(best, "best_model_path", "") or "none")
    score = getattr(best, "best_model_score", None)
    froc = float("nan") if score is None else float(score)
    if trainer.is_global_zero:
        console = Console()
        console.print("best checkpoint:", Text(str(path)), soft_wrap=True)
        console.print(f"validation FROC: {froc:.4f}", highlight=False)
    return froc
