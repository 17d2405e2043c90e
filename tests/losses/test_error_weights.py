"""The weights of misclassified examples, against numbers worked out by hand."""

import math

import pytest
import torch

from nodule_lightning.errors import InputError
from nodule_lightning.losses.error_weights import ErrorWeight, SmoothWeight, StepWeight

ERROR = torch.tensor([0.0, 0.3, 0.7, 0.71, 1.0])


def test_a_step_lies_just_above_its_threshold() -> None:
    assert StepWeight(threshold=0.7, heavy=5.0, light=0.5)(ERROR).tolist() == [0.5, 0.5, 0.5, 5.0, 5.0]


def test_a_smooth_weight_is_half_way_at_its_threshold_and_rises() -> None:
    weight = SmoothWeight(threshold=0.7, heavy=5.0, light=1.0, width=0.2)(ERROR)
    by_hand = [1 + 4 / (1 + math.exp((0.7 - error) / 0.2)) for error in (0.0, 0.3, 0.7, 0.71, 1.0)]
    assert weight.tolist() == pytest.approx(by_hand, rel=1e-6)
    assert weight[2].item() == pytest.approx(3.0)


def test_a_narrow_smooth_weight_is_the_step() -> None:
    error = torch.tensor([0.1, 0.49, 0.51, 0.9])
    assert SmoothWeight(width=1e-4)(error).tolist() == pytest.approx(StepWeight()(error).tolist())


@pytest.mark.parametrize("weight", [StepWeight(), SmoothWeight()])
def test_no_example_has_no_weight(weight: ErrorWeight) -> None:
    assert weight(torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StepWeight(threshold=1.0),
        lambda: StepWeight(heavy=1.0, light=2.0),
        lambda: SmoothWeight(heavy=0.0, light=0.0),
        lambda: SmoothWeight(width=0.0),
    ],
)
def test_weights_that_make_no_sense_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InputError) as error:
        make()
    assert error.value.key == "argument-invalid"
