"""Compare ensembles with their members: each seed, the mean of the seeds, and their fusions.

    python -m experiments.ensemble.score outputs/ablations/phantom outputs/ensemble runs/seed=*/test/submission.csv

Reads `weighted/`, `consensus/` and `mirrored/` of the second folder, the members, and their mirrored searches
(`mirrored/` beside its `test/`), and prints a table. All scores use the same bootstraps over the test scans, so that
differences are paired. The best seed is the best on these very scans, which makes it the hardest baseline.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

import nodule_lightning as nl
from experiments.ablations.score import bounds
from nodule_lightning.metrics.functional.bootstrap import bootstrap
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.curve import RATES
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.metrics.functional.ranking import paired_p_value

BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Score:
    """The mean sensitivity at the seven rates.

    Attributes:
        mean: on the test scans.
        drawn: in each bootstrap over them.
    """

    mean: float
    drawn: Float64[np.ndarray, "resample"]

    @classmethod
    def of(cls, comparison: Comparison, bootstraps: int = BOOTSTRAPS) -> "Score":
        """Score a submission."""
        wanted = comparison.every_nodule
        drawn = bootstrap(comparison, wanted[None], np.array(RATES), bootstraps, 0)[:, 0].mean(axis=1)
        return cls(float(comparison.curve(wanted).at(RATES).mean()), drawn)

    @classmethod
    def mean_of(cls, scores: Sequence["Score"]) -> "Score":
        """Average several scores: the score to expect of one of them."""
        return cls(float(np.mean([score.mean for score in scores])), np.mean([score.drawn for score in scores], axis=0))


def table(seeds: Mapping[str, Score], ensembles: Mapping[str, Score]) -> Iterator[str]:
    """Yield the lines of a Markdown table: seeds, their mean, and ensembles against that mean and the best seed."""
    yield "| | FROC | 95 % interval | against the mean of the seeds | p | against the best seed | p |"
    yield "|---|---|---|---|---|---|---|"
    mean = Score.mean_of(list(seeds.values()))
    best = max(seeds.values(), key=lambda score: score.mean)
    for name, score in seeds.items():
        yield f"| {name}{' (best)' if score is best else ''} | {score.mean:.3f} | {bounds(score.drawn)} | | | | |"
    yield f"| mean of the seeds | {mean.mean:.3f} | {bounds(mean.drawn)} | | | | |"
    for name, score in ensembles.items():
        yield f"| {name} | {score.mean:.3f} | {bounds(score.drawn)} | {gap(score, mean)} | {gap(score, best)} |"


def gap(score: Score, other: Score) -> str:
    """Format a paired difference with its interval and p-value, as two cells."""
    p_value = paired_p_value(score.drawn, other.drawn)
    return f"{score.mean - other.mean:+.3f} ({bounds(score.drawn - other.drawn, '+')}) | {p_value:.3f}"


def main() -> None:
    """Read the submissions and print the table."""
    phantom, output = Path(sys.argv[1]), Path(sys.argv[2])
    nodules = nl.read_findings(phantom / "annotations.csv")
    excluded = nl.read_findings(phantom / "annotations_excluded.csv", sized=False)
    scan_ids = nl.read_scan_ids(output / "weighted" / "scans.csv")

    def scored(path: Path) -> Score:
        return Score.of(compare(nl.read_candidates(path), nodules, excluded, scan_ids, Protocol.LUNA16)[0])

    paths = [Path(argument) for argument in sys.argv[3:]]
    seeds = {path.parent.parent.name: scored(path) for path in paths}
    mirrored = [scored(path.parent.parent / "mirrored" / path.name) for path in paths]
    fused = {
        "weighted": "weighted mean",
        "consensus": "consensus of more than half",
        "mirrored": "weighted mean of the mirrored searches",
    }
    ensembles = {
        "mean of the seeds, each searched mirrored": Score.mean_of(mirrored),
        **{name: scored(output / folder / "submission.csv") for folder, name in fused.items()},
    }
    print(*table(seeds, ensembles), sep="\n")


if __name__ == "__main__":
    main()
