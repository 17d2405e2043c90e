"""Curriculum of a training: stages, each with its own loss, sampling, mining and learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass

from nodule_lightning.data.sampler import SamplingRule
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import Loss


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive epochs that are trained alike.

    Attributes:
        epochs: their number.
        loss: of the output maps; mining of level 1, within the batch, is part of it.
        sampler: how patches are drawn.
        learning_rate_factor: multiplies the learning rate of the schedule.
        replay_share: mining of level 2: share of the draws of an epoch that repeat the draws with the highest loss of
            the epoch before.
        bank_share: mining of level 3: share of the draws without a nodule that show false positives found in whole
            training scans.

    Raises:
        InputError: a value is out of its range.
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
                f"not {self.replay_share} and {self.bank_share}",
                "argument-invalid",
            )
        if self.epochs < 1 or self.learning_rate_factor < 0:
            raise InputError(
                f"a stage needs epochs >= 1 and a learning_rate_factor >= 0, "
                f"not {self.epochs} and {self.learning_rate_factor}",
                "argument-invalid",
            )


class Curriculum:
    """Stages one after the other; the epoch alone determines the stage, so that a resumed run continues correctly.

    Args:
        stages: by name, in their order.

    Raises:
        InputError: there is no stage.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        if not stages:
            raise InputError("a curriculum needs at least one stage", "argument-invalid")
        self.names = tuple(stages)
        self.stages = tuple(stages.values())

    @property
    def epochs(self) -> int:
        """The number of epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def index(self, epoch: int) -> int:
        """Return the index of the stage of an epoch, counted from 0; the last stage has no end.

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
        """Return the stage of an epoch."""
        return self.stages[self.index(epoch)]

    def begins_at(self, epoch: int) -> bool:
        """Tell whether an epoch is the first of its stage."""
        return epoch == 0 or self.index(epoch) != self.index(epoch - 1)
