"""The talk's loss: positives, mined negatives and boxes, each averaged by itself."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError
from nodule_lightning.losses.error_weights import ErrorWeight


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss and its three parts, each a mean before its factor in the formula; a part without members is zero.

    With several processes these are the means over the batches of all of them, the same in each.

    Attributes:
        total: what is to become small.
        positive: the first mean.
        negative: the second mean.
        box: the third mean.
        patch: the loss of each of this process's patches as if it were the whole batch, without a gradient.
    """

    total: Float[Tensor, ""]
    positive: Float[Tensor, ""]
    negative: Float[Tensor, ""]
    box: Float[Tensor, ""]
    patch: Float[Tensor, "b"]


@runtime_checkable
class Loss(Protocol):
    """What a network's maps are trained by."""

    def __call__(
        self,
        maps: Float[Tensor, "b z y x anchor numbers"],
        assignment: Assignment,
        generator: torch.Generator,
    ) -> LossTerms:
        """Compute the loss of a batch; the generator is on the maps' device."""
        ...


class HardMiningLoss:
    """L = 0.5 mean_pos(L_cls) + 0.5 mean_neg(L_cls) + mean_reg(p* L_box), over the mined negatives only.

    L_cls is the cross entropy of the logit; L_box the sum of the smooth L1 distances of the four box numbers. The
    negatives of a patch are a random pool of which the highest logits are kept; all of the pool are kept, and nothing
    is mined, where `hard_per_patch` is as large.

    With an `error_weight` it is the talk's second formula, for the last stage of a training:
    L = 0.5 mean_pos(w_pos L_cls) + 0.5 mean_neg(w_neg L_cls) + mean_reg(p* L_box), where misclassified examples weigh
    more. The means are still divided by the number of examples, and the weights have no gradient.

    Args:
        pool: random negatives a patch (800 with grt123).
        hard_per_patch: the highest of the pool that are kept, at least (2 with grt123, 5 with the seed team).
        hard_per_positive: keep this many for each positive of the patch, where that is more.
        positive_weight: of the first mean.
        negative_weight: of the second mean.
        box_weight: of the third mean.
        error_weight: weight of each example by its error; None weighs all alike.
    """

    def __init__(
        self,
        pool: int = 800,
        hard_per_patch: int = 2,
        hard_per_positive: float = 0.0,
        positive_weight: float = 0.5,
        negative_weight: float = 0.5,
        box_weight: float = 1.0,
        error_weight: ErrorWeight | None = None,
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
        self.error_weight = error_weight

    def __call__(
        self,
        maps: Float[Tensor, "b z y x anchor numbers"],
        assignment: Assignment,
        generator: torch.Generator,
    ) -> LossTerms:
        """Compute the loss of a batch; the generator, on the maps' device, draws the pools."""
        numbers = maps.float().flatten(1, 4)
        label = assignment.label.flatten(1)
        logit, target = numbers[..., 0], assignment.target.flatten(1, 4)
        hard, mined = self._mine(logit.detach(), label, generator)
        positive = label == 1
        box_distance = smooth_l1_loss(numbers[..., 1:], target, reduction="none").sum(dim=-1)
        sums = torch.stack(
            [
                sum_where(cross_entropy(logit, 1, self.error_weight), positive),
                sum_where(cross_entropy(logit.gather(1, hard), 0, self.error_weight), mined),
                sum_where(box_distance, positive),
            ]
        )
        # The gradient of a number that is not finite is not finite either, also where the number itself is not chosen.
        sums = sums + 0 * numbers.detach().sum(dim=(1, 2))
        counts = torch.stack([positive.sum(dim=1), mined.sum(dim=1), positive.sum(dim=1)])
        means = means_over_ranks(sums.sum(dim=1), counts.sum(dim=1))
        of_patch = sums.detach() / counts.clamp(min=1)
        return LossTerms(self._total(means), means[0], means[1], means[2], self._total(of_patch))

    def _total(self, means: Float[Tensor, "3 *b"]) -> Float[Tensor, "*b"]:
        return self.positive_weight * means[0] + self.negative_weight * means[1] + self.box_weight * means[2]

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


def cross_entropy(
    logit: Float[Tensor, "b n"], truth: int, error_weight: ErrorWeight | None = None
) -> Float[Tensor, "b n"]:
    """Give the cross entropy of each logit with the same truth, 0 or 1, times its weight."""
    entropy = binary_cross_entropy_with_logits(logit, torch.full_like(logit, truth), reduction="none")
    if error_weight is None:
        return entropy
    detached = logit.detach()
    return entropy * error_weight(torch.sigmoid(-detached if truth else detached))


def sum_where(values: Float[Tensor, "b n"], chosen: Bool[Tensor, "b n"]) -> Float[Tensor, "b"]:
    """Add up the chosen values of each row; none chosen gives zero, with a zero gradient."""
    return torch.where(chosen, values, 0).sum(dim=1)


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
