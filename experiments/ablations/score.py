"""Compare the runs of one sweep: the score by size, how far it moves with other scans, and with other seeds.

    python -m experiments.ablations.score outputs/ablations sampler=natural,balanced

Prints a table of the arms. The interval is of other test scans: bootstraps over scans of the mean over the seeds. The
difference from the first arm is taken within each bootstrap, so that both arms meet the same scans.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.io.tables import read_candidates, read_findings, read_scan_ids
from nodule_lightning.metrics.functional.bootstrap import bootstrap, percentile_interval
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.curve import RATES
from nodule_lightning.metrics.functional.protocol import Protocol

REFERENCE = {
    "model": "res_unet_narrow",
    "assign": "centres",
    "sampler": "balanced",
    "loss": "hard_mining",
    "curriculum.stages.only.bank_share": "0.0",
}
SMALL_MM = 6.0
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Score:
    """Of one arm among nodules of some sizes.

    Attributes:
        by_seed: mean sensitivity of each run.
        drawn: mean over the runs in each bootstrap.
    """

    by_seed: Float64[np.ndarray, "seed"]
    drawn: Float64[np.ndarray, "resample"]

    @property
    def mean(self) -> float:
        """Give the mean over the seeds."""
        return float(self.by_seed.mean())


def arms(override: str) -> dict[str, str]:
    """Give the folder of each value that a sweep has tried, as `experiment=ablation` names it.

    >>> arms("loss=weighted")
    {'weighted': 'res_unet_narrow,centres,balanced,weighted,bank=0.0'}
    """
    key, _, values = override.partition("=")
    chosen = {value: {**REFERENCE, key: value} for value in values.split(",")}
    return {value: "{},{},{},{},bank={}".format(*choices.values()) for value, choices in chosen.items()}


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
    """Choose all nodules, the small and the others."""
    small = comparison.nodules.rows.diameter_mm < SMALL_MM
    groups = {"all": comparison.every_nodule, f"under {SMALL_MM:g} mm": small, f"from {SMALL_MM:g} mm": ~small}
    return {f"{name} ({np.count_nonzero(wanted)})": wanted for name, wanted in groups.items()}


def table(scores: Mapping[str, Mapping[str, Score]]) -> Iterator[str]:
    """Give the lines of a table in Markdown: an arm and a size each, against the first arm."""
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


def main() -> None:
    """Read the runs of every arm and print the table."""
    output, override = Path(sys.argv[1]), sys.argv[2]
    nodules = read_findings(output / "phantom" / "annotations.csv")
    excluded = read_findings(output / "phantom" / "annotations_excluded.csv", sized=False)
    scores = {}
    for arm, folder in arms(override).items():
        runs = sorted((output / "runs" / folder).glob("seed=*"))
        scan_ids = read_scan_ids(runs[0] / "splits" / "test.csv")
        marks = [read_candidates(run / "test" / "submission.csv") for run in runs]
        scores[arm] = score([compare(run, nodules, excluded, scan_ids, Protocol.LUNA16)[0] for run in marks])
    for line in table(scores):
        print(line)


if __name__ == "__main__":
    main()
