"""A ModelCheckpoint that keeps track of the best checkpoint when the run's folder is moved."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but the best score survives moving or copying the run's folder.

    Lightning drops the best score when `dirpath` changes, so a resumed run would overwrite `best.ckpt` after its first
    validation, however low the score. If `best.ckpt` itself was not moved along, tracking starts afresh.
    """

    _names_found: frozenset[str] = frozenset()

    @property
    def state_key(self) -> str:
        """Lightning's own key, so that this class and ModelCheckpoint can load each other's state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """List the checkpoints in the folder; all processes get the list of the first."""
        super().setup(trainer, pl_module, stage)
        found = frozenset(path.name for path in Path(str(self.dirpath)).glob("*.ckpt"))
        self._names_found = trainer.strategy.broadcast(found)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state with all paths moved to the current folder."""
        before, best = state_dict["dirpath"], state_dict["best_model_path"]
        if best and Path(best).name not in self._names_found:
            return

        def moved(value: Any) -> Any:  # noqa: ANN401 - a path, a score or scores by path
            if isinstance(value, dict):
                return {moved(path): score for path, score in value.items()}
            if not isinstance(value, str) or not value or Path(value).parent != Path(before):
                return value
            return str(Path(str(self.dirpath), Path(value).name))

        super().load_state_dict({**{name: moved(value) for name, value in state_dict.items()}, "dirpath": self.dirpath})
