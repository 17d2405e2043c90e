"""The learning rate over the steps of a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

START, END = 1 / 25, 1 / 250_000


def warm_up_and_decay(optimizer: Optimizer, total_steps: int, warm_up: float = 0.1) -> LambdaLR:
    """Raise the learning rate from 1/25 to its full value, then let it fall to nothing, along two half cosines.

    The shape is that of torch's OneCycleLR, but a function of the step alone: a resumed run may be longer or shorter
    than it was planned first.

    Args:
        optimizer: whose learning rate is the full value.
        total_steps: of the run.
        warm_up: share of the steps until the full value is reached.
    """
    return LambdaLR(optimizer, lambda step: factor(step, total_steps, warm_up))


def factor(step: int, total_steps: int, warm_up: float) -> float:
    """Give the share of the full learning rate in a step, counted from 0.

    >>> [round(factor(step, 11, 0.25), 2) for step in (0, 1, 2, 6, 10, 11)]
    [0.04, 0.63, 1.0, 0.48, 0.0, 0.0]
    """
    peak = max(warm_up * total_steps - 1, 0)
    if step < peak:
        return _half_cosine(START, 1, step / peak)
    return _half_cosine(1, END, min((step - peak) / max(total_steps - 1 - peak, 1e-9), 1))


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
