"""The comparison of arms over seeds and scans."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from experiments.ablations.questions import QUESTIONS, arms
from experiments.ablations.score import score, table
from nodule_lightning.metrics.functional.comparison import Comparison, compare
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.structures import Candidates, Findings, Table

SCANS = [f"scan{place}" for place in range(12)]


def run(found: int) -> Comparison:
    """Search scans that hold a nodule of 4 and one of 8 mm each; find the small one in the first of them only."""
    ids = np.repeat(SCANS, 2)
    x = np.tile([0.0, 50.0], len(SCANS))
    centres = np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)
    nodules = Table(ids, Findings(centres, np.tile([4.0, 8.0], len(SCANS))))
    seen = np.tile([False, True], len(SCANS))
    seen[: 2 * found] = True
    marks = Table(ids[seen], Candidates(centres[seen], np.full(seen.sum(), 0.5), np.full(seen.sum(), -1.0)))
    return compare(marks, nodules, None, SCANS, Protocol.LUNA16)[0]


def test_arms_are_told_apart_by_seed_and_size() -> None:
    scores = {"few": score([run(2), run(4)]), "many": score([run(9), run(9)])}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in list(table(scores))[2:]]
    assert [row[:4] for row in rows] == [
        ["all (24)", "few", "0.583, 0.667", "0.625"],
        ["all (24)", "many", "0.875, 0.875", "0.875"],
        ["under 6 mm (12)", "few", "0.167, 0.333", "0.250"],
        ["under 6 mm (12)", "many", "0.750, 0.750", "0.750"],
        ["from 6 mm (12)", "few", "1.000, 1.000", "1.000"],
        ["from 6 mm (12)", "many", "1.000, 1.000", "1.000"],
    ]
    assert [row[5] for row in rows[:2]] == ["", rows[1][5]]
    gap, interval = rows[3][5].split(" ", 1)
    low, high = (float(value) for value in interval.strip("()").split(" to "))
    assert gap == "+0.500"
    assert 0 < low < 0.5 < high < 1
    assert rows[5][5] == "+0.000 (+0.000 to +0.000)"


OVERRIDES = [
    f"{key}={value}"
    for key, _, values in (text.partition("=") for text in QUESTIONS.values())
    for value in values.split(",")
]


@pytest.mark.parametrize("override", OVERRIDES)
def test_the_experiment_names_its_folders_as_the_score_does(override: str) -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["experiment=ablation", override, "seed=7"], return_hydra_config=True)
    assert config.hydra.sweep.subdir == f"{arms(override)[override.partition('=')[2]]}/seed=7"
    assert config.sampler.patches_per_epoch == 2048


def test_what_the_folders_do_not_name_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="augment"):
        arms("augment=mirror,strong")
