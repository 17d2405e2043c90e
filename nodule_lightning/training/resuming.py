"""Which checkpoint a training resumes from, and what must not have changed since it was stopped."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_lightning.cache.entries import require_settings
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS, LAST, SETS, SPLITS, read_set
from nodule_lightning.training.checkpoint import (
    CHECKPOINT_KEY,
    DamagedCheckpointError,
    read_checkpoint,
    require_candidates,
    require_recipe,
)
from nodule_lightning.training.plan import TrainingPlan

if TYPE_CHECKING:
    from nodule_lightning.data.datamodule import ScanDataModule


def is_requeued() -> bool:
    """Tell whether SLURM has put the job of this process into the queue again, so that its run is to be resumed."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def has_begun(folder: Path) -> bool:
    """Tell whether a run has written anything to its folder that it can be resumed from."""
    return any((folder / name).exists() for name in (SPLITS, CHECKPOINTS))


def require_new(folder: Path) -> None:
    """Refuse to begin a run in the folder of another one.

    Raises:
        InputError: the folder holds a checkpoint.
    """
    if (folder / LAST).exists():
        raise InputError(
            f"{folder} holds a run already: go on with resume=true, or name another paths.run", "run-exists"
        )


def find_checkpoint(plan: TrainingPlan, datamodule: "ScanDataModule") -> Path | None:
    """Find the checkpoint to resume from; None where the run was stopped before it had written one.

    Args:
        plan: of the run; its recipe must be the one that the run was begun with.
        datamodule: after its `setup`; its scans, preparation and candidates likewise.

    Raises:
        InputError: there is no run to resume, its checkpoint is damaged, or something has changed.
    """
    last, splits = plan.folder / LAST, plan.folder / SPLITS
    if last.exists():
        require_settings(datamodule.cache, _preparation(last))
        require_recipe(last, plan.recipe)
        require_candidates(last, plan.recipe, getattr(datamodule, "candidates", None))
    else:
        _require_begun(plan)
    # A run that was stopped while it wrote its sets lacks the last of them, and has not trained.
    if last.exists() or (splits / f"{SETS[-1]}.csv").exists():
        require_same_split(splits, datamodule)
    return last if last.exists() else None


def require_same_split(folder: Path, datamodule: "ScanDataModule") -> None:
    """Refuse to resume with other scans than the run began with: validation scans would be trained on.

    Raises:
        InputError: a set differs from the run's; names it and one scan.
    """
    for name in SETS:
        path = folder / f"{name}.csv"
        before = read_set(path) if path.exists() else set()
        if differing := before ^ set(getattr(datamodule.split, name)):
            raise InputError(
                f"{path} has other scans than this command ({len(differing)} differ, such as {min(differing)}): resume "
                "with the run's own seed, fold, validation_fraction and cache, or start a new run",
                "run-changed",
            )


def _preparation(checkpoint: Path) -> dict[str, object]:
    try:
        preparation: dict[str, object] = read_checkpoint(checkpoint)[CHECKPOINT_KEY]["preparation"]
    except DamagedCheckpointError as error:
        has_best = checkpoint.with_name("best.ckpt").exists()
        copy = ", such as a copy of best.ckpt, from whose epoch it resumes" if has_best else ""
        raise InputError(
            f"{error}{copy}, or begin a new run in another folder, without resume=true", "file-damaged"
        ) from None
    return preparation


def _require_begun(plan: TrainingPlan) -> None:
    """Refuse to resume where no run was begun; a typing error in the folder would start a new one.

    A job of a sweep may not have begun, and a job that SLURM has queued again may have been stopped before its run had.
    """
    if has_begun(plan.folder) or plan.is_swept:
        return
    if not is_requeued():
        raise InputError(
            f"{plan.folder / LAST} does not exist: leave resume=true out, or name the run's folder by paths.run=DIR",
            "run-missing",
        )
    if not plan.names_folder:
        raise InputError(
            f"SLURM has put this job into the queue again, but {plan.folder} is a new folder, not that of its run: "
            "name the run's in the script by paths.run=DIR, so that the job resumes there",
            "run-missing",
        )
