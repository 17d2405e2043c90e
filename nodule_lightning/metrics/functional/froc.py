"""The challenge score: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan (LUNA16's FROC)."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from nodule_lightning.errors import InputError
from nodule_lightning.metrics.functional.bootstrap import BOUNDS, bootstrap, percentile_interval
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.curve import DRAWN_RATES, RATES
from nodule_lightning.metrics.functional.mistakes import highest_false_positives, misses
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.result import Band, Counts, FrocResult
from nodule_lightning.metrics.functional.sizes import COARSE_BORDERS_MM, FINE_BORDERS_MM, SizeBin, size_ranges
from nodule_lightning.structures import Candidates, Findings, Table


def froc(
    candidates: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings] | None,
    scan_ids: Sequence[Hashable],
    *,
    protocol: Protocol = Protocol.LUNA16,
    bootstraps: int = 1000,
    seed: int = 0,
) -> FrocResult:
    """Score marks against nodules by the rules of LUNA16.

    Args:
        candidates: the marks of all scans; the 100 most probable of each scan count.
        nodules: to be found.
        excluded: findings on which a mark counts neither way; may be empty, None if there is no such list.
        scan_ids: every scan that counts, including those without nodules and marks. Rows of other scans are left out.
        protocol: rules to score by; Tianchi's have no excluded findings.
        bootstraps: number of resamples of the scans for the interval; 0 for no interval.
        seed: of the resampling.

    Raises:
        InputError: a scan is listed twice, there are excluded findings for Tianchi, or `bootstraps` is negative.
    """
    if bootstraps < 0:
        raise InputError(f"bootstraps must be 0 or more, not {bootstraps}", "argument-invalid")
    comparison, sentences = compare(candidates, nodules, excluded, scan_ids, protocol)
    return replace(summarise(comparison, bootstraps, seed), protocol=protocol, warnings=sentences)


def score(
    marks: Table[Candidates],
    nodules: Table[Findings],
    excluded: Table[Findings],
    scans: int,
    bootstraps: int,
    seed: int,
) -> FrocResult:
    """Score tables that hold a scan's position (0 to `scans` - 1) in place of its id."""
    return summarise(Comparison.of(np.arange(scans), marks, nodules, excluded), bootstraps, seed)


def summarise(comparison: Comparison, bootstraps: int, seed: int) -> FrocResult:
    """Compute the score of a comparison with its intervals, counts, sizes and mistakes."""
    curve = comparison.curve(comparison.every_nodule)
    sensitivities = curve.at(RATES)
    interval, band = _interval(
        bootstrap(comparison, comparison.every_nodule[None], DRAWN_RATES, bootstraps, seed)[:, 0]
    )
    return FrocResult(
        sensitivities,
        float(sensitivities.mean()),
        interval,
        band,
        curve,
        _count(comparison),
        _by_size(comparison, FINE_BORDERS_MM),
        _by_size(comparison, COARSE_BORDERS_MM),
        misses(comparison),
        highest_false_positives(comparison),
        bootstraps=bootstraps,
        seed=seed,
    )


def _interval(drawn: Float64[np.ndarray, "resample rate"]) -> tuple[tuple[float, float] | None, Band | None]:
    interval = percentile_interval(drawn[:, np.isin(DRAWN_RATES, RATES)].mean(axis=1))
    if interval is None:
        return None, None
    low, high = np.quantile(drawn[~np.isnan(drawn[:, 0])], BOUNDS, axis=0)
    return interval, Band(DRAWN_RATES, low, high)


def _count(comparison: Comparison) -> Counts:
    matching = comparison.matching
    found = int((matching.marks_inside > 0).sum())
    return Counts(
        scans=comparison.scans,
        nodules=len(matching.marks_inside),
        marks=int(matching.kept.sum()),
        true_positives=found,
        false_positives=int(matching.false_positive.sum()),
        misses=len(matching.marks_inside) - found,
        ignored_on_excluded=int(matching.ignored.sum()),
        double_detections=int(matching.marks_inside.sum()) - found,
    )


def _by_size(comparison: Comparison, borders_mm: Sequence[float]) -> tuple[SizeBin, ...]:
    diameter = comparison.nodules.rows.effective_diameter_mm()
    bins = []
    for size in size_ranges(borders_mm, diameter):
        inside = size.holds(diameter)
        number = int(inside.sum())
        sensitivities = comparison.curve(inside).at(RATES) if number else np.full(len(RATES), np.nan)
        bins.append(SizeBin(size.low_mm, size.high_mm, number, sensitivities))
    return tuple(bins)
