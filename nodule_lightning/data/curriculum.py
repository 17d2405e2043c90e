"""What a training goes through: its stages, each with its loss, its sampling, its mining and its learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass

from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import Loss


@dataclass(frozen=True, slots=True)
class Stage:
    """Some epochs that are trained alike.

    Attributes:
        epochs: how many.
        loss: of the maps; mining of level 1, within the batch, is a part of it.
        sampler: what an epoch is made of.
        learning_rate_factor: the learning rate that the schedule gives is multiplied by this.
        replay_share: mining of level 2: this share of the draws of an epoch are those of the epoch before that had
            the highest loss.
        bank_share: mining of level 3: this share of the draws without a nodule are false positives in whole training
            scans.
    """

    epochs: int
    loss: Loss
    sampler: SamplingRule
    learning_rate_factor: float = 1.0
    replay_share: float = 0.0
    bank_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.replay_share < 1 or not 0 <= self.bank_share <= 1:
            raise InputError(
                f"a stage needs a replay_share in [0, 1) and a bank_share within 0..1, "
                f"not {self.replay_share} and {self.bank_share}"
            )
        if self.epochs < 1 or self.learning_rate_factor < 0:
            raise InputError(
                f"a stage needs epochs >= 1 and a learning_rate_factor >= 0, "
                f"not {self.epochs} and {self.learning_rate_factor}"
            )


class Curriculum:
    """Stages one after the other; which of them it is depends on the epoch alone, so that a resumed run agrees.

    Args:
        stages: under their names, in the order in which they come.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        if not stages:
            raise InputError("a curriculum needs at least one stage")
        self.names = tuple(stages)
        self.stages = tuple(stages.values())

    @property
    def epochs(self) -> int:
        """Count the epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def index(self, epoch: int) -> int:
        """Give the place of the stage that an epoch, counted from 0, belongs to; the last stage has no end.

        >>> rule = SamplingRule()
        >>> from nodule_lightning.losses.hard_mining import HardMiningLoss
        >>> two = Curriculum({"a": Stage(2, HardMiningLoss(), rule), "b": Stage(1, HardMiningLoss(), rule)})
        >>> [two.index(epoch) for epoch in range(5)]
        [0, 0, 1, 1, 1]
        """
        end = 0
        for place, stage in enumerate(self.stages):
            end += stage.epochs
            if epoch < end:
                return place
        return len(self.stages) - 1

    def stage(self, epoch: int) -> Stage:
        """Give the stage that an epoch belongs to."""
        return self.stages[self.index(epoch)]

    def begins_at(self, epoch: int) -> bool:
        """Tell whether a stage begins with an epoch."""
        return epoch == 0 or self.index(epoch) != self.index(epoch - 1)
