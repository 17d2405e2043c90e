"""The loss of the second stage, against numbers worked out by hand."""

import math

import pytest
import torch

from nodule_lightning.errors import InputError
from nodule_lightning.losses.classification import ClassificationLoss
from nodule_lightning.losses.error_weights import StepWeight


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_each_class_is_averaged_by_itself() -> None:
    logit = torch.tensor([2.0, -1.0, 0.0, 3.0])
    positive = torch.tensor([True, False, False, False])
    terms = ClassificationLoss(0.7, 0.3)(logit, positive)
    wrong = [softplus(-1.0), softplus(0.0), softplus(3.0)]
    assert terms.positive.item() == pytest.approx(softplus(-2.0))
    assert terms.negative.item() == pytest.approx(sum(wrong) / 3)
    assert terms.total.item() == pytest.approx(0.7 * softplus(-2.0) + 0.3 * sum(wrong) / 3)
    assert terms.patch.tolist() == pytest.approx([0.7 * softplus(-2.0), *(0.3 * value for value in wrong)])
    assert terms.box.item() == 0


def test_misclassified_examples_may_weigh_more() -> None:
    logit = torch.tensor([-2.0, -1.0, 3.0], requires_grad=True)
    positive = torch.tensor([True, False, False])
    terms = ClassificationLoss(error_weight=StepWeight(heavy=3.0))(logit, positive)
    assert terms.positive.item() == pytest.approx(3 * softplus(2.0))
    assert terms.negative.item() == pytest.approx((softplus(-1.0) + 3 * softplus(3.0)) / 2)


@pytest.mark.parametrize("is_nodule", [True, False])
def test_a_batch_of_one_class_has_a_loss_and_a_gradient(is_nodule: bool) -> None:
    logit = torch.zeros(4, requires_grad=True)
    terms = ClassificationLoss()(logit, torch.full((4,), is_nodule))
    assert terms.total.item() == pytest.approx(0.5 * math.log(2))
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert logit.grad is not None
    torch.testing.assert_close(logit.grad, torch.full((4,), -0.0625 if is_nodule else 0.0625))


def test_no_example_gives_zero() -> None:
    terms = ClassificationLoss()(torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.bool))
    assert terms.total.item() == 0
    assert terms.patch.shape == (0,)


def test_a_class_without_weight_is_refused() -> None:
    with pytest.raises(InputError) as error:
        ClassificationLoss(positive_weight=0.0)
    assert error.value.key == "argument-invalid"
