"""The talk's loss: positives, mined hard negatives and boxes, each averaged separately."""

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
    """Total loss and its three terms, each an unweighted mean; a term without examples is zero.

    With several processes the means are over the batches of all processes, and the same in each.

    Attributes:
        total: the loss to minimise.
        positive: mean over the positives.
        negative: mean over the negatives.
        box: mean of the box term.
        patch: loss of each patch of this process as if it were the whole batch, without a gradient.
    """

    total: Float[Tensor, ""]
    positive: Float[Tensor, ""]
    negative: Float[Tensor, ""]
    box: Float[Tensor, ""]
    patch: Float[Tensor, "b"]


@runtime_checkable
class Loss(Protocol):
    """Loss function over a network's maps."""

    def __call__(
        self,
        maps: Float[Tensor, "b z y x anchor numbers"],
        assignment: Assignment,
        generator: torch.Generator,
    ) -> LossTerms:
        """Compute the loss of a batch; the generator is on the device of the maps."""
        ...


class HardMiningLoss:
    """L = 0.5 mean_pos(L_cls) + 0.5 mean_neg(L_cls) + mean_reg(p* L_box), over the mined negatives only.

    L_cls is the cross entropy of the logit; L_box is the sum of the smooth L1 distances of the four box values. For
    each patch a random pool of negatives is drawn, and those with the highest logits are kept. With
    `hard_per_patch` equal to `pool` the whole pool is kept, and nothing is mined.

    With an `error_weight` this is the talk's second formula, for the last stage of a training:
    L = 0.5 mean_pos(w_pos L_cls) + 0.5 mean_neg(w_neg L_cls) + mean_reg(p* L_box), in which misclassified examples
    weigh more. The sums are still divided by the number of examples, and the weights have no gradient.

    Args:
        pool: number of random negatives in each patch (800 in grt123).
        hard_per_patch: minimum number kept of the pool, those with the highest logits (2 in grt123, 5 in the seed
            team's code).
        hard_per_positive: keep this many for each positive of the patch, if that is more.
        positive_weight: of the first mean.
        negative_weight: of the second mean.
        box_weight: of the third mean.
        error_weight: weight of each example by its error; None for equal weights.

    Raises:
        InputError: not 0 < hard_per_patch <= pool, or `hard_per_positive` is negative.
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
                f"not {hard_per_patch}, {pool} and {hard_per_positive}",
                "argument-invalid",
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
        """Compute the loss of a batch; the generator, on the device of the maps, draws the pools."""
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
        # A non-finite value has a non-finite gradient even where it is not selected, so the loss must show it.
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
        """Draw the pool of each patch, highest logit first, and select what is kept of it."""
        key = torch.rand(logit.shape, generator=generator, device=logit.device).masked_fill(label != 0, -1)
        pool = key.topk(min(self.pool, key.shape[1]), sorted=False)
        scores = logit.gather(1, pool.indices).masked_fill(pool.values < 0, -torch.inf)
        ordered = scores.sort(dim=1, descending=True, stable=True)
        positives = (label == 1).sum(dim=1, keepdim=True)
        kept = (positives * self.hard_per_positive).round().clamp(min=self.hard_per_patch)
        rank = torch.arange(scores.shape[1], device=logit.device)
        # A NaN logit stays in, so that the loss becomes NaN and is noticed.
        return pool.indices.gather(1, ordered.indices), (rank < kept) & (ordered.values != -torch.inf)


def cross_entropy(
    logit: Float[Tensor, "b n"], truth: int, error_weight: ErrorWeight | None = None
) -> Float[Tensor, "b n"]:
    """Compute the weighted cross entropy of each logit with one truth, 0 or 1, for all."""
    entropy = binary_cross_entropy_with_logits(logit, torch.full_like(logit, truth), reduction="none")
    if error_weight is None:
        return entropy
    detached = logit.detach()
    return entropy * error_weight(torch.sigmoid(-detached if truth else detached))


def sum_where(values: Float[Tensor, "b n"], chosen: Bool[Tensor, "b n"]) -> Float[Tensor, "b"]:
    """Sum the chosen values of each row; an empty choice gives zero with a zero gradient."""
    return torch.where(chosen, values, 0).sum(dim=1)


def means_over_ranks(sums: Float[Tensor, "part"], counts: Int[Tensor, "part"]) -> Float[Tensor, "part"]:
    """Compute means over all processes from the sums and counts of this one.

    The values are the same in each process. The gradient is that of this process's share times the number of processes,
    since DistributedDataParallel averages the gradients instead of summing them.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums / counts.clamp(min=1)
    together = torch.stack([sums.detach(), counts.to(sums.dtype)])
    torch.distributed.all_reduce(together)
    means = together[0] / together[1].clamp(min=1)
    share = torch.distributed.get_world_size() * sums / together[1].clamp(min=1)
    return means + (share - share.detach())
