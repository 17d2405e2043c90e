"""A quick trial of a training before hours are spent on it: one batch, one whole scan, one checkpoint.

Lightning's `fast_dev_run` writes no checkpoint, and its sanity check skips the training step.
"""

import copy
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from nodule_lightning.cache.entries import read_description
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.io.run_folder import REHEARSAL
from nodule_lightning.training.checkpoint import require_usable
from nodule_lightning.training.plan import TrainingPlan

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule

# One process, even on a cluster.
_ALONE: Final = {
    "strategy": "auto",
    "num_nodes": 1,
    "sync_batchnorm": False,
    "plugins": [
        {"_target_": "pytorch_lightning.plugins.environments.LightningEnvironment"},
        {"_target_": "nodule_lightning.training.checkpoint_io.WholeCheckpointIO"},
    ],
}
_SHORT: Final = {
    "max_epochs": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "logger": False,
}
# These could end the rehearsal early, or keep it from ending.
_UNSET: Final = ("max_steps", "min_steps", "min_epochs", "max_time", "val_check_interval", "fast_dev_run", "profiler")


def rehearse(plan: TrainingPlan, trainer: "pl.Trainer", module: "ScoredModule", datamodule: "ScanDataModule") -> float:
    """Train a copy of the model on one batch, search one validation scan, write a checkpoint and read it back.

    The scan is the largest one with a nodule, which needs the most memory. Callbacks and loggers are left out. Weights
    and random generators are restored, so the run is bit-identical with and without a rehearsal.

    Args:
        plan: the plan of the run.
        trainer: the trainer of the run; the rehearsal uses its first device.
        module: the module to be fitted.
        datamodule: the data module, after `setup`.

    Returns:
        The duration in seconds.

    Raises:
        InputError: no model can be built from the checkpoint. Any other error of a training step, a validation step or
            the disk propagates.
    """
    from pytorch_lightning.utilities.seed import isolate_rng

    started = time.monotonic()
    # A rehearsal that was killed has left its own.
    for left in plan.folder.glob(f"{REHEARSAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    # Inside the run's folder, to test the disk that the run will write to.
    with TemporaryDirectory(prefix=REHEARSAL, dir=plan.folder) as folder, isolate_rng(), _quiet():
        short = _short_trainer(plan, trainer, folder)
        short.fit(copy.deepcopy(module), with_one_scan(datamodule), weights_only=True)
        checkpoint = Path(folder, "rehearsal.ckpt")
        short.save_checkpoint(checkpoint)
        require_usable(checkpoint)
    return time.monotonic() - started


def _short_trainer(plan: TrainingPlan, trainer: "pl.Trainer", folder: str) -> "pl.Trainer":
    device = trainer.strategy.root_device
    values = {
        **{key: value for key, value in plan.trainer.items() if key not in _UNSET},
        **_ALONE,
        **_SHORT,
        "devices": 1 if device.index is None else [device.index],
        "default_root_dir": folder,
    }
    made: pl.Trainer = instantiate(values)
    return made


def with_one_scan(datamodule: "ScanDataModule") -> "ScanDataModule":
    """Copy a data module, keeping only the largest validation scan that has a nodule."""
    marked = [scan_id for scan_id in datamodule.split.validation if len(datamodule.catalog.nodules(scan_id))]
    shapes = {scan_id: read_description(datamodule.cache, scan_id)["grid"]["shape"] for scan_id in marked}
    largest = max(shapes, key=lambda scan_id: shapes[scan_id][0] * shapes[scan_id][1] * shapes[scan_id][2])
    rehearsed = copy.copy(datamodule)
    rehearsed.split = replace(datamodule.split, validation=(largest,))
    # A second setup would split the scans again.
    rehearsed.setup = lambda stage=None: None  # type: ignore[method-assign]
    return rehearsed


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
