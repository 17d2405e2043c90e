"""Compare runs by size of nodule, with intervals over test scans and the spread over seeds.

The interval comes from bootstraps over the test scans of the mean over the seeds. The difference from the first arm is
taken within each bootstrap, so that it is paired: both arms are scored on the same scans.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

import nodule_lightning as nl
from nodule_lightning.metrics.functional.bootstrap import bootstrap, percentile_interval
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.curve import RATES
from nodule_lightning.metrics.functional.protocol import Protocol

SMALL_MM = 6.0
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Score:
    """Score of one arm among nodules of one range of sizes.

    Attributes:
        by_seed: mean sensitivity of each run.
        drawn: mean over the runs in each bootstrap.
    """

    by_seed: Float64[np.ndarray, "seed"]
    drawn: Float64[np.ndarray, "resample"]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(self.by_seed.mean())


def score_arms(runs: Mapping[str, Sequence[Path]], phantom: Path) -> dict[str, dict[str, Score]]:
    """Score the submissions of each arm's runs on the test scans."""
    nodules = nl.read_findings(phantom / "annotations.csv")
    excluded = nl.read_findings(phantom / "annotations_excluded.csv", sized=False)
    scores = {}
    for arm, folders in runs.items():
        scan_ids = nl.read_scan_ids(folders[0] / "splits" / "test.csv")
        marks = [nl.read_candidates(folder / "test" / "submission.csv") for folder in folders]
        scores[arm] = score([compare(found, nodules, excluded, scan_ids, Protocol.LUNA16)[0] for found in marks])
    return scores


def score(comparisons: Sequence[Comparison]) -> dict[str, Score]:
    """Score the runs of one arm, over the same scans, among all nodules and by size."""
    groups = sizes(comparisons[0])
    by_seed = np.array([[run.curve(wanted).at(RATES).mean() for wanted in groups.values()] for run in comparisons])
    wanted = np.stack(list(groups.values()))
    drawn = np.mean(
        [bootstrap(run, wanted, np.array(RATES), BOOTSTRAPS, 0).mean(axis=2) for run in comparisons], axis=0
    )
    return {name: Score(by_seed[:, place], drawn[:, place]) for place, name in enumerate(groups)}


def sizes(comparison: Comparison) -> dict[str, Bool[np.ndarray, "nodule"]]:
    """Return masks of all nodules, the small ones and the others, under names with their counts."""
    small = comparison.nodules.rows.diameter_mm < SMALL_MM
    groups = {"all": comparison.every_nodule, f"under {SMALL_MM:g} mm": small, f"from {SMALL_MM:g} mm": ~small}
    return {f"{name} ({np.count_nonzero(wanted)})": wanted for name, wanted in groups.items()}


def table(scores: Mapping[str, Mapping[str, Score]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, one row for each size and arm, compared with the first arm."""
    yield "| nodules | | seeds | mean | 95 % interval over scans | difference |"
    yield "|---|---|---|---|---|---|"
    first = next(iter(scores.values()))
    for size, base in first.items():
        for arm, of_sizes in scores.items():
            here = of_sizes[size]
            gap = "" if here is base else f"{here.mean - base.mean:+.3f} ({bounds(here.drawn - base.drawn, '+')})"
            seeds = ", ".join(f"{value:.3f}" for value in here.by_seed)
            yield f"| {size} | {arm} | {seeds} | {here.mean:.3f} | {bounds(here.drawn)} | {gap} |"


def bounds(drawn: Float64[np.ndarray, "resample"], sign: str = "") -> str:
    """Format the 95 % interval."""
    interval = percentile_interval(drawn)
    assert interval
    return " to ".join(f"{value:{sign}.3f}" for value in interval)
