"""Keep the best checkpoint of a run whose folder was moved."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class MovableCheckpoint(ModelCheckpoint):
    """Save checkpoints as Lightning does, and know the best so far also where the run's folder was moved or copied.

    Lightning forgets the best score with the folder's old name, and a resumed run replaces `best.ckpt` by what it
    validates first, however low. Where `best.ckpt` was left behind, what is validated first is the best.
    """

    _names_found: frozenset[str] = frozenset()

    @property
    def state_key(self) -> str:
        """Give the key in a checkpoint: Lightning's own, so that each can go on from what the other has saved."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look which checkpoints the folder has, for all processes alike."""
        super().setup(trainer, pl_module, stage)
        found = frozenset(path.name for path in Path(str(self.dirpath)).glob("*.ckpt"))
        self._names_found = trainer.strategy.broadcast(found)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what is known of the checkpoints so far, each in the folder of today."""
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
