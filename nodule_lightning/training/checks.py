"""Checks before the first training step, for mistakes that would otherwise cost hours.

They find settings without effect, a training that is never validated, a cache with missing scans or another voxel
spacing than the model's, splits without a nodule, and a full disk.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omegaconf import DictConfig

from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS
from nodule_lightning.training.logged_settings import groups_in_use, referred

if TYPE_CHECKING:
    import torch.nn

    from nodule_lightning.data.datamodule import ScanDataModule
    from nodule_lightning.training.module import ScoredModule

# Groups that a task, or a stage of its curriculum, may leave unused.
OPTIONAL_GROUPS: Final = ("model", "assign", "loss", "sampler", "curriculum", "inference")
# The weights, their average, and the two moments of AdamW.
_COPIES_OF_WEIGHTS: Final = 4
# best.ckpt, last.ckpt, and the draft that replaces one of them.
_FILES: Final = 3
# Logs, reports and pictures.
_REST_BYTES: Final = 100_000_000


def require_in_use(overrides: Sequence[str], config: DictConfig) -> None:
    """Refuse overrides of a group that the task, or its curriculum, does not use: they would have no effect.

    Raises:
        InputError: an override is in such a group; the message names what to change instead.
    """
    used = groups_in_use(config)
    if "curriculum" in used:
        used |= referred(config.curriculum)
    for override in overrides:
        group = override.lstrip("+~").partition("=")[0].partition(".")[0]
        if group not in OPTIONAL_GROUPS or group in used:
            continue
        if "curriculum" not in used:
            task = config.module["_target_"].rpartition(".")[2]
            raise InputError(
                f"{override} has no effect, because a {task} does not use {group}; leave it out", "argument-conflict"
            )
        names = ", ".join(config.curriculum.stages)
        raise InputError(
            f"{override} has no effect, because each stage of the curriculum has its own {group}: "
            f"change curriculum.stages.STAGE.{group}.KEY (STAGE: {names}), or take curriculum=single",
            "argument-conflict",
        )


def require_a_validation(epochs: object, every: object) -> None:
    """Refuse a training that ends before its first validation, or never.

    Args:
        epochs: the Trainer's `max_epochs`; the Trainer itself checks values that are not integers.
        every: the Trainer's `check_val_every_n_epoch`, likewise.

    Raises:
        InputError: no validation would take place; the message names both settings.
    """
    if isinstance(epochs, int) and epochs < 0:
        raise InputError(
            f"trainer.max_epochs={epochs} has no end, but the learning rate schedule needs one: give a number",
            "argument-invalid",
        )
    if isinstance(epochs, int) and isinstance(every, int) and epochs < every:
        raise InputError(
            f"trainer.max_epochs={epochs} ends before the first validation, trainer.check_val_every_n_epoch={every}: "
            "no checkpoint would be chosen; lower the second",
            "argument-conflict",
        )


def require_scans(cache: Path) -> None:
    """Refuse a cache that lacks scans, and log which scans failed in preparation.

    Raises:
        InputError: as `require_complete`.
    """
    from pytorch_lightning.utilities import rank_zero_info

    from nodule_lightning.cache.completeness import require_complete

    if failed := require_complete(cache):
        rank_zero_info(failed)


def require_spacing(module: "ScoredModule", datamodule: "ScanDataModule") -> None:
    """Refuse a cache whose voxel spacing differs from the model's.

    Raises:
        InputError: the spacings differ; the message names both and the setting.
    """
    cache_mm, expected_mm = datamodule.preparation["spacing_mm"], module.spacing_mm
    if cache_mm != expected_mm:
        raise InputError(
            f"{datamodule.cache} has voxels of {cache_mm} mm, the model expects {expected_mm} mm; "
            f"set +model.anchors.spacing_mm={cache_mm}, of a segmentation +model.spacing_mm={cache_mm}, "
            f"of a second stage +classifier.spacing_mm={cache_mm}",
            "cache-settings-differ",
        )


def require_nodules(datamodule: "ScanDataModule") -> None:
    """Refuse a training or validation set without a nodule: there is nothing to learn, or nothing to score.

    Raises:
        InputError: no training scan, or no validation scan, has a nodule.
    """
    catalog, split = datamodule.catalog, datamodule.split
    for name, use in (("train", "learn from"), ("validation", "choose a checkpoint by")):
        scan_ids = getattr(split, name)
        if not any(len(catalog.nodules(scan_id)) for scan_id in scan_ids):
            raise InputError(
                f"none of the {len(scan_ids)} {name} scans of {datamodule.cache} has a nodule to {use}; change "
                "data.fold, data.test_subsets, data.validation_fraction or seed, or prepare with the annotations",
                "annotations-missing",
            )


def require_space(folder: Path, network: "torch.nn.Module") -> None:
    """Refuse to start when the checkpoints would not fit on the disk.

    The estimate is the worst case: three files of four times the weights, less the checkpoints that a resumed run
    already has, plus 100 MB for logs, reports and pictures.

    Args:
        folder: the run's folder, which must exist.
        network: the network whose weights are saved.

    Raises:
        InputError: there is too little space; the message says how much is needed.
    """
    tensors = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = sum(path.stat().st_size for path in (folder / CHECKPOINTS).glob("*.ckpt"))
    needed = max(_FILES * _COPIES_OF_WEIGHTS * weights - there, 0) + _REST_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} lies on a disk with {free / 1e6:.0f} MB free, and the run may need {needed / 1e6:.0f} MB for "
            "checkpoints, logs and pictures; make room, or name another paths.output",
            "disk-full",
        )
