"""`nodule-train`: train a detector, or a second stage, on a prepared cache."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from nodule_lightning.cli._application import run_application
from nodule_lightning.cli._sweep import forget_failure
from nodule_lightning.config.instantiate import as_written, instantiate, members, plain
from nodule_lightning.config.values import flag, seed
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import SETS, SPLITS
from nodule_lightning.training.checks import (
    require_a_validation,
    require_in_use,
    require_nodules,
    require_scans,
    require_space,
    require_spacing,
)
from nodule_lightning.training.launch import (
    child_processes_of_this_job,
    follow_the_first_process,
    require_startable,
    write_files_in_the_first_process_only,
)
from nodule_lightning.training.logged_settings import settings_to_log
from nodule_lightning.training.resuming import LAST, require_new, resumed_from, resumes
from nodule_lightning.training.stopping import Progress, stopped_once, told_how_to_go_on

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule

PATH_KEYS = ("cache", "candidates", "paths.output", "paths.run", "paths.sweep")

# What Lightning warns of in every run, and nobody can act on.
NOISE = (
    "`isinstance.treespec, LeafSpec.` is deprecated",
    "The number of training batches .* is smaller than",
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
)


def main() -> None:
    """Run the command."""
    # Only a second stage has candidates.
    run_application(train, "train", PATH_KEYS, optional_paths=("candidates",))


def train(config: DictConfig) -> float:
    """Train, print the best checkpoint and give its validation FROC."""
    from hydra.core.hydra_config import HydraConfig

    follow_the_first_process()
    folder = Path(HydraConfig.get().runtime.output_dir)
    with stopped_once(), told_how_to_go_on(folder / LAST, PATH_KEYS) as progress, wandb_run_of_this_job():
        return _train(config, folder, progress)


def _train(config: DictConfig, folder: Path, progress: Progress) -> float:
    import pytorch_lightning as pl
    from hydra.core.hydra_config import HydraConfig

    from nodule_lightning.training.quiet import silence_log_files, silence_tips
    from nodule_lightning.training.record import record_of_training

    require_in_use(as_written(HydraConfig.get().overrides.task), config)
    resume, rehearsal = resumes(config), flag(config, "rehearsal")
    pl.seed_everything(seed(config), workers=True, verbose=False)
    silence_tips()
    silence_log_files()
    write_files_in_the_first_process_only()
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    datamodule: ScanDataModule = instantiate(config.datamodule)
    if config.trainer.max_epochs is None:
        config.trainer.max_epochs = datamodule.epochs
    require_a_validation(config)
    require_scans(datamodule.cache)
    datamodule.setup("fit")
    recipe = _recipe(config, datamodule)
    last = resumed_from(folder, datamodule, recipe) if resume else None
    if not resume:
        require_new(folder)
    module = _module(config, recipe)
    require_spacing(module, datamodule)
    require_nodules(datamodule)
    require_space(folder, module.network)
    progress.trainer = trainer = _trainer(config)
    require_startable(trainer)
    if rehearsal and last is None and trainer.is_global_zero:
        _rehearse(config, trainer, module, datamodule, folder)
    if trainer.is_global_zero:
        forget_failure()
        if resume and last is None:
            print(f"{folder} holds no checkpoint yet: it begins with the first epoch")
        _write_split(folder / SPLITS, datamodule)
        _log_settings(trainer, config, datamodule)
    with child_processes_of_this_job(trainer), record_of_training(folder, config, trainer, module, datamodule, last):
        trainer.fit(module, datamodule, ckpt_path=last, weights_only=True)
    return _report(trainer)


def _rehearse(
    config: DictConfig,
    trainer: "pl.Trainer",
    module: "ScoredModule",
    datamodule: "ScanDataModule",
    folder: Path,
) -> None:
    from nodule_lightning.training.rehearsal import rehearse

    seconds = rehearse(config, chosen(plain(config.trainer)), trainer, module, datamodule, folder)
    print(f"rehearsal: one batch, one scan and a checkpoint went well in {seconds:.0f} s")


def _module(config: DictConfig, recipe: dict[str, dict[str, Any]]) -> "ScoredModule":

    module: ScoredModule = instantiate(config.module)
    module.recipe = recipe
    return module


def _recipe(config: DictConfig, datamodule: "ScanDataModule") -> dict[str, dict[str, Any]]:
    from nodule_lightning.training.record import fingerprint_candidates

    candidates = fingerprint_candidates(datamodule)
    return plain(config.recipe) if candidates is None else {**plain(config.recipe), "candidates": candidates}


def _trainer(config: DictConfig) -> "pl.Trainer":
    from hydra.errors import InstantiationException
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from nodule_lightning.training.quiet import drop_deprecated_arguments

    values = {
        **chosen(plain(config.trainer)),
        "callbacks": members(config.callbacks),
        "logger": members(config.logger),
    }
    try:
        trainer: pl.Trainer = instantiate(values)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise InputError(f"the trainer cannot be made: {error.__cause__}") from None
        raise
    drop_deprecated_arguments(trainer.loggers)
    return trainer


def chosen(trainer: dict[str, Any]) -> dict[str, Any]:
    """Choose what `auto` means on this machine for the precision and for batch norm over several processes."""
    import torch

    from nodule_lightning.search.precision import is_quick_in_bf16

    on_gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
    precise = "bf16-mixed" if is_quick_in_bf16(on_gpu) else "32-true"
    # There is no batch norm over processes without GPUs.
    meant = {"precision": precise, "sync_batchnorm": on_gpu}
    return {key: meant[key] if key in meant and value == "auto" else value for key, value in trainer.items()}


def _write_split(folder: Path, datamodule: "ScanDataModule") -> None:
    from nodule_lightning.io.tables import write_scan_ids

    for name in SETS:
        write_scan_ids(folder / f"{name}.csv", getattr(datamodule.split, name))


def _log_settings(trainer: "pl.Trainer", config: DictConfig, datamodule: "ScanDataModule") -> None:
    from hydra.core.hydra_config import HydraConfig

    choices = HydraConfig.get().runtime.choices
    values = settings_to_log(config, choices, datamodule, chosen(plain(config.trainer)))
    for logger in trainer.loggers:
        logger.log_hyperparams({**values, "processes": trainer.world_size})


@contextmanager
def wandb_run_of_this_job() -> Iterator[None]:
    """Finish what wandb has begun: else the next job of a sweep, in this same process, would log into the same run."""
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
