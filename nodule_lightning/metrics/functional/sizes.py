"""Nodules by size: the ranges that papers report, and the score among the nodules of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.metrics.functional.curve import RATES

# Where the ranges begin, mm. A nodule on a border belongs to the upper range.
FINE_BORDERS_MM = (3.0, 5.0, 6.0, 10.0, 20.0, np.inf)
# How the Tianchi team's talk parts the nodules of its challenge.
COARSE_BORDERS_MM = (3.0, 10.0, 30.0)
SIZE_RATE = 1.0


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Nodules of one size.

    Attributes:
        low_mm: smallest diameter that belongs here.
        high_mm: first diameter that does not.
    """

    low_mm: float
    high_mm: float

    @property
    def label(self) -> str:
        """Name the range, as in "5-6 mm"."""
        if self.low_mm <= 0:
            return f"under {self.high_mm:g} mm"
        return f"{self.low_mm:g} mm and over" if np.isinf(self.high_mm) else f"{self.low_mm:g}-{self.high_mm:g} mm"

    def holds(self, diameter_mm: Float64[np.ndarray, "nodule"]) -> Bool[np.ndarray, "nodule"]:
        """Tell which diameters belong here."""
        inside: np.ndarray = (diameter_mm >= self.low_mm) & (diameter_mm < self.high_mm)
        return inside


@dataclass(frozen=True, slots=True)
class SizeBin(SizeRange):
    """The score among nodules of one size; the false positives are those of all marks, which have no size.

    Attributes:
        nodules: how many there are.
        sensitivities: share of them that is found at the seven `RATES`; nan if there are none.
    """

    nodules: int
    sensitivities: Float64[np.ndarray, "7"]

    @property
    def sensitivity(self) -> float:
        """Give the sensitivity at 1 false positive per scan."""
        return float(self.sensitivities[RATES.index(SIZE_RATE)])

    @property
    def mean(self) -> float:
        """Give the mean of the seven sensitivities, the score of this size."""
        return float(self.sensitivities.mean())


def size_ranges(borders_mm: Sequence[float], diameter_mm: Float64[np.ndarray, "nodule"]) -> tuple[SizeRange, ...]:
    """Give the ranges between the borders, and one beyond either end where some nodule lies there.

    >>> [size.label for size in size_ranges((3.0, 10.0, 30.0), np.array([4.0, 31.0]))]
    ['3-10 mm', '10-30 mm', '30 mm and over']
    """
    inner = [SizeRange(low, high) for low, high in pairwise(borders_mm)]
    outer = SizeRange(0.0, borders_mm[0]), SizeRange(borders_mm[-1], np.inf)
    below, above = ([size] if size.holds(diameter_mm).any() else [] for size in outer)
    return (*below, *inner, *above)
