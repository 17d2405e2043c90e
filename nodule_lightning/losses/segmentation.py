"""Loss of the segmentation: cross entropy with mined negatives, and a Dice term for the shape of nodules."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError
from nodule_lightning.losses.hard_mining import HardMiningLoss, LossTerms, means_over_ranks


class SegmentationLoss:
    """L = 0.5 mean_pos(L_cls) + 0.5 mean_neg(L_cls) + Dice: the talk's loss with a Dice term instead of the box term.

    The Dice loss (Milletari et al. 2016) is computed for each patch with a nodule and averaged over these patches: over
    the whole batch at once, one large nodule would dominate the small ones. Ignored cells are left out.

    Args:
        cross_entropy: the first two terms; a map has more cells than anchors, so it should mine more of them.
        dice_weight: of the Dice term.

    Raises:
        InputError: `dice_weight` is negative.
    """

    def __init__(self, cross_entropy: HardMiningLoss, dice_weight: float = 1.0) -> None:
        if dice_weight < 0:
            raise InputError(f"SegmentationLoss needs dice_weight >= 0, not {dice_weight}", "argument-invalid")
        self.cross_entropy = cross_entropy
        self.dice_weight = dice_weight

    def __call__(
        self,
        maps: Float[Tensor, "b z y x 1 1"],
        assignment: Assignment,
        generator: torch.Generator,
    ) -> LossTerms:
        """Compute the loss of a batch; the term `box` holds the Dice loss."""
        terms = self.cross_entropy(maps, assignment, generator)
        distance = dice_distance(maps.float().flatten(1), assignment.label.flatten(1))
        has_nodule = (assignment.label == 1).flatten(1).any(dim=1)
        of_patch = torch.where(has_nodule, distance, 0)
        (dice,) = means_over_ranks(of_patch.sum()[None], has_nodule.sum()[None]).unbind()
        return replace(
            terms,
            total=terms.total + self.dice_weight * dice,
            box=dice,
            patch=terms.patch + self.dice_weight * of_patch.detach(),
        )


def dice_distance(logit: Float[Tensor, "b n"], label: Tensor) -> Float[Tensor, "b"]:
    """Compute the Dice loss 1 - 2 |P and T| / (|P| + |T|) of each row; 1 where nothing is positive.

    >>> dice_distance(torch.tensor([[9.0, 9.0, -9.0, 9.0]]), torch.tensor([[1, 0, 0, -1]])).round(decimals=3)
    tensor([0.3330])
    """
    probability = torch.where(label >= 0, torch.sigmoid(logit), 0)
    truth = (label == 1).to(logit.dtype)
    shared = (probability * truth).sum(dim=1)
    return 1 - 2 * shared / (probability.sum(dim=1) + truth.sum(dim=1)).clamp(min=1e-6)
