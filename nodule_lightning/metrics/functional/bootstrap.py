"""Bootstrap of the score: resampling of scans with replacement."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodule_lightning.metrics.functional.comparison import Comparison
from nodule_lightning.metrics.functional.curve import RATES, Events

# A resample may need more of the curve than the whole set to reach the last rate; very few need all of it.
HEAD_MARGIN = 1.25
# Quantiles of the 95 % interval.
BOUNDS = (0.025, 0.975)


def bootstrap(
    comparison: Comparison,
    groups: Bool[np.ndarray, "group nodule"],
    rates: Float64[np.ndarray, "rate"],
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resample group rate"]:
    """Compute the sensitivities among groups of nodules in resamples of the scans.

    Each resample draws as many scans as there are, with replacement. The draws depend only on the seed and the number
    of scans, so two comparisons over the same scans use the same draws.

    Args:
        comparison: marks matched to findings.
        groups: nodules of each group.
        rates: false positives per scan.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        The sensitivities; nan where a draw holds no nodule of the group.
    """
    rng = np.random.default_rng(seed)
    scans, events = comparison.scans, comparison.events
    head = _Curves.of(comparison, groups, events.head(HEAD_MARGIN * RATES[-1] * scans))
    whole: _Curves | None = None
    drawn = np.full((resamples, len(groups), len(rates)), np.nan)
    for draw in range(resamples if scans else 0):
        times = np.bincount(rng.integers(scans, size=scans), minlength=scans)
        curves, fps = head, head.fps(times)
        if fps[-1] < rates[-1] and len(fps) <= len(events.ends):
            curves = whole = whole or _Curves.of(comparison, groups, events)
            fps = curves.fps(times)
        for group, sensitivity in enumerate(curves.sensitivities(times)):
            if sensitivity is not None:
                drawn[draw, group] = np.interp(rates, fps, sensitivity)
    return drawn


def percentile_interval(drawn: Float64[np.ndarray, "resample"]) -> tuple[float, float] | None:
    """Compute the bounds of the middle 95 % of the draws that have a value; None if there are none."""
    there = drawn[~np.isnan(drawn)]
    if not len(there):
        return None
    low, high = np.quantile(there, BOUNDS)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class _Part:
    """A subset of the events: the scan of each, and how many lie before each point of the curve, from (0, 0) on."""

    scan: Int64[np.ndarray, "part"]
    before: Int64[np.ndarray, "point"]

    @classmethod
    def of(cls, events: Events, chosen: Bool[np.ndarray, "event"]) -> Self:
        return cls(events.scan[chosen], np.append(0, np.cumsum(chosen)[events.ends]))

    def counted(self, times: Int64[np.ndarray, "scan"]) -> Int64[np.ndarray, "point"]:
        """Count the events up to each point, with each scan repeated `times` times."""
        total: np.ndarray = np.append(0, np.cumsum(times[self.scan]))[self.before]
        return total


@dataclass(frozen=True, slots=True)
class _Curves:
    """Curves of all groups of nodules, prepared for fast evaluation on other draws of scans."""

    false: _Part
    found: tuple[_Part, ...]
    in_scan: tuple[Int64[np.ndarray, "scan"], ...]

    @classmethod
    def of(cls, comparison: Comparison, groups: Bool[np.ndarray, "group nodule"], events: Events) -> Self:
        found = tuple(_Part.of(events, events.among(group)) for group in groups)
        in_scan = tuple(comparison.nodules_in_scan(group) for group in groups)
        return cls(_Part.of(events, events.nodule < 0), found, in_scan)

    def fps(self, times: Int64[np.ndarray, "scan"]) -> Float64[np.ndarray, "point"]:
        per_scan: np.ndarray = self.false.counted(times) / len(times)
        return per_scan

    def sensitivities(self, times: Int64[np.ndarray, "scan"]) -> Iterator[Float64[np.ndarray, "point"] | None]:
        """Compute the sensitivity of each group along the curve; None where the draw holds none of its nodules."""
        for found, in_scan in zip(self.found, self.in_scan, strict=True):
            nodules = int(times @ in_scan)
            yield found.counted(times) / nodules if nodules else None
