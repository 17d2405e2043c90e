"""A wandb logger whose run goes on where a training does."""

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
    """Log into the run that the folder holds already, each row under the number of its training step.

    wandb would number rows from 0 in every process. Numbered by steps, what a killed run has logged after its last
    checkpoint is logged by the resumed one under the same numbers and with the same values, not once more.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run":
        """Give wandb's run, begun or resumed by the first call."""
        if self._experiment is None and self._wandb_init.get("id") is None:
            self._wandb_init["id"] = run_id(Path(self._wandb_init["dir"]))
        run: Run = super().experiment
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a part of the row of a step; a validation completes that of the step before it."""
        if step is None:
            super().log_metrics(metrics)
            return
        # A row is written when the next one begins, and a checkpoint follows a validation at once.
        complete = any(name.startswith(VALIDATION) for name in metrics)
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step, commit=complete or None)


def run_id(folder: Path) -> str | None:
    """Find the id of the run that wandb has begun in a folder, if there is one."""
    begun = (_FOLDER.fullmatch(path.name) for path in sorted((folder / "wandb").glob("*run-*")))
    return next((found["id"] for found in begun if found), None)
