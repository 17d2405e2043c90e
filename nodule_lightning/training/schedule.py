"""Learning rate schedules: pure functions of the step, so that a resumed run continues exactly."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nodule_lightning.data.curriculum import Curriculum
from nodule_lightning.errors import InputError

START, END = 1 / 25, 1 / 250_000

Schedule = Callable[[int, int], float]
"""Maps a step, counted from 0, and the total number of steps to a factor of the full learning rate."""


class WarmUpAndDecay:
    """Rise from 1/25 to the full learning rate, then fall to nothing, along two half cosines.

    The shape is that of torch's OneCycleLR, but it depends on the step alone, so a run may be resumed with another
    number of steps.

    Args:
        warm_up: share of the steps until the full rate is reached, in 0..1.
    """

    def __init__(self, warm_up: float = 0.1) -> None:
        if not 0 <= warm_up <= 1:
            raise InputError(f"warm_up must be a share of the steps within 0..1, not {warm_up}", "argument-invalid")
        self.warm_up = warm_up

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of the full learning rate.

        >>> [round(WarmUpAndDecay(0.25)(step, 11), 2) for step in (0, 1, 2, 6, 10, 11)]
        [0.04, 0.63, 1.0, 0.48, 0.0, 0.0]
        """
        peak = max(self.warm_up * total_steps - 1, 0)
        if step < peak:
            return _half_cosine(START, 1, step / peak)
        return _half_cosine(1, END, min((step - peak) / max(total_steps - 1 - peak, 1e-9), 1))


class Steps:
    """Step the learning rate down at fixed points of the run, as DeepLung and grt123 do.

    Args:
        at: points at which the rate changes, as rising shares of the run.
        factors: factor of the full learning rate from each point on.
    """

    def __init__(self, at: Sequence[float], factors: Sequence[float]) -> None:
        if len(at) != len(factors) or any(after <= before for before, after in pairwise((0.0, *at, 1.0))):
            raise InputError(
                f"a learning rate in steps needs rising shares within 0..1 and as many factors, "
                f"not {list(at)} and {list(factors)}",
                "argument-invalid",
            )
        self.at = tuple(at)
        self.factors = (1.0, *factors)

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the factor of the full learning rate.

        >>> [Steps((0.5, 0.8), (0.1, 0.01))(step, 10) for step in (0, 4, 5, 7, 8, 10)]
        [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
        """
        return self.factors[sum(step >= share * total_steps for share in self.at)]


def scheduler(
    optimizer: Optimizer,
    schedule: Schedule | None,
    curriculum: Curriculum | None,
    total_steps: int,
    steps_per_epoch: int,
) -> LambdaLR:
    """Create a torch scheduler: the schedule over the whole run, times the factor of the current stage.

    Args:
        optimizer: its learning rate is the full rate.
        schedule: factor of each step; None keeps the full rate.
        curriculum: factor of each stage; None for no stages.
        total_steps: optimizer steps of the run.
        steps_per_epoch: optimizer steps of an epoch.
    """

    def share(step: int) -> float:
        factor = 1.0 if curriculum is None else curriculum.stage(step // steps_per_epoch).learning_rate_factor
        return factor if schedule is None else factor * schedule(step, total_steps)

    return LambdaLR(optimizer, share)


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
