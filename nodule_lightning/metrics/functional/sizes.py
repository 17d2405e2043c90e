"""Size ranges of nodules as reported in papers, and the score within each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.metrics.functional.curve import RATES

# Lower borders of the ranges. A nodule on a border belongs to the upper range.
FINE_BORDERS_MM = (3.0, 5.0, 6.0, 10.0, 20.0, np.inf)
# Ranges of the Tianchi team's talk.
COARSE_BORDERS_MM = (3.0, 10.0, 30.0)
SIZE_RATE = 1.0


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Range of nodule diameters.

    Attributes:
        low_mm: smallest diameter that belongs here.
        high_mm: first diameter that does not.
    """

    low_mm: float
    high_mm: float

    @property
    def label(self) -> str:
        """Name of the range, such as "5-6 mm"."""
        if self.low_mm <= 0:
            return f"under {self.high_mm:g} mm"
        return f"{self.low_mm:g} mm and over" if np.isinf(self.high_mm) else f"{self.low_mm:g}-{self.high_mm:g} mm"

    def holds(self, diameter_mm: Float64[np.ndarray, "nodule"]) -> Bool[np.ndarray, "nodule"]:
        """Test which diameters lie in the range."""
        inside: np.ndarray = (diameter_mm >= self.low_mm) & (diameter_mm < self.high_mm)
        return inside


@dataclass(frozen=True, slots=True)
class SizeBin(SizeRange):
    """Score among nodules of one size, with the false positives of all marks, since a false positive has no size.

    Attributes:
        nodules: their number.
        sensitivities: fraction of them found at each of the seven `RATES`; nan if there are none.
    """

    nodules: int
    sensitivities: Float64[np.ndarray, "7"]

    @property
    def sensitivity(self) -> float:
        """Sensitivity at 1 false positive per scan."""
        return float(self.sensitivities[RATES.index(SIZE_RATE)])

    @property
    def mean(self) -> float:
        """Mean of the seven sensitivities: the score for this size."""
        return float(self.sensitivities.mean())


def size_ranges(borders_mm: Sequence[float], diameter_mm: Float64[np.ndarray, "nodule"]) -> tuple[SizeRange, ...]:
    """List the ranges between the borders, and those beyond either end that hold a nodule.

    >>> [size.label for size in size_ranges((3.0, 10.0, 30.0), np.array([4.0, 31.0]))]
    ['3-10 mm', '10-30 mm', '30 mm and over']
    """
    inner = [SizeRange(low, high) for low, high in pairwise(borders_mm)]
    outer = SizeRange(0.0, borders_mm[0]), SizeRange(borders_mm[-1], np.inf)
    below, above = ([size] if size.holds(diameter_mm).any() else [] for size in outer)
    return (*below, *inner, *above)
