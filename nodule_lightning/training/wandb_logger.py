"""A wandb logger that continues its wandb run when a training is resumed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

if TYPE_CHECKING:
    from wandb import Run

VALIDATION: Final = "val/"
_FOLDER: Final = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>.+)")


class ResumableWandbLogger(WandbLogger):
    """Log into the wandb run that the folder already holds, with rows numbered by training step.

    wandb numbers rows from 0 in every process. Numbered by step, the rows that a killed run logged after its last
    checkpoint are logged again by the resumed run with the same numbers and values, and not appended as duplicates.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run":
        """The wandb run, started or resumed on first access.

        `_experiment` and `_wandb_init` have no public counterpart, and the id cannot be passed to the constructor: every
        process constructs a logger, and only the first one, on first access, may decide which run to resume.
        """
        if self._experiment is None and self._wandb_init.get("id") is None:
            self._wandb_init["id"] = run_id(Path(self._wandb_init["dir"]))
        run: Run = super().experiment
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics into the row of a step; those of a validation complete the row."""
        if step is None:
            super().log_metrics(metrics)
            return
        # wandb writes a row only when the next one begins, but the checkpoint comes right after the validation.
        complete = any(name.startswith(VALIDATION) for name in metrics)
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step, commit=complete or None)


def run_id(folder: Path) -> str | None:
    """Return the id of the wandb run in a folder; None if there is none."""
    begun = (_FOLDER.fullmatch(path.name) for path in sorted((folder / "wandb").glob("*run-*")))
    return next((found["id"] for found in begun if found), None)
