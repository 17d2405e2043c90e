"""Resuming: find the checkpoint, and refuse what changed since the run was stopped."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_lightning.cache.entries import require_settings
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS, LAST, REHEARSAL, SETS, SPLITS, read_set
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
    """Check whether SLURM requeued the job of this process, which means that its run must be resumed."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def has_begun(folder: Path) -> bool:
    """Check whether a folder holds anything that a run can be resumed from."""
    # One that was killed in its rehearsal has nothing but the rehearsal's folder.
    return any((folder / name).exists() for name in (SPLITS, CHECKPOINTS)) or any(folder.glob(f"{REHEARSAL}*"))


def require_new(folder: Path) -> None:
    """Refuse to start a new run in the folder of an existing one.

    Raises:
        InputError: the folder holds a checkpoint.
    """
    if (folder / LAST).exists():
        raise InputError(
            f"{folder} holds a run already: continue it with resume=true, or name another paths.run", "run-exists"
        )


def find_checkpoint(plan: TrainingPlan, datamodule: "ScanDataModule") -> Path | None:
    """Find the checkpoint to resume from; None if the run was stopped before its first checkpoint.

    Args:
        plan: the plan of the run; its recipe must equal the one in the checkpoint.
        datamodule: the data module, after `setup`; its scans, preparation and candidates must be unchanged.

    Raises:
        InputError: there is no run to resume, its checkpoint is damaged, or its inputs changed.
    """
    last, splits = plan.folder / LAST, plan.folder / SPLITS
    if last.exists():
        require_settings(datamodule.cache, _preparation(last))
        require_recipe(last, plan.recipe)
        require_candidates(last, plan.recipe, getattr(datamodule, "candidates", None))
    else:
        _require_begun(plan)
    # A run that was stopped while it wrote its splits lacks the last file, and has not trained on them.
    if last.exists() or (splits / f"{SETS[-1]}.csv").exists():
        require_same_split(splits, datamodule)
    return last if last.exists() else None


def require_same_split(folder: Path, datamodule: "ScanDataModule") -> None:
    """Refuse to resume with another split, which would train on former validation scans.

    Raises:
        InputError: a set differs from the run's; the message names it and one scan.
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
            f"{error}{copy}, or start a new run in another folder, without resume=true", "file-damaged"
        ) from None
    return preparation


def _require_begun(plan: TrainingPlan) -> None:
    """Refuse to resume where no run was started: a typo in the folder would silently start a new one.

    Jobs of a sweep may resume without one, and so may a job that SLURM requeued before its run wrote anything.
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
            f"SLURM requeued this job, but {plan.folder} is a new folder, not the run's own: "
            "set paths.run=DIR in the job script, so that the job resumes there",
            "run-missing",
        )
