"""The talk's loss: positives, mined negatives and boxes, each averaged by itself."""

from dataclasses import dataclass

import torch
import torch.distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and its three parts, each a mean before any weight; a part without members is zero.

    With several processes these are the means over the batches of all of them, the same in each.
    """

    total: Float[Tensor, ""]
    positive: Float[Tensor, ""]
    negative: Float[Tensor, ""]
    box: Float[Tensor, ""]


class HardMiningLoss:
    """L = 0.5 mean_pos(L_cls) + 0.5 mean_neg(L_cls) + mean_reg(p* L_box), over the mined negatives only.

    L_cls is the cross entropy of the logit; L_box the sum of the smooth L1 distances of the four box numbers. The
    negatives of a patch are a random pool of which the highest logits are kept.

    Args:
        pool: random negatives a patch (800 with grt123).
        hard_per_patch: the highest of the pool that are kept, at least (2 with grt123, 5 with the seed team).
        hard_per_positive: keep this many for each positive of the patch, where that is more.
        positive_weight: of the first mean.
        negative_weight: of the second mean.
        box_weight: of the third mean.
    """

    def __init__(
        self,
        pool: int = 800,
        hard_per_patch: int = 2,
        hard_per_positive: float = 0.0,
        positive_weight: float = 0.5,
        negative_weight: float = 0.5,
        box_weight: float = 1.0,
    ) -> None:
        if not 0 < hard_per_patch <= pool or hard_per_positive < 0:
            raise InputError(
                f"hard mining needs 0 < hard_per_patch <= pool and hard_per_positive >= 0, "
                f"not {hard_per_patch}, {pool} and {hard_per_positive}"
            )
        self.pool = pool
        self.hard_per_patch = hard_per_patch
        self.hard_per_positive = hard_per_positive
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.box_weight = box_weight

    def __call__(
        self,
        maps: Float[Tensor, "b z y x anchor 5"],
        assignment: Assignment,
        generator: torch.Generator,
    ) -> LossTerms:
        """Compute the loss of a batch; the generator, on the maps' device, draws the pools."""
        numbers = maps.float().flatten(1, 4)
        label = assignment.label.flatten(1)
        logit, target = numbers[..., 0], assignment.target.flatten(1, 4)
        hard, mined = self._mine(logit.detach(), label, generator)
        negative_logit = logit.gather(1, hard)
        box_distance = smooth_l1_loss(numbers[..., 1:], target, reduction="none").sum(dim=-1)
        sums = [
            sum_where(cross_entropy(logit, 1), label == 1),
            sum_where(cross_entropy(negative_logit, 0), mined),
            sum_where(box_distance, label == 1),
        ]
        positives = (label == 1).sum()
        positive, negative, box = means_over_ranks(
            torch.stack(sums), torch.stack([positives, mined.sum(), positives])
        ).unbind()
        total = self.positive_weight * positive + self.negative_weight * negative + self.box_weight * box
        return LossTerms(total, positive, negative, box)

    def _mine(
        self, logit: Float[Tensor, "b n"], label: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Bool[Tensor, "b pool"]]:
        """Give the pool of each patch, highest logit first, and which of it are kept."""
        lot = torch.rand(logit.shape, generator=generator, device=logit.device).masked_fill(label != 0, -1)
        pool = lot.topk(min(self.pool, lot.shape[1]), sorted=False)
        scores = logit.gather(1, pool.indices).masked_fill(pool.values < 0, -torch.inf)
        ordered = scores.sort(dim=1, descending=True, stable=True)
        positives = (label == 1).sum(dim=1, keepdim=True)
        kept = (positives * self.hard_per_positive).round().clamp(min=self.hard_per_patch)
        rank = torch.arange(scores.shape[1], device=logit.device)
        # A logit that is not a number stays in, so that the loss tells of it.
        return pool.indices.gather(1, ordered.indices), (rank < kept) & (ordered.values != -torch.inf)


def cross_entropy(logit: Float[Tensor, "*n"], truth: int) -> Float[Tensor, "*n"]:
    """Give the cross entropy of each logit with the same truth, 0 or 1."""
    return binary_cross_entropy_with_logits(logit, torch.full_like(logit, truth), reduction="none")


def sum_where(values: Float[Tensor, "*n"], chosen: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Add up the chosen values; none chosen gives zero, with a zero gradient."""
    return torch.where(chosen, values, 0).sum()


def means_over_ranks(sums: Float[Tensor, "part"], counts: Int[Tensor, "part"]) -> Float[Tensor, "part"]:
    """Turn this process's sums and counts into the means over those of all processes.

    The values are the same in each process. A gradient is that of this process's share, times the number of processes,
    because DistributedDataParallel takes the mean of the gradients and not their sum.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums / counts.clamp(min=1)
    together = torch.stack([sums.detach(), counts.to(sums.dtype)])
    torch.distributed.all_reduce(together)
    means = together[0] / together[1].clamp(min=1)
    share = torch.distributed.get_world_size() * sums / together[1].clamp(min=1)
    return means + (share - share.detach())
