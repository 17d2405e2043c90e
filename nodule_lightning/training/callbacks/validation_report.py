"""A report of each validation: FROC curve, largest misses, most probable false positives."""

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
# The default of nodule-evaluate; takes 0.1 s for 89 scans.
BOOTSTRAPS: Final = 1000
SEEN: Final = f"Marks beyond {RATES[-1]:g} false positives per scan, which the score does not see, are left out."


@dataclass(frozen=True, slots=True)
class Validation:
    """Result of one validation.

    Attributes:
        result: the FROC of all validation scans.
        misses: nodules missed at every rate that the score includes, the largest first.
        false_positives: the most probable false positives.
    """

    result: FrocResult
    misses: Gallery
    false_positives: Gallery


class ValidationReport(Callback):
    """Write reports of the last and the best validation, and log the curve and pictures to wandb.

    The folders `last` and `best` hold what `checkpoints/last.ckpt` and `best.ckpt` would score: `report.html` with its
    figures, and what `nodule-evaluate` writes. Each validation replaces the last report, so their size is bounded. Each
    wandb logger of the trainer gets a plot of the curve as `val/curve` and a table of the pictures as `val/mistakes`,
    in the same row as the score. The first process writes everything.

    Args:
        folder: parent of the two folders.
        most: number of misses shown, and of false positives; 0 keeps pictures of scans out of the report and wandb.

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
        """Return the best score, so that a resumed run replaces only worse reports."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score."""
        self.best = state_dict["best"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather the scans of all processes, then write and log; the module logs the score right after this."""
        if trainer.sanity_checking or not isinstance(pl_module, ScoredModule):
            return
        with pl_module.froc.sync_context():
            scans = pl_module.froc.scans()
        datamodule = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(datamodule, ScanDataModule):
            return
        validation = summarise_validation(scans, datamodule.split.validation, datamodule.catalog, self.most)
        try:
            self._write(validation, trainer.current_epoch + 1, trainer.global_step)
        except (InputError, OSError) as error:
            # A failed report must not end a training whose checkpoint of this epoch is yet to be written.
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
        # ModelCheckpoint compares float32 scores; the same precision here keeps both on the same epoch.
        score = float(np.float32(result.mean))
        if score > self.best:
            self.best = score
            for path in filter(Path.is_file, last.iterdir()):
                write_whole(self.folder / BEST / path.name, path.read_bytes())


def summarise_validation(scans: ScoredScans, scan_ids: tuple[str, ...], catalog: Catalog, most: int) -> Validation:
    """Score the scans and draw the misses and the false positives.

    Args:
        scans: the validation scans of all processes.
        scan_ids: ids of the validation set, by index.
        catalog: the catalog of the cache.
        most: number of misses drawn, and of false positives.
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
            # wandb is optional, so its import stays inside this branch.
            from nodule_lightning.training.callbacks.wandb_media import log_media

            log_media(
                logger.experiment,
                validation.result.curve,
                {"missed nodule": validation.misses, "false positive": validation.false_positives},
                trainer.global_step - 1,
            )
