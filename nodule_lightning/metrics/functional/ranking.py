"""Ranking of submissions over the same scans: scores, significance, and the nodules that make the difference."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodule_lightning.metrics.functional.bootstrap import bootstrap, percentile_interval
from nodule_lightning.metrics.functional.comparison import Comparison
from nodule_lightning.metrics.functional.curve import RATES
from nodule_lightning.metrics.functional.sizes import COARSE_BORDERS_MM, FINE_BORDERS_MM, SizeRange, size_ranges

EVERY_SIZE = "all"
# A nodule counts as found if it is found at this many false positives per scan.
SIDES_RATE = 1.0


@dataclass(frozen=True, slots=True)
class Rating:
    """Score among nodules of one size.

    Attributes:
        size: "all", or the name of the size range.
        nodules: their number.
        mean: of the sensitivities at the seven rates; nan without nodules.
        interval: 95 % bootstrap interval of the mean; None without bootstraps or nodules.
        p_value: of the difference from the best submission; None for the best itself, and without an interval.
    """

    size: str
    nodules: int
    mean: float
    interval: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Ratings of one submission in a ranking.

    Attributes:
        name: of the submission.
        ratings: for all nodules first, then by size.
        gained: rows of the nodules found by this submission but not by the best, each at 1 false positive per scan.
        lost: rows of the nodules found by the best but not by this one.
        best_probability: highest probability inside each nodule; -inf if it is missed.
    """

    name: str
    ratings: tuple[Rating, ...]
    gained: Int64[np.ndarray, "gained"]
    lost: Int64[np.ndarray, "lost"]
    best_probability: Float64[np.ndarray, "nodule"]

    @property
    def overall(self) -> Rating:
        """Rating among all nodules."""
        return self.ratings[0]


def rank(comparisons: Mapping[str, Comparison], bootstraps: int, seed: int) -> tuple[Standing, ...]:
    """Order submissions by their score, the best first; equal ones by name.

    All submissions are scored on the same draws of scans. Each is compared with the best overall, also by size.

    Args:
        comparisons: the submissions by name, at least one, all with the same list of scans and table of nodules.
        bootstraps: resamples of the scans; 0 for neither intervals nor p-values.
        seed: of the resampling.
    """
    names = sorted(comparisons, key=lambda name: (-_score(comparisons[name]), name))
    best = comparisons[names[0]]
    groups = _groups(best)
    drawn = {name: _drawn_means(comparisons[name], groups, bootstraps, seed) for name in names}
    found = {name: found_at(comparisons[name], SIDES_RATE) for name in names}
    return tuple(
        Standing(
            name,
            _ratings(comparisons[name], groups, drawn[name], None if name == names[0] else drawn[names[0]]),
            np.flatnonzero(found[name] & ~found[names[0]]),
            np.flatnonzero(found[names[0]] & ~found[name]),
            comparisons[name].matching.best_probability,
        )
        for name in names
    )


def paired_p_value(first: Float64[np.ndarray, "resample"], second: Float64[np.ndarray, "resample"]) -> float | None:
    """Compute the p-value of a difference of two scores from the same resamples of scans; None without resamples.

    Two-sided: twice the share of resamples in which the difference is zero or has the rarer sign, at most 1. One is
    added to both numbers of the share, so that no p-value is below 2 / (resamples + 1) (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, chapter 4).

    >>> paired_p_value(np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.6, 0.7]))
    1.0
    """
    # Rounded, so that scores that differ only in the last bit are equal.
    gap = np.round((first - second)[~np.isnan(first - second)], 12)
    if not len(gap):
        return None
    rarer = min(int((gap <= 0).sum()), int((gap >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(gap) + 1))


def found_at(comparison: Comparison, rate: float) -> Bool[np.ndarray, "nodule"]:
    """Select the nodules found at the lowest threshold with at most this many false positives per scan."""
    threshold = comparison.curve(comparison.every_nodule).threshold_at(rate)
    found: np.ndarray = comparison.matching.best_probability >= threshold
    return found


_Groups = list[tuple[str, Bool[np.ndarray, "nodule"]]]


def _groups(comparison: Comparison) -> _Groups:
    diameter = comparison.nodules.rows.effective_diameter_mm()
    sizes: dict[str, SizeRange] = {
        size.label: size for borders in (FINE_BORDERS_MM, COARSE_BORDERS_MM) for size in size_ranges(borders, diameter)
    }
    return [(EVERY_SIZE, comparison.every_nodule), *((label, size.holds(diameter)) for label, size in sizes.items())]


def _score(comparison: Comparison) -> float:
    """Compute the score by which submissions are ordered; 0 by convention if there is no nodule."""
    return _mean(comparison, comparison.every_nodule) if len(comparison.nodules) else 0.0


def _mean(comparison: Comparison, wanted: Bool[np.ndarray, "nodule"]) -> float:
    return float(comparison.curve(wanted).at(RATES).mean()) if wanted.any() else float("nan")


def _drawn_means(
    comparison: Comparison, groups: _Groups, resamples: int, seed: int
) -> Float64[np.ndarray, "group resample"]:
    chosen = np.stack([wanted for _, wanted in groups])
    means: np.ndarray = bootstrap(comparison, chosen, np.array(RATES), resamples, seed).mean(axis=2).T
    return means


def _ratings(
    comparison: Comparison,
    groups: _Groups,
    drawn: Float64[np.ndarray, "group resample"],
    best: Float64[np.ndarray, "group resample"] | None,
) -> tuple[Rating, ...]:
    return tuple(
        Rating(
            label,
            int(wanted.sum()),
            _mean(comparison, wanted),
            percentile_interval(drawn[place]),
            None if best is None else paired_p_value(best[place], drawn[place]),
        )
        for place, (label, wanted) in enumerate(groups)
    )
