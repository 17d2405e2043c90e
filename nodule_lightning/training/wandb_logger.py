"""A wandb logger that continues its wandb run when a training is resumed."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from nodule_lightning.errors import InputError

VALIDATION: Final = "val/"
_FOLDER: Final = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>.+)")


class ResumableWandbLogger(WandbLogger):
    """Log into the wandb run that the folder already holds, with rows numbered by training step.

    wandb numbers rows from 0 in every process. Numbered by step, the rows that a killed run logged after its last
    checkpoint are logged again by the resumed run with the same numbers and values, and not appended as duplicates.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        save_dir: str | Path = ".",
        version: str | None = None,
        offline: bool = False,
        id: str | None = None,
        project: str | None = None,
        prefix: str = "",
        **others: Any,  # noqa: ANN401 - arguments of WandbLogger and wandb.init
    ) -> None:
        if not offline and os.environ.get("WANDB_MODE", "online") == "online":
            require_login()
        super().__init__(
            name=name,
            save_dir=save_dir,
            offline=offline,
            id=version or id or run_id(Path(save_dir)),
            project=project,
            prefix=prefix,
            **others,
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics into the row of a step; those of a validation complete the row."""
        if step is None:
            super().log_metrics(metrics)
            return
        # wandb writes a row only when the next one begins, but the checkpoint comes right after the validation.
        complete = any(name.startswith(VALIDATION) for name in metrics)
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step, commit=complete or None)


@rank_zero_only
def require_login() -> None:
    """Log in to wandb, or refuse: without a key the run would fail only once it begins to log.

    Raises:
        InputError: there is no key, and nobody at a terminal to ask for it.
    """
    import wandb

    try:
        wandb.login()
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise InputError(
            f"wandb: {str(error).splitlines()[0]}; run `wandb login`, set WANDB_API_KEY, or take "
            "logger.wandb.offline=true",
            "argument-missing",
        ) from None


def run_id(folder: Path) -> str | None:
    """Return the id of the wandb run in a folder; None if there is none."""
    begun = (_FOLDER.fullmatch(path.name) for path in sorted((folder / "wandb").glob("*run-*")))
    return next((found["id"] for found in begun if found), None)
