"""The segmentation's loss: by hand, for every kind of emptiness, and per patch."""

import json
from pathlib import Path

import pytest
import torch

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import HardMiningLoss, LossTerms
from nodule_lightning.losses.segmentation import SegmentationLoss, dice_distance
from tests.losses.segmentation_on_rank import PATCHES, POSITIVES, head, loss_and_gradient
from tests.ranks import printed_by_ranks


def computed(maps: torch.Tensor, label: torch.Tensor, dice_weight: float = 1.0) -> LossTerms:
    assignment = Assignment(label.to(torch.int8), torch.zeros(*label.shape, 0))
    loss = SegmentationLoss(HardMiningLoss(pool=1000, hard_per_patch=2), dice_weight)
    return loss(maps, assignment, torch.Generator().manual_seed(0))


def test_the_three_terms_by_hand() -> None:
    logit = torch.logit(torch.tensor([0.8, 0.4, 0.6, 0.2, 0.1, 0.9])).view(1, 1, 1, 6, 1, 1)
    label = torch.tensor([1, 1, 0, 0, 0, -1]).view(1, 1, 1, 6, 1)
    terms = computed(logit, label, dice_weight=0.5)
    positive = -torch.log(torch.tensor([0.8, 0.4])).mean()
    negative = -torch.log(torch.tensor([0.4, 0.8])).mean()
    dice = 1 - 2 * 1.2 / (0.8 + 0.4 + 0.6 + 0.2 + 0.1 + 2)
    torch.testing.assert_close(terms.positive, positive)
    torch.testing.assert_close(terms.negative, negative)
    torch.testing.assert_close(terms.box, torch.tensor(dice))
    torch.testing.assert_close(terms.total, 0.5 * positive + 0.5 * negative + 0.5 * dice)
    torch.testing.assert_close(terms.patch, terms.total.detach()[None])


def test_a_small_nodules_patch_counts_as_much_as_a_large_ones() -> None:
    label = torch.zeros(3, 4, 4, 4, 1)
    label[0, 0, 0, 0], label[1] = 1, 1
    maps = torch.randn(3, 4, 4, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    expected = dice_distance(maps.flatten(1), label.flatten(1))[:2].mean()
    torch.testing.assert_close(computed(maps, label).box, expected)


@pytest.mark.parametrize("value", [1, 0, -1])
def test_all_positive_all_negative_and_all_ignored_are_finite(value: int) -> None:
    maps = torch.randn(2, 4, 4, 4, 1, 1, requires_grad=True)
    terms = computed(maps, torch.full((2, 4, 4, 4, 1), value))
    (gradient,) = torch.autograd.grad(terms.total, maps)
    assert torch.isfinite(terms.total)
    assert torch.isfinite(gradient).all()
    assert bool(gradient.any()) == (value != -1)


def test_ignored_cells_have_no_gradient() -> None:
    maps = torch.randn(1, 2, 2, 2, 1, 1, requires_grad=True)
    label = torch.tensor([1, 0, -1, 0, 1, -1, 0, 0]).view(1, 2, 2, 2, 1)
    (gradient,) = torch.autograd.grad(computed(maps, label).total, maps)
    assert not gradient[label[..., None] == -1].any()
    assert gradient[label[..., None] == 1].all()


@pytest.mark.ddp
def test_two_ranks_make_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    printed = printed_by_ranks(Path(__file__).with_name("segmentation_on_rank.py"), tmp_path / "meeting")
    for output in printed:
        for case, line in zip(POSITIVES, output.splitlines(), strict=True):
            whole = loss_and_gradient(head(), case, slice(0, PATCHES))
            assert json.loads(line) == pytest.approx(whole, abs=1e-6), case


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InputError) as error:
        SegmentationLoss(HardMiningLoss(), -1.0)
    assert error.value.key == "argument-invalid"
