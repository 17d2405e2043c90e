"""How much more a misclassified example counts: the weights w_pos and w_neg of the talk's second formula.

The error of an example is the probability that it was given of being what it is not: p of a negative, 1 - p of a
positive. An error above t is a negative scored above t or a positive scored below 1 - t.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.errors import InputError


@runtime_checkable
class ErrorWeight(Protocol):
    """A rule of weighting."""

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Give the weight of each example by its error within 0..1."""
        ...


class StepWeight:
    """One weight for errors above the threshold, a lower one for all others, as the talk's figure draws it.

    Args:
        threshold: errors above are misclassified.
        heavy: weight of the misclassified.
        light: weight of the others.
    """

    def __init__(self, threshold: float = 0.5, heavy: float = 2.0, light: float = 1.0) -> None:
        _require_order(threshold, heavy, light)
        self.threshold = threshold
        self.heavy = heavy
        self.light = light

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Weigh; see the class."""
        heavy = torch.full_like(error, self.heavy)
        return torch.where(error > self.threshold, heavy, self.light)


class SmoothWeight:
    """As `StepWeight`, but rising along a sigmoid.

    w = light + (heavy - light) / (1 + exp((threshold - error) / width))

    Args:
        threshold: error at which the weight is half way between the two.
        heavy: weight of errors far above.
        light: weight of errors far below.
        width: of the rise; the narrower, the nearer to the step.
    """

    def __init__(self, threshold: float = 0.5, heavy: float = 2.0, light: float = 1.0, width: float = 0.1) -> None:
        _require_order(threshold, heavy, light)
        if width <= 0:
            raise InputError(f"SmoothWeight needs a width > 0, not {width}; StepWeight is the one without")
        self.threshold = threshold
        self.heavy = heavy
        self.light = light
        self.width = width

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Weigh; see the class."""
        return self.light + (self.heavy - self.light) * torch.sigmoid((error - self.threshold) / self.width)


def _require_order(threshold: float, heavy: float, light: float) -> None:
    if not 0 <= threshold < 1 or not 0 <= light <= heavy or not heavy:
        raise InputError(
            "weights of misclassified examples need 0 <= threshold < 1, 0 <= light <= heavy and heavy > 0, "
            f"not {threshold}, {light} and {heavy}"
        )
