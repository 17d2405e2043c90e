"""Go through all that a training does, once and quickly, before hours are spent on it.

Lightning's own `fast_dev_run` leaves out callbacks and checkpoints, and its sanity check leaves out the training step.
"""

import copy
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omegaconf import DictConfig, OmegaConf

from nodule_lightning.config.instantiate import instantiate, members
from nodule_lightning.training.checkpoint import require_usable

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule

PLACE: Final = "rehearsal"
# One process that starts no other and knows of no cluster.
_ALONE: Final = {"strategy": "auto", "num_nodes": 1, "sync_batchnorm": False}
_NO_CLUSTER: Final = {"_target_": "pytorch_lightning.plugins.environments.LightningEnvironment"}
_SHORT: Final = {
    "max_epochs": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "enable_progress_bar": False,
}
# What would end it before its time, or not at all.
_UNSET: Final = ("max_steps", "min_steps", "min_epochs", "max_time", "val_check_interval", "fast_dev_run", "profiler")


def rehearse(
    config: DictConfig,
    trainer_values: Mapping[str, Any],
    trainer: "pl.Trainer",
    module: "ScoredModule",
    datamodule: "ScanDataModule",
    folder: Path,
) -> float:
    """Train a copy of the model on one batch, validate it on a scan, and write its checkpoints and read them back.

    The callbacks of the run take part, in a folder of their own that is removed at the end; the loggers and the
    progress bar do not. The scan is the largest validation scan with a nodule, which takes most memory. Nothing of it
    stays: neither a weight nor the state of a random generator, so that the run is the same to the bit without it.

    Args:
        config: of `nodule-train`.
        trainer_values: plain values of the trainer to be.
        trainer: of the run, whose first device is taken.
        module: about to be fitted.
        datamodule: after its `setup`.
        folder: of the run.

    Returns:
        The seconds that it took.

    Raises:
        InputError: what the run itself would end with.
    """
    from pytorch_lightning.utilities.seed import isolate_rng

    started, place = time.monotonic(), folder / PLACE
    # A run that was killed meanwhile has left it.
    shutil.rmtree(place, ignore_errors=True)
    try:
        with isolate_rng(), _quiet():
            short = _short_trainer(config, trainer_values, trainer, folder, place)
            short.fit(copy.deepcopy(module), _on_one_scan(datamodule), weights_only=True)
            for path in sorted(place.rglob("*.ckpt")):
                require_usable(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return time.monotonic() - started


def _short_trainer(
    config: DictConfig, trainer_values: Mapping[str, Any], trainer: "pl.Trainer", folder: Path, place: Path
) -> "pl.Trainer":
    short = config.copy()
    # A checkpoint is written as often as there is a validation.
    OmegaConf.update(short, "trainer.check_val_every_n_epoch", 1, force_add=True)
    callbacks = [value for value in members(short.callbacks) if not _is(value, "ProgressBar")]
    # Among them is what writes the run's checkpoints.
    plugins = [value for value in trainer_values.get("plugins") or () if not _is(value, "Environment")]
    device = trainer.strategy.root_device
    values = {
        **{key: value for key, value in trainer_values.items() if key not in _UNSET},
        **_ALONE,
        **_SHORT,
        "plugins": [*plugins, _NO_CLUSTER],
        "devices": 1 if device.index is None else [device.index],
        "callbacks": _moved(callbacks, str(folder), str(place)),
        "logger": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(place)},
        "default_root_dir": str(place),
    }
    made: pl.Trainer = instantiate(values)
    return made


def _on_one_scan(datamodule: "ScanDataModule") -> "ScanDataModule":
    from nodule_lightning.cache.entries import read_description

    marked = [scan_id for scan_id in datamodule.split.validation if len(datamodule.catalog.nodules(scan_id))]
    shapes = {scan_id: read_description(datamodule.cache, scan_id)["grid"]["shape"] for scan_id in marked}
    largest = max(shapes, key=lambda scan_id: shapes[scan_id][0] * shapes[scan_id][1] * shapes[scan_id][2])
    rehearsed = copy.copy(datamodule)
    rehearsed.split = replace(datamodule.split, validation=(largest,))
    # What it has set up is kept.
    rehearsed.setup = lambda stage=None: None  # type: ignore[method-assign]
    return rehearsed


def _is(value: object, kind: str) -> bool:
    return isinstance(value, Mapping) and str(value.get("_target_")).endswith(kind)


def _moved(values: Any, folder: str, place: str) -> Any:  # noqa: ANN401 - any plain value
    """Let every path in the run's folder lead to the same place in another."""
    if isinstance(values, Mapping):
        return {key: _moved(value, folder, place) for key, value in values.items()}
    if isinstance(values, list):
        return [_moved(value, folder, place) for value in values]
    if isinstance(values, str) and (values == folder or values.startswith(f"{folder}/")):
        return place + values.removeprefix(folder)
    return values


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
