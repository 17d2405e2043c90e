"""Media for wandb: the FROC curve as a plot, and a table of mistakes with pictures."""

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
    """Log the curve up to 8 false positives per scan, and a table with a row for each picture.

    They are part of the history row that the next logged metrics complete.

    Args:
        run: the wandb run.
        curve: the FROC curve.
        galleries: the pictures by kind of mistake.
        step: the last training step, which numbers the row.
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
    """Stage pictures in the run's folder; wandb's default is the user's home, where they are never removed."""
    chosen = os.environ.get(STAGING)
    os.environ.setdefault(STAGING, str(folder))
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[STAGING]
