"""Refuse before the first step what would cost hours later: sets that nothing can be learnt from, and a full disk."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodule_lightning.errors import InputError

if TYPE_CHECKING:
    import torch.nn

    from nodule_lightning.data.datamodule import ScanDataModule

CHECKPOINTS: Final = "checkpoints"
# The weights, their average, and the two moments of AdamW.
_COPIES_OF_WEIGHTS: Final = 4
# The best, the last, and the one that is being written beside the one that it replaces.
_FILES: Final = 3
# Logs, reports and pictures.
_REST_BYTES: Final = 100_000_000


def require_nodules(datamodule: "ScanDataModule") -> None:
    """Refuse sets without a nodule: nothing could be learnt, or no checkpoint chosen by its score.

    Raises:
        InputError: no training scan, or no validation scan, has a nodule.
    """
    catalog, split = datamodule.catalog, datamodule.split
    for name, use in (("train", "learn from"), ("validation", "choose a checkpoint by")):
        scan_ids = getattr(split, name)
        if not any(len(catalog.nodules(scan_id)) for scan_id in scan_ids):
            raise InputError(
                f"none of the {len(scan_ids)} {name} scans of {datamodule.cache} has a nodule to {use}; change "
                "data.fold, data.test_subsets, data.validation_fraction or seed, or prepare with the annotations"
            )


def require_space(folder: Path, network: "torch.nn.Module") -> None:
    """Refuse to begin where the checkpoints would not fit on the disk.

    Three files of four times the weights are counted, which is as much as there can be, less those that a resumed run
    has there already; and 100 MB for logs, reports and pictures.

    Args:
        folder: of the run; it exists.
        network: whose weights are saved.

    Raises:
        InputError: there is too little room; says how much is needed.
    """
    tensors = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = sum(path.stat().st_size for path in (folder / CHECKPOINTS).glob("*.ckpt"))
    needed = max(_FILES * _COPIES_OF_WEIGHTS * weights - there, 0) + _REST_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} lies on a disk with {free / 1e6:.0f} MB free, and the run may need {needed / 1e6:.0f} MB for "
            "checkpoints, logs and pictures; make room, or name another paths.output"
        )
