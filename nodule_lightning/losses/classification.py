"""The loss of the second stage: candidates that are nodules, and candidates that are none, each averaged by itself."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.losses.error_weights import ErrorWeight
from nodule_lightning.losses.hard_mining import LossTerms, cross_entropy, means_over_ranks, sum_where


class ClassificationLoss:
    """L = w_p mean_pos(L_cls) + w_n mean_neg(L_cls), the talk's formula without boxes.

    Args:
        positive_weight: of the nodules' mean.
        negative_weight: of the other candidates' mean.
        error_weight: weight of each example by its error, as in the talk's second formula; None weighs all alike.
    """

    def __init__(
        self, positive_weight: float = 0.5, negative_weight: float = 0.5, error_weight: ErrorWeight | None = None
    ) -> None:
        if positive_weight <= 0 or negative_weight <= 0:
            raise InputError(
                "the weights of both classes must be positive, else one is not learnt, "
                f"not {positive_weight} and {negative_weight}"
            )
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.error_weight = error_weight

    def __call__(self, logit: Float[Tensor, "b"], positive: Bool[Tensor, "b"]) -> LossTerms:
        """Compute the loss of a batch; a class without members adds nothing."""
        logit = logit.float()[:, None]
        entropies = [cross_entropy(logit, truth, self.error_weight) for truth in (1, 0)]
        of_class = [positive[:, None], ~positive[:, None]]
        sums = torch.stack([sum_where(entropy, members) for entropy, members in zip(entropies, of_class, strict=True)])
        counts = torch.stack([members.sum(dim=1) for members in of_class])
        means = means_over_ranks(sums.sum(dim=1), counts.sum(dim=1))
        return LossTerms(self._total(means), means[0], means[1], torch.zeros_like(means[0]), self._total(sums.detach()))

    def _total(self, means: Float[Tensor, "2 *b"]) -> Float[Tensor, "*b"]:
        return self.positive_weight * means[0] + self.negative_weight * means[1]
