"""Weights of misclassified examples: w_pos and w_neg of the talk's second formula.

The error of an example is the predicted probability of the wrong class: p for a negative, 1 - p for a positive. An
error above t is a negative scored above t or a positive scored below 1 - t.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.errors import InputError


@runtime_checkable
class ErrorWeight(Protocol):
    """Function from the errors of examples to their weights."""

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Compute the weight of each example from its error in [0, 1]."""
        ...


class StepWeight:
    """Step function: a heavy weight for errors above the threshold, a light one below, as in the talk's figure.

    Args:
        threshold: examples with a larger error are misclassified.
        heavy: weight of misclassified examples.
        light: weight of the others.

    Raises:
        InputError: not 0 <= threshold < 1, or not 0 <= light <= heavy with heavy > 0.
    """

    def __init__(self, threshold: float = 0.5, heavy: float = 2.0, light: float = 1.0) -> None:
        _require_order(threshold, heavy, light)
        self.threshold = threshold
        self.heavy = heavy
        self.light = light

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Weight the examples by whether their error exceeds the threshold."""
        heavy = torch.full_like(error, self.heavy)
        return torch.where(error > self.threshold, heavy, self.light)


class SmoothWeight:
    """Sigmoid from the light to the heavy weight, a smooth variant of `StepWeight`.

    w = light + (heavy - light) / (1 + exp((threshold - error) / width))

    Args:
        threshold: error at which the weight is halfway between the two.
        heavy: weight of errors far above the threshold.
        light: weight of errors far below it.
        width: of the transition; the smaller, the closer to a step.

    Raises:
        InputError: as for `StepWeight`, or the width is not positive.
    """

    def __init__(self, threshold: float = 0.5, heavy: float = 2.0, light: float = 1.0, width: float = 0.1) -> None:
        _require_order(threshold, heavy, light)
        if width <= 0:
            raise InputError(
                f"SmoothWeight needs a width > 0, not {width}; use StepWeight for a step", "argument-invalid"
            )
        self.threshold = threshold
        self.heavy = heavy
        self.light = light
        self.width = width

    def __call__(self, error: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Weight the examples along the sigmoid of their error."""
        return self.light + (self.heavy - self.light) * torch.sigmoid((error - self.threshold) / self.width)


def _require_order(threshold: float, heavy: float, light: float) -> None:
    if not 0 <= threshold < 1 or not 0 <= light <= heavy or not heavy:
        raise InputError(
            "weights of misclassified examples need 0 <= threshold < 1, 0 <= light <= heavy and heavy > 0, "
            f"not {threshold}, {light} and {heavy}",
            "argument-invalid",
        )
