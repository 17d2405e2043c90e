"""Sampling of patches: which ones an epoch shows, as a pure function of (seed, epoch, rank, world size)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.errors import InputError


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How often nodules of each size, and places without a nodule, are drawn.

    Give `copies` or `target_share`, one number for each bin; without either each nodule is drawn once in an epoch.

    Attributes:
        patches_per_epoch: patches of all ranks together; None gives one pass, in which each nodule is drawn as often
            as its weight says (`draw_weights`). A number scales the draws; below a pass, some nodules are left out.
        negative_share: share of the draws that are random places in the lungs of any scan, with nodules or without.
        edges_mm: edges of the bins of diameter; n edges make n + 1 bins, the lower edge belongs to its bin.
        copies: weight of a nodule of each bin; 0 leaves the bin out.
        target_share: share of the nodule draws that each bin gets; a bin without nodules gives its share away.
        small_mm: with `target_share`, the nodules under this diameter together never lose share: they get their
            natural share if the targets would give them less.

    Raises:
        InputError: a number is out of its range, or two settings contradict each other.
    """

    patches_per_epoch: int | None = None
    negative_share: float = 0.3
    edges_mm: Sequence[float] = ()
    copies: Sequence[float] | None = None
    target_share: Sequence[float] | None = None
    small_mm: float = 10.0

    def __post_init__(self) -> None:
        too_short = self.patches_per_epoch is not None and self.patches_per_epoch < 1
        if too_short or not 0 <= self.negative_share <= 1 or self.small_mm < 0:
            raise InputError(
                "sampling needs patches_per_epoch >= 1 or null, a negative_share within 0..1 and small_mm >= 0, "
                f"not {self.patches_per_epoch}, {self.negative_share} and {self.small_mm}",
                "argument-invalid",
            )
        if list(self.edges_mm) != sorted(set(self.edges_mm)):
            raise InputError(f"the sampler's edges_mm must rise, not {list(self.edges_mm)}", "argument-invalid")
        if self.copies is not None and self.target_share is not None:
            raise InputError("give the sampler either copies or target_share, not both", "argument-conflict")
        self._require_one_a_bin("copies", self.copies)
        self._require_one_a_bin("target_share", self.target_share)
        if self.target_share is not None and min(self.target_share) <= 0:
            raise InputError(
                f"a target_share of 0 would leave a bin out, and each nodule is drawn at least once: "
                f"{list(self.target_share)} must be > 0; copies can leave a bin out",
                "argument-invalid",
            )

    def _require_one_a_bin(self, name: str, numbers: Sequence[float] | None) -> None:
        bins = len(self.edges_mm) + 1
        if numbers is not None and (len(numbers) != bins or min(numbers) < 0 or not sum(numbers)):
            raise InputError(
                f"the sampler's {name} needs {bins} numbers >= 0, one a bin between its edges_mm, not {list(numbers)}",
                "argument-invalid",
            )


def draw_weights(diameter_mm: Float64[np.ndarray, "n"], rule: SamplingRule) -> Float64[np.ndarray, "n"]:
    """Return how often each nodule is drawn in one pass.

    Copies are the weights themselves. Target shares are met by oversampling alone: the probability of a nodule is the
    share of its bin over the number of nodules in it. The probabilities of small and of larger nodules are rescaled if
    the small ones would lose share (`SamplingRule.small_mm`). Then all are scaled so that the rarest is drawn once.

    >>> rule = SamplingRule(edges_mm=(5.0, 10.0), target_share=(1, 1, 1))
    >>> draw_weights(np.array([4.0, 6.0, 7.0, 12.0, 30.0]), rule).tolist()
    [2.0, 1.0, 1.0, 1.0, 1.0]
    """
    bins = np.searchsorted(np.asarray(rule.edges_mm, dtype=np.float64), diameter_mm, side="right")
    if rule.copies is not None:
        return np.asarray(rule.copies, dtype=np.float64)[bins]
    if rule.target_share is None or not len(diameter_mm):
        return np.ones(len(diameter_mm))
    members = np.bincount(bins, minlength=len(rule.edges_mm) + 1)
    chance = (np.asarray(rule.target_share, dtype=np.float64) / np.maximum(members, 1))[bins]
    chance = _keep_small_share(chance / chance.sum(), diameter_mm < rule.small_mm)
    return np.asarray(chance / chance.min())


def _keep_small_share(chance: Float64[np.ndarray, "n"], small: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Give the small nodules at least their natural share of the draws."""
    natural, share = small.mean(), chance[small].sum()
    if share >= natural:
        return chance
    return np.asarray(np.where(small, chance * natural / share, chance * (1 - natural) / (1 - share)))


@dataclass(frozen=True, slots=True)
class PatchDraw:
    """One patch to cut: around a nodule, at a place, or at random.

    Attributes:
        scan_index: index in the list of training scans.
        finding_index: index among the scan's nodules, or -1 for none.
        seed: of everything random in cutting it.
        place_zyx: a place to show, in voxels of the scan's cache entry. With neither a place nor a finding the patch
            shows a random place in the lungs.
    """

    scan_index: int
    finding_index: int
    seed: int
    place_zyx: tuple[float, float, float] | None = None


class PatchDraws:
    """The patches of all ranks in an epoch, by one rule.

    Nodules are drawn by systematic sampling, ordered by diameter: a nodule with weight 2.4 is drawn two or three times
    in an epoch, and each range of sizes as often as its weights add up to. A pass is rounded up to whole batches, so
    that none of it is cut off.

    Args:
        diameter_mm: diameters of the nodules of each training scan; a scan without nodules serves negatives only.
        rule: how to draw.
        seed: of all epochs.
        whole: patches in a batch of all ranks together.

    Attributes:
        patches_of_pass: patches in one pass; if no nodule is drawn, at least one for each scan.
        patches: patches in one epoch.
    """

    def __init__(
        self, diameter_mm: Sequence[Float64[np.ndarray, "_"]], rule: SamplingRule, seed: int, whole: int = 1
    ) -> None:
        counts = [len(diameters) for diameters in diameter_mm]
        self.scan_index = np.repeat(np.arange(len(counts)), counts)
        self.finding_index = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
        diameters = np.concatenate([np.zeros(0), *diameter_mm])
        self.order = np.argsort(diameters, kind="stable")
        self.cumulative = np.cumsum(draw_weights(diameters, rule)[self.order])
        self.scans = len(counts)
        self.seed = seed
        total = self.cumulative[-1] if len(self.cumulative) else 0.0
        self.negative_share = rule.negative_share if total > 0 else 1.0
        self.patches_of_pass = self._pass(total, whole)
        self.patches = rule.patches_per_epoch or self.patches_of_pass

    def of_epoch(self, epoch: int) -> list[PatchDraw]:
        """Draw the patches of an epoch, a function of the seed and the epoch's number."""
        rng = np.random.default_rng((self.seed, epoch))
        # Rounded down, so that the nodule draws of a pass are no fewer than the weights' sum.
        negatives = math.floor(self.patches * self.negative_share + 1e-9)
        nodules = self.patches - negatives
        place = (rng.random() + np.arange(nodules)) / max(nodules, 1)
        place_in_order = np.searchsorted(
            self.cumulative, place * self.cumulative[-1] if nodules else place, side="right"
        )
        chosen = self.order[place_in_order]
        scan = np.concatenate([self.scan_index[chosen], rng.integers(self.scans, size=negatives)])
        finding = np.concatenate([self.finding_index[chosen], np.full(negatives, -1)])
        order = rng.permutation(self.patches)
        seeds = rng.integers(2**63 - 1, size=self.patches)
        rows = zip(scan[order].tolist(), finding[order].tolist(), seeds.tolist(), strict=True)
        return [PatchDraw(*row) for row in rows]

    def _pass(self, weights: float, whole: int) -> int:
        wanted = weights / (1 - self.negative_share) if self.negative_share < 1 else float(self.scans)
        return math.ceil(wanted / whole - 1e-9) * whole


def drawn_mm(
    draws: Sequence[PatchDraw], diameter_mm: Sequence[Float64[np.ndarray, "_"]]
) -> Float64[np.ndarray, "draw"]:
    """Return the diameters of the drawn nodules, one value for each draw of a nodule.

    >>> drawn_mm([PatchDraw(1, 0, 7), PatchDraw(0, -1, 8), PatchDraw(1, 0, 9)], [np.zeros(0), np.array([6.0])]).tolist()
    [6.0, 6.0]
    """
    return np.array([diameter_mm[draw.scan_index][draw.finding_index] for draw in draws if draw.finding_index >= 0])
