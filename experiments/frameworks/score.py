"""Compare the frameworks on the test scans, after the rules of the second stage on the validation scans.

    python -m experiments.frameworks.score outputs/ablations

Prints two tables. The rule that combines detector and second stage is the best one on the validation scans, as a mean
over the seeds; only that one is scored on the test scans. Intervals are as in `experiments.ablations.score`.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

import nodule_lightning as nl
from experiments.ablations.questions import arms
from experiments.ablations.score import score, table
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.protocol import Protocol

# The geometric mean ranks as the product does.
RULES = ("product", "mean", "reducer")
CHOSEN, DETECTOR = "product", "detector"
"""The rule that experiment=reducer logs as `val/froc`, and the name of the detector's own candidates."""


def validation_scores(runs: Sequence[Path]) -> dict[str, list[float]]:
    """Return the last validation score of each rule and of the detector alone, one for each run."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        last = list(_validations(run))[-1]
        for name in (DETECTOR, *RULES):
            column = "val/froc" if name == CHOSEN else f"val/froc_{name}"
            scores.setdefault(name, []).append(float(last[column]))
    return scores


def _validations(run: Path) -> Iterator[dict[str, str]]:
    """Yield the logged rows that hold a score, over all starts of a run."""
    starts = (run / "metrics").glob("version_*/metrics.csv")
    for path in sorted(starts, key=lambda path: int(path.parent.name.partition("_")[2])):
        with path.open(encoding="utf-8", newline="") as file:
            yield from (row for row in csv.DictReader(file) if row.get("val/froc"))


def best_rule(scores: Mapping[str, Sequence[float]]) -> str:
    """Return the rule with the highest mean; the first of equal ones."""
    return max(RULES, key=lambda rule: float(np.mean(scores[rule])))


def validation_table(scores: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield the lines of a Markdown table of the rules."""
    yield "| on the validation scans | seeds | mean |"
    yield "|---|---|---|"
    for name, values in scores.items():
        yield f"| {name} | {', '.join(f'{value:.3f}' for value in values)} | {np.mean(values):.3f} |"


def submissions(output: Path, rule: str) -> dict[str, list[Path]]:
    """Return the submissions of each framework, one for each seed."""
    (detectors,) = arms("model=res_unet_narrow").values()
    segmentations = detectors.replace("res_unet_narrow,centres", "unet3d_segmentation_narrow,spheres")
    segmentations = segmentations.replace("hard_mining", "segmentation")
    folders = {
        "detection": (f"runs/{detectors}", "test"),
        "segmentation": (f"runs/{segmentations}", "test"),
        "classification of the detector's candidates": ("reducers", "test/reducer"),
        f"detection and classification ({rule})": ("reducers", f"test/{rule}"),
    }
    return {
        name: sorted((output / runs).glob(f"seed=*/{test}/submission.csv")) for name, (runs, test) in folders.items()
    }


def main() -> None:
    """Read the runs and print both tables."""
    output = Path(sys.argv[1])
    scores = validation_scores(sorted((output / "reducers").glob("seed=*")))
    print(*validation_table(scores), "", sep="\n")
    nodules = nl.read_findings(output / "phantom" / "annotations.csv")
    excluded = nl.read_findings(output / "phantom" / "annotations_excluded.csv", sized=False)
    scan_ids = nl.read_scan_ids(next((output / "runs").glob("*/seed=*/splits/test.csv")))

    def compared(path: Path) -> Comparison:
        return compare(nl.read_candidates(path), nodules, excluded, scan_ids, Protocol.LUNA16)[0]

    found = submissions(output, best_rule(scores))
    print(*table({name: score([compared(path) for path in paths]) for name, paths in found.items()}), sep="\n")


if __name__ == "__main__":
    main()
