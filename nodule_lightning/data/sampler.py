"""Which patches an epoch is made of: a pure function of (seed, epoch, rank, world size)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from torch.utils.data import Sampler

from nodule_lightning.errors import InputError


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How often findings of each size, and places without any, are drawn.

    Give `copies` or `target_share`, one number for each bin; without either all nodules are drawn alike.

    Attributes:
        patches_per_epoch: patches of all ranks together.
        negative_share: share of the draws that are random places in the lungs of any scan.
        edges_mm: borders of the bins of diameter; n borders make n + 1 bins, the lower border belongs to its bin.
        copies: how often a nodule of each bin is in the list that is drawn from; 0 leaves the bin out.
        target_share: share of the nodule draws that each bin gets; a bin without nodules gives its share away.
    """

    patches_per_epoch: int
    negative_share: float = 0.3
    edges_mm: Sequence[float] = ()
    copies: Sequence[float] | None = None
    target_share: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.patches_per_epoch < 1 or not 0 <= self.negative_share <= 1:
            raise InputError(
                "sampling needs patches_per_epoch >= 1 and a negative_share within 0..1, "
                f"not {self.patches_per_epoch} and {self.negative_share}"
            )
        if list(self.edges_mm) != sorted(set(self.edges_mm)):
            raise InputError(f"the sampler's edges_mm must rise, not {list(self.edges_mm)}")
        if self.copies is not None and self.target_share is not None:
            raise InputError("give the sampler either copies or target_share, not both")
        numbers = self.copies if self.copies is not None else self.target_share
        if numbers is not None and (len(numbers) != len(self.edges_mm) + 1 or min(numbers) < 0 or not sum(numbers)):
            raise InputError(
                f"the sampler needs {len(self.edges_mm) + 1} numbers >= 0, one a bin between its edges_mm, "
                f"not {list(numbers)}"
            )


def draw_probability(diameter_mm: Float64[np.ndarray, "n"], rule: SamplingRule) -> Float64[np.ndarray, "n"]:
    """Give the probability of each nodule among the nodule draws; they add up to one.

    >>> rule = SamplingRule(8, edges_mm=(10.0,), copies=(3, 1))
    >>> draw_probability(np.array([5.0, 12.0]), rule).tolist()
    [0.75, 0.25]
    """
    bins = np.searchsorted(np.asarray(rule.edges_mm, dtype=np.float64), diameter_mm, side="right")
    members = np.bincount(bins, minlength=len(rule.edges_mm) + 1)
    if rule.target_share is not None:
        weight = (np.asarray(rule.target_share, dtype=np.float64) / np.maximum(members, 1))[bins]
    elif rule.copies is not None:
        weight = np.asarray(rule.copies, dtype=np.float64)[bins]
    else:
        weight = np.ones(len(diameter_mm))
    return np.asarray(weight / max(weight.sum(), 1e-300))


@dataclass(frozen=True, slots=True)
class PatchDraw:
    """One patch to cut.

    Attributes:
        scan_index: place in the list of training scans.
        finding_index: place among the scan's nodules, or -1 for a random place in the lungs.
        seed: of everything random in cutting it.
    """

    scan_index: int
    finding_index: int
    seed: int


class PatchSampler(Sampler[PatchDraw]):
    """Draw the patches of one rank.

    Nodule draws are spread evenly over the probabilities (systematic sampling): a nodule expected 2.4 times in an
    epoch comes two or three times, never none.

    Args:
        diameter_mm: the nodules' diameters, for each training scan; scans without nodules are ordinary negatives.
        rule: how to draw.
        seed: of all epochs.
        rank: of this process.
        world_size: number of processes; their draws are disjoint and equally many.
    """

    def __init__(
        self,
        diameter_mm: Sequence[Float64[np.ndarray, "_"]],
        rule: SamplingRule,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        counts = [len(diameters) for diameters in diameter_mm]
        self.scan_index = np.repeat(np.arange(len(counts)), counts)
        self.finding_index = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
        self.probability = draw_probability(np.concatenate([np.zeros(0), *diameter_mm]), rule)
        self.scans = len(counts)
        self.rule = rule
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rule.patches_per_epoch // self.world_size

    def __iter__(self) -> Iterator[PatchDraw]:
        draws = self.draw_epoch(self.epoch)
        for scan, finding, seed in draws[self.rank : len(self) * self.world_size : self.world_size]:
            yield PatchDraw(int(scan), int(finding), int(seed))

    def draw_epoch(self, epoch: int) -> Int64[np.ndarray, "patch 3"]:
        """Draw scan index, finding index and seed for the patches of all ranks."""
        rng = np.random.default_rng((self.seed, epoch))
        total = self.rule.patches_per_epoch
        share = self.rule.negative_share if self.probability.sum() > 0 else 1.0
        negatives = round(total * share)
        place = (rng.random() + np.arange(total - negatives)) / max(total - negatives, 1)
        cumulative = np.cumsum(self.probability)
        chosen = np.searchsorted(cumulative, place * cumulative[-1] if len(cumulative) else place, side="right")
        scan = np.concatenate([self.scan_index[chosen], rng.integers(self.scans, size=negatives)])
        finding = np.concatenate([self.finding_index[chosen], np.full(negatives, -1)])
        order = rng.permutation(total)
        seeds = rng.integers(2**63 - 1, size=total)
        return np.stack([scan[order], finding[order], seeds], axis=1)
