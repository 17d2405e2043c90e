"""Show after each validation how the score comes about: the curve, the worst misses, the highest false positives."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.data.datamodule import ScanDataModule
from nodule_lightning.errors import InputError
from nodule_lightning.io.files import write_whole
from nodule_lightning.metrics.froc import ScoredScans
from nodule_lightning.metrics.functional import RATES, FrocResult
from nodule_lightning.report.gallery_section import Gallery
from nodule_lightning.structures import Table
from nodule_lightning.training.module import ScoredModule

LAST, BEST = "last", "best"
# As many as nodule-evaluate takes; a tenth of a second for 89 scans.
BOOTSTRAPS: Final = 1000
SEEN: Final = f"Marks beyond {RATES[-1]:g} false positives per scan, which the score does not see, are left out."


@dataclass(frozen=True, slots=True)
class Validation:
    """What one validation has shown.

    Attributes:
        result: the score of all validation scans.
        misses: nodules without a mark among those that the score sees, the largest first.
        false_positives: the most probable ones.
    """

    result: FrocResult
    misses: Gallery
    false_positives: Gallery


class ValidationReport(Callback):
    """Write the report of the last validation and that of the best one, and log curve and pictures to wandb.

    The folders `last` and `best` hold what `checkpoints/last.ckpt` and `best.ckpt` would score: `report.html` with its
    figures, and what `nodule-evaluate` writes. Each validation replaces the last one, so their size is bounded. Each
    wandb logger of the trainer gets a plot of the curve as `val/curve` and a table of the pictures as `val/mistakes`,
    in the same row as the score. The first process writes all of it, whichever process has searched a scan.

    Args:
        folder: to make the two folders in.
        most: misses shown, and as many false positives; 0 keeps all pictures of scans out of report and wandb.

    Raises:
        InputError: `most` is negative.
    """

    def __init__(self, folder: Path | str, most: int = 8) -> None:
        if most < 0:
            raise InputError(f"most must not be negative, not {most}; 0 shows no picture", "argument-invalid")
        self.folder = Path(folder)
        self.most = most
        self.best = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        """Give the best score, so that a resumed run knows what to replace."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score so far."""
        self.best = state_dict["best"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Join the scans of all processes, then write and log; the module logs the score right after this."""
        if trainer.sanity_checking or not isinstance(pl_module, ScoredModule):
            return
        with pl_module.froc.sync_context():
            scans = pl_module.froc.scans()
        datamodule = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(datamodule, ScanDataModule):
            return
        validation = look_at(scans, datamodule.split.validation, datamodule.catalog, self.most)
        try:
            self._write(validation, trainer.current_epoch + 1, trainer.global_step)
        except (InputError, OSError) as error:
            # A page is not worth the training: the checkpoint of this epoch is written after it.
            rank_zero_warn(f"the report of this validation could not be written: {error}")
        _log_to_wandb(trainer, validation)

    def _write(self, validation: Validation, epoch: int, step: int) -> None:
        from nodule_lightning.evaluation.evaluate import Evaluation, tables
        from nodule_lightning.report.page import write_report

        result, last = validation.result, self.folder / LAST
        for name, content in tables(Evaluation(f"epoch {epoch}", result)).items():
            write_whole(last / name, content)
        write_report(
            last,
            f"Validation after epoch {epoch}",
            result,
            [],
            {"epoch": epoch, "step": step, "scans": result.counts.scans},
            "nodule-train",
            galleries=[validation.misses, validation.false_positives],
        )
        # In the precision in which `best.ckpt` is chosen, so that both are of one epoch.
        score = float(np.float32(result.mean))
        if score > self.best:
            self.best = score
            for path in filter(Path.is_file, last.iterdir()):
                write_whole(self.folder / BEST / path.name, path.read_bytes())


def look_at(scans: ScoredScans, scan_ids: tuple[str, ...], catalog: Catalog, most: int) -> Validation:
    """Score the scans and draw what was missed and what was marked in vain.

    Args:
        scans: of all processes.
        scan_ids: of the set, in the order of their numbers.
        catalog: of the cache that holds them.
        most: misses drawn, and as many false positives.
    """
    from nodule_lightning.report.galleries import false_positives_gallery, misses_gallery

    scans = scans.named(scan_ids)
    result = scans.result(BOOTSTRAPS)
    seen = scans.marks[scans.marks.rows.probability >= result.curve.threshold[result.curve.fps <= RATES[-1]][-1]]
    marks = Table(scans.scan_ids[seen.scan_id], seen.rows)
    misses = misses_gallery(catalog, marks, replace(scans, marks=seen).result().misses.nodules, most)
    return Validation(
        result,
        replace(misses, caption=f"{misses.caption} {SEEN}"),
        false_positives_gallery(catalog, marks, result.false_positives, most),
    )


def _log_to_wandb(trainer: pl.Trainer, validation: Validation) -> None:
    from pytorch_lightning.loggers import WandbLogger

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            # Only here may wandb be imported: it need not be installed for other loggers.
            from nodule_lightning.training.callbacks.wandb_media import log_media

            log_media(
                logger.experiment,
                validation.result.curve,
                {"missed nodule": validation.misses, "false positive": validation.false_positives},
                trainer.global_step - 1,
            )
