"""What wandb is shown beside numbers: the FROC curve as a plot, and a table with pictures."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

import wandb
from PIL import Image

from nodule_lightning.metrics.functional import Curve
from nodule_lightning.metrics.functional.curve import DRAWN_RATES
from nodule_lightning.report.gallery_section import Gallery

CURVE, MISTAKES = "val/curve", "val/mistakes"
COLUMNS: Final = ("what", "rank", "title", "scan", "place", "remark", "planes")
PLOTTED: Final = (0.0, *DRAWN_RATES.tolist())
STAGING: Final = "WANDB_DATA_DIR"


def log_media(run: wandb.Run, curve: Curve, galleries: Mapping[str, Gallery], step: int) -> None:
    """Log the curve up to 8 false positives per scan, and a row for each picture.

    They join the row of the run's history that the next numbers complete.

    Args:
        run: to log to.
        curve: of the score.
        galleries: the pictures, under what they show.
        step: the last one that was trained; names the row.
    """
    points = [[rate, sensitivity] for rate, sensitivity in zip(PLOTTED, curve.at(PLOTTED).tolist(), strict=True)]
    axes = ("false positives per scan", "sensitivity")
    plot = wandb.plot.line(wandb.Table(columns=list(axes), data=points), *axes, title="FROC")
    mistakes = wandb.Table(columns=list(COLUMNS))
    for what, gallery in galleries.items():
        for rank, case in enumerate(gallery.cases, start=1):
            scan, place, *words = case.lines
            picture = wandb.Image(Image.open(BytesIO(case.jpeg)), file_type="jpg")
            mistakes.add_data(what, rank, case.title, scan, place, "; ".join(words), picture)
    with _staged_in(Path(run.dir).parent):
        run.log({CURVE: plot, MISTAKES: mistakes}, step=step, commit=False)


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let wandb keep the pictures with the run until they are uploaded, and not in the user's home for ever."""
    chosen = os.environ.get(STAGING)
    os.environ.setdefault(STAGING, str(folder))
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[STAGING]
