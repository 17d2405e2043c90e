"""Result types of a score: sensitivities, intervals, counts, operating points."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Float64

from nodule_lightning.metrics.functional.curve import RATES, Curve
from nodule_lightning.metrics.functional.mistakes import Misses
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.sizes import SizeBin
from nodule_lightning.structures import Candidates, Table


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of scans, nodules and marks behind a score.

    Attributes:
        scans: listed scans, with or without nodules and marks.
        nodules: nodules in them.
        marks: marks left after the cap of 100 per scan.
        true_positives: nodules with a mark inside.
        false_positives: marks inside no finding.
        misses: nodules without a mark inside.
        ignored_on_excluded: marks inside an excluded finding but no nodule.
        double_detections: marks beyond the best one, summed over the nodules.
    """

    scans: int
    nodules: int
    marks: int
    true_positives: int
    false_positives: int
    misses: int
    ignored_on_excluded: int
    double_detections: int


@dataclass(frozen=True, slots=True)
class Band:
    """Bootstrap interval along the curve.

    Attributes:
        fps: false positives per scan from 1/8 to 8.
        low: lower bound of the sensitivity there.
        high: upper bound.
    """

    fps: Float64[np.ndarray, "rate"]
    low: Float64[np.ndarray, "rate"]
    high: Float64[np.ndarray, "rate"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Performance of a detector at one threshold.

    Attributes:
        threshold: marks with at least this probability count.
        true_positives: nodules with such a mark inside.
        false_positives: such marks inside no finding.
        sensitivity: fraction of the nodules that are found.
        fps_per_scan: false positives per scan.
        precision: found nodules divided by found nodules plus false positives; nan without either.
    """

    threshold: float
    true_positives: int
    false_positives: int
    sensitivity: float
    fps_per_scan: float
    precision: float

    def to_dict(self) -> dict[str, Any]:
        """Describe the point in plain values, for JSON."""
        values = asdict(self)
        return {**values, "precision": None if np.isnan(self.precision) else self.precision}


@dataclass(frozen=True, slots=True)
class FrocResult:
    """The score with its intervals, counts, sizes, mistakes and warnings.

    Attributes:
        sensitivities: at the seven `RATES` of false positives per scan.
        mean: their mean, which is the score.
        interval: 95 % bootstrap interval of the mean; None without bootstraps.
        band: the interval along the curve; None without bootstraps.
        curve: the whole curve.
        counts: numbers of scans, nodules and marks.
        sizes: sensitivity by nodule size: 3-5, 5-6, 6-10, 10-20, 20 mm and over; under 3 mm if there are any.
        coarse_sizes: the same for 3-10 and 10-30 mm; under 3, and 30 mm and over, if there are any.
        misses: nodules without a mark inside.
        false_positives: the 1000 most probable marks inside no finding, most probable first.
        protocol: rules of the score.
        bootstraps: number of resamples for the interval.
        seed: of the resampling.
        warnings: input that changes the score without an error, one sentence each.
    """

    sensitivities: Float64[np.ndarray, "7"]
    mean: float
    interval: tuple[float, float] | None
    band: Band | None
    curve: Curve
    counts: Counts
    sizes: tuple[SizeBin, ...]
    coarse_sizes: tuple[SizeBin, ...]
    misses: Misses
    false_positives: Table[Candidates]
    protocol: Protocol = Protocol.LUNA16
    bootstraps: int = 0
    seed: int = 0
    warnings: tuple[str, ...] = ()

    def interval_at(self, rate: float) -> tuple[float, float] | None:
        """Return the bootstrap interval of the sensitivity at one of the seven rates; None without bootstraps."""
        if self.band is None:
            return None
        place = int(np.flatnonzero(self.band.fps == rate)[0])
        return float(self.band.low[place]), float(self.band.high[place])

    def operating_point(self, threshold: float) -> OperatingPoint:
        """Compute the performance when only marks with at least this probability count."""
        fps, sensitivity = self.curve.point_at(threshold)
        found, false = round(sensitivity * self.counts.nodules), round(fps * self.counts.scans)
        precision = found / (found + false) if found + false else float("nan")
        return OperatingPoint(threshold, found, false, sensitivity, fps, precision)

    def with_warning(self, sentence: str) -> Self:
        """Return a copy with one more warning."""
        return replace(self, warnings=(*self.warnings, sentence))

    def to_dict(self) -> dict[str, Any]:
        """Describe the result, without its curve and lists, in plain values for JSON."""
        return {
            "protocol": self.protocol.value,
            "mean": self.mean,
            "interval_95_percent": None if self.interval is None else list(self.interval),
            "sensitivity_at_fps_per_scan": _by_rate(self.sensitivities),
            "counts": asdict(self.counts),
            "sensitivity_by_size_at_1_fp_per_scan": _by_size(self.sizes),
            "sensitivity_by_coarse_size_at_1_fp_per_scan": _by_size(self.coarse_sizes),
            "bootstraps": self.bootstraps,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }


def _by_rate(sensitivities: Float64[np.ndarray, "7"]) -> dict[str, float]:
    return {f"{rate:g}": float(value) for rate, value in zip(RATES, sensitivities, strict=True)}


def _by_size(sizes: tuple[SizeBin, ...]) -> dict[str, Any]:
    return {
        size.label: {
            "nodules": size.nodules,
            "sensitivity": size.sensitivity if size.nodules else None,
            "mean": size.mean if size.nodules else None,
        }
        for size in sizes
    }
