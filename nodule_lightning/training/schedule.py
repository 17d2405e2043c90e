"""The learning rate over the steps of a run: pure functions of the step, so that a resumed run agrees."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nodule_lightning.data.curriculum import Curriculum
from nodule_lightning.errors import InputError

START, END = 1 / 25, 1 / 250_000

Schedule = Callable[[int, int], float]
"""Gives the share of the full learning rate in a step, counted from 0, of so many steps."""


class WarmUpAndDecay:
    """Rise from 1/25 to the full learning rate, then fall to nothing, along two half cosines.

    The shape is that of torch's OneCycleLR, but a function of the step alone: a resumed run may be longer or shorter
    than it was planned first.

    Args:
        warm_up: share of the steps until the full value is reached.
    """

    def __init__(self, warm_up: float = 0.1) -> None:
        if not 0 <= warm_up <= 1:
            raise InputError(f"warm_up must be a share of the steps within 0..1, not {warm_up}", "argument-invalid")
        self.warm_up = warm_up

    def __call__(self, step: int, total_steps: int) -> float:
        """Give the share of the full learning rate.

        >>> [round(WarmUpAndDecay(0.25)(step, 11), 2) for step in (0, 1, 2, 6, 10, 11)]
        [0.04, 0.63, 1.0, 0.48, 0.0, 0.0]
        """
        peak = max(self.warm_up * total_steps - 1, 0)
        if step < peak:
            return _half_cosine(START, 1, step / peak)
        return _half_cosine(1, END, min((step - peak) / max(total_steps - 1 - peak, 1e-9), 1))


class Steps:
    """Hold the full learning rate, then a smaller one from each of some points of the run on, as DeepLung and grt123.

    Args:
        at: shares of the run at which it changes.
        factors: share of the full learning rate from each of them on.
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
        """Give the share of the full learning rate.

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
    """Make torch's scheduler: one schedule over the whole run, times the factor of each step's stage.

    Args:
        optimizer: whose learning rate is the full value.
        schedule: None keeps the full value.
        curriculum: names the factors; None has none.
        total_steps: of the run.
        steps_per_epoch: of the optimizer.
    """

    def share(step: int) -> float:
        factor = 1.0 if curriculum is None else curriculum.stage(step // steps_per_epoch).learning_rate_factor
        return factor if schedule is None else factor * schedule(step, total_steps)

    return LambdaLR(optimizer, share)


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
