"""From where a training goes on that was stopped, and what must not have changed meanwhile."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nodule_lightning.cli._sweep import is_swept
from nodule_lightning.config.instantiate import as_written
from nodule_lightning.config.values import flag
from nodule_lightning.errors import InputError
from nodule_lightning.io.run_folder import CHECKPOINTS, SETS, SPLITS, read_set

if TYPE_CHECKING:
    from nodule_lightning.data.datamodule import ScanDataModule

LAST: Final = Path(CHECKPOINTS, "last.ckpt")


def resumes(config: DictConfig) -> bool:
    """Say whether the run is to go on: the user says so, or SLURM has put its job into the queue again."""
    return flag(config, "resume") or _is_requeued()


def _is_requeued() -> bool:
    """Say whether SLURM has put the job of this process into the queue again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def has_begun(folder: Path) -> bool:
    """Say whether a run has made anything in its folder that it can go on from, its first epoch perhaps."""
    from nodule_lightning.training.rehearsal import PLACE

    # What a run makes first; killed in its rehearsal, it has no more.
    return any((folder / name).exists() for name in (PLACE, SPLITS, CHECKPOINTS))


def require_new(folder: Path) -> None:
    """Refuse to begin where a run lies already.

    Raises:
        InputError: it has a checkpoint.
    """
    if (folder / LAST).exists():
        raise InputError(f"{folder} holds a run already: go on with resume=true, or name another paths.run")


def resumed_from(folder: Path, datamodule: "ScanDataModule", recipe: dict[str, dict[str, Any]]) -> Path | None:
    """Give the checkpoint to go on from; None where the run was stopped before it had one.

    Args:
        folder: of the run.
        datamodule: after its `setup`.
        recipe: that the run is to go on with.

    Raises:
        InputError: there is no run to go on with, its checkpoint is damaged, or it was begun with another recipe, other
            candidates, scans or preparation.
    """
    from nodule_lightning.training.checkpoint import require_candidates, require_recipe

    last = _last_checkpoint(folder, datamodule)
    if last is not None:
        require_recipe(last, recipe)
        require_candidates(last, recipe, getattr(datamodule, "candidates", None))
    # A run that was stopped while it wrote its sets has the last of them not yet, and has trained on none.
    if last is not None or (folder / SPLITS / f"{SETS[-1]}.csv").exists():
        require_same_split(folder / SPLITS, datamodule)
    return last


def require_same_split(folder: Path, datamodule: "ScanDataModule") -> None:
    """Refuse to go on with other scans than the run began with: what was validated would be trained on.

    Raises:
        InputError: a set differs from the run's; names it and one scan.
    """
    for name in SETS:
        path = folder / f"{name}.csv"
        before = read_set(path) if path.exists() else set()
        if differing := before ^ set(getattr(datamodule.split, name)):
            raise InputError(
                f"{path} has other scans than this command ({len(differing)} differ, such as {min(differing)}): resume "
                "with the run's own seed, fold, validation_fraction and cache, or start a new run"
            )


def _last_checkpoint(folder: Path, datamodule: "ScanDataModule") -> Path | None:
    from nodule_lightning.cache.entries import require_settings
    from nodule_lightning.training.checkpoint import DamagedCheckpointError, read_checkpoint
    from nodule_lightning.training.module import CHECKPOINT_KEY

    path = folder / LAST
    if not path.exists():
        _require_begun(folder)
        return None
    try:
        preparation = read_checkpoint(path)[CHECKPOINT_KEY]["preparation"]
    except DamagedCheckpointError as error:
        has_best = path.with_name("best.ckpt").exists()
        copy = ", such as a copy of best.ckpt, from whose epoch it goes on" if has_best else ""
        raise InputError(f"{error}{copy}, or begin anew in another folder, without resume=true") from None
    require_settings(datamodule.cache, preparation)
    return path


def _require_begun(folder: Path) -> None:
    """Refuse to begin where a run was to go on, unless it was killed before its first checkpoint or is a sweep's job.

    The same command with resume=true so goes on wherever it was killed, a sweep with those of its jobs that had not
    begun, and a script that SLURM has put into the queue again before its run had.
    """
    if has_begun(folder) or is_swept():
        return
    if not _is_requeued():
        raise InputError(
            f"{folder / LAST} does not exist: leave resume=true out, or name the folder of the run to go on with by "
            "paths.run=DIR"
        )
    if not any(text.lstrip("+").startswith("paths.run=") for text in as_written(HydraConfig.get().overrides.task)):
        raise InputError(
            f"SLURM has put this job into the queue again, but {folder} is a new folder, not that of its run: name the "
            "run's in the script by paths.run=DIR, so that the job goes on there"
        )
