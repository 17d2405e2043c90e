"""The challenge score: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan (LUNA16's FROC)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from jaxtyping import Float64

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional.bootstrap import bootstrap
from nodule_lightning.metrics.functional.cautions import cautions
from nodule_lightning.metrics.functional.curve import RATES, Curve, Events
from nodule_lightning.metrics.functional.matching import Matching, match
from nodule_lightning.metrics.functional.scan_list import ScanList
from nodule_lightning.structures import Candidates, Findings, Table

# The interval's band is drawn at 16 places an octave; each of the seven rates is one of them.
BAND_RATES = 2.0 ** (np.arange(-48, 49) / 16)
CONFIDENCE = 0.95
# Where the bins begin, mm. A nodule on a border belongs to the upper bin; the few under 3 mm belong to the first.
SIZE_BORDERS_MM = (0.0, 5.0, 6.0, 10.0, 20.0, np.inf)
SIZE_RATE = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the score was made of.

    Attributes:
        scans: scans of the list, with or without nodules and marks.
        nodules: nodules in them.
        marks: marks left after the cap of 100 a scan.
        true_positives: nodules with a mark inside.
        false_positives: marks inside no finding.
        misses: nodules without a mark inside.
        ignored_on_excluded: marks inside an excluded finding and no nodule.
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
class SizeBin:
    """The sensitivity among nodules of one size, at 1 false positive per scan (of all marks, not of this size).

    Attributes:
        low_mm: smallest diameter that belongs here.
        high_mm: first diameter that does not.
        nodules: how many there are.
        sensitivity: share of them that is found; nan if there are none.
    """

    low_mm: float
    high_mm: float
    nodules: int
    sensitivity: float

    @property
    def label(self) -> str:
        """Name the bin, as in "5-6 mm"."""
        if self.low_mm <= 0:
            return f"under {self.high_mm:g} mm"
        return f"{self.low_mm:g} mm and over" if np.isinf(self.high_mm) else f"{self.low_mm:g}-{self.high_mm:g} mm"


@dataclass(frozen=True, slots=True)
class Band:
    """The bootstrap interval along the curve.

    Attributes:
        fps: false positives per scan from 1/8 to 8.
        low: lower bound of the sensitivity there.
        high: upper bound.
    """

    fps: Float64[np.ndarray, "rate"]
    low: Float64[np.ndarray, "rate"]
    high: Float64[np.ndarray, "rate"]


@dataclass(frozen=True, slots=True)
class FrocResult:
    """The score and all that explains it.

    Attributes:
        sensitivities: at the seven `RATES` of false positives per scan.
        mean: their mean, which is the score.
        interval: 95 % bootstrap interval of the mean; None without bootstraps.
        band: the interval along the curve; None without bootstraps.
        curve: the whole curve.
        counts: what was counted.
        sizes: sensitivity by size of the nodule.
        bootstraps: resamples behind the interval.
        seed: of the resampling.
        warnings: what would change the score silently, one sentence each.
    """

    sensitivities: Float64[np.ndarray, "7"]
    mean: float
    interval: tuple[float, float] | None
    band: Band | None
    curve: Curve
    counts: Counts
    sizes: tuple[SizeBin, ...]
    bootstraps: int = 0
    seed: int = 0
    warnings: tuple[str, ...] = ()

    def interval_at(self, rate: float) -> tuple[float, float] | None:
        """Give the bootstrap interval of the sensitivity at one of the seven rates; None without bootstraps."""
        if self.band is None:
            return None
        place = int(np.flatnonzero(self.band.fps == rate)[0])
        return float(self.band.low[place]), float(self.band.high[place])

    def with_warning(self, sentence: str) -> Self:
        """Add one more warning."""
        return replace(self, warnings=(*self.warnings, sentence))

    def to_dict(self) -> dict[str, Any]:
        """Describe the result without its curve in plain values, for JSON."""
        counts = {name: getattr(self.counts, name) for name in Counts.__dataclass_fields__}
        return {
            "mean": self.mean,
            "interval_95_percent": None if self.interval is None else list(self.interval),
            "sensitivity_at_fps_per_scan": {
                f"{rate:g}": float(value) for rate, value in zip(RATES, self.sensitivities, strict=True)
            },
            "counts": counts,
            "sensitivity_by_size_at_1_fp_per_scan": {
                size.label: {
                    "nodules": size.nodules,
                    "sensitivity": size.sensitivity if size.nodules else None,
                }
                for size in self.sizes
            },
            "bootstraps": self.bootstraps,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }


def froc(
    candidates: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings] | None,
    scan_ids: Sequence[Hashable],
    *,
    bootstraps: int = 1000,
    seed: int = 0,
) -> FrocResult:
    """Score marks against nodules by the rules of LUNA16.

    Args:
        candidates: the marks of all scans; the 100 best of each scan count.
        nodules: what is to be found.
        excluded: findings on which a mark is neither right nor wrong; may be empty, None where there is no such list.
        scan_ids: every scan that counts, also those without nodules and marks. Rows of other scans are left out.
        bootstraps: resamples of the scans behind the interval; 0 for none.
        seed: of the resampling.

    Raises:
        InputError: a scan twice in the list, or a negative number of bootstraps.
    """
    if bootstraps < 0:
        raise InputError(f"bootstraps must be 0 or more, not {bootstraps}")
    scans = ScanList.of(scan_ids)
    doubtful = scans.locate(Table(np.zeros(0, dtype=np.str_), Findings.empty()) if excluded is None else excluded)
    marks, wanted = scans.locate(candidates), scans.locate(nodules)
    result = score(marks.listed(), wanted.listed(), doubtful.listed(), len(scans), bootstraps, seed)
    return replace(result, warnings=cautions(marks, wanted, excluded, scans))


def score(
    marks: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings],
    scans: int,
    bootstraps: int,
    seed: int,
) -> FrocResult:
    """Score tables that hold a scan's position (0 to `scans` - 1) in place of its id."""
    matching = match(marks, nodules, excluded)
    events = Events.collect(marks, nodules.scan_id, matching)
    curve = events.curve(scans, np.ones(len(nodules), dtype=bool))
    sensitivities = curve.at(RATES)
    in_scan = np.bincount(nodules.scan_id, minlength=scans)
    interval, band = _interval(bootstrap(events, in_scan, BAND_RATES, bootstraps, seed))
    return FrocResult(
        sensitivities,
        float(sensitivities.mean()),
        interval,
        band,
        curve,
        _count(matching, scans),
        _by_size(events, nodules.rows, scans),
        bootstraps,
        seed,
    )


def _interval(drawn: Float64[np.ndarray, "resample rate"]) -> tuple[tuple[float, float] | None, Band | None]:
    if not len(drawn):
        return None, None
    bounds = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    scored = np.isin(BAND_RATES, RATES)
    low, high = np.quantile(drawn[:, scored].mean(axis=1), bounds)
    return (float(low), float(high)), Band(BAND_RATES, *np.quantile(drawn, bounds, axis=0))


def _count(matching: Matching, scans: int) -> Counts:
    found = int((matching.marks_inside > 0).sum())
    return Counts(
        scans=scans,
        nodules=len(matching.marks_inside),
        marks=int(matching.kept.sum()),
        true_positives=found,
        false_positives=int(matching.false_positive.sum()),
        misses=len(matching.marks_inside) - found,
        ignored_on_excluded=int(matching.ignored.sum()),
        double_detections=int(matching.marks_inside.sum()) - found,
    )


def _by_size(events: Events, nodules: Findings, scans: int) -> tuple[SizeBin, ...]:
    diameter = nodules.effective_diameter_mm()
    bins = []
    for low, high in pairwise(SIZE_BORDERS_MM):
        inside = (diameter >= low) & (diameter < high)
        number = int(inside.sum())
        sensitivity = float(events.curve(scans, inside).at([SIZE_RATE])[0]) if number else float("nan")
        bins.append(SizeBin(low, high, number, sensitivity))
    return tuple(bins)
