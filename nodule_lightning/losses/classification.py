"""Loss of the second stage: cross entropy averaged separately over nodules and over other candidates."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.losses.error_weights import ErrorWeight
from nodule_lightning.losses.hard_mining import LossTerms, cross_entropy, means_over_ranks, sum_where


class ClassificationLoss:
    """L = w_p mean_pos(L_cls) + w_n mean_neg(L_cls), the talk's formula without the box term.

    Args:
        positive_weight: of the mean over nodules.
        negative_weight: of the mean over the other candidates.
        error_weight: weight of each example by its error, as in the talk's second formula; None for equal weights.

    Raises:
        InputError: a weight is not positive.
    """

    def __init__(
        self, positive_weight: float = 0.5, negative_weight: float = 0.5, error_weight: ErrorWeight | None = None
    ) -> None:
        if positive_weight <= 0 or negative_weight <= 0:
            raise InputError(
                f"positive_weight and negative_weight must be positive, not {positive_weight} and {negative_weight}: "
                "a class of weight 0 is not learned",
                "argument-invalid",
            )
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.error_weight = error_weight

    def __call__(self, logit: Float[Tensor, "b"], positive: Bool[Tensor, "b"]) -> LossTerms:
        """Compute the loss of a batch; a class without examples contributes zero."""
        logit = logit.float()[:, None]
        entropies = [cross_entropy(logit, truth, self.error_weight) for truth in (1, 0)]
        of_class = [positive[:, None], ~positive[:, None]]
        sums = torch.stack([sum_where(entropy, members) for entropy, members in zip(entropies, of_class, strict=True)])
        counts = torch.stack([members.sum(dim=1) for members in of_class])
        means = means_over_ranks(sums.sum(dim=1), counts.sum(dim=1))
        return LossTerms(self._total(means), means[0], means[1], torch.zeros_like(means[0]), self._total(sums.detach()))

    def _total(self, means: Float[Tensor, "2 *b"]) -> Float[Tensor, "*b"]:
        return self.positive_weight * means[0] + self.negative_weight * means[1]
