"""The metric in training: equal to the pure functions, and the same in one process and in two."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_lightning.metrics.froc import FROC
from nodule_lightning.metrics.functional import RATES, froc
from nodule_lightning.structures import Candidates, Findings
from tests.metrics.cases import random_case
from tests.metrics.froc_on_rank import SEED, SHARES, add_scans
from tests.ranks import printed_by_two_ranks

# An empty rank is normal; torchmetrics warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric FROC was called before")


def alone(scans: list[int], seed: int = SEED) -> dict[str, float]:
    metric = FROC()
    add_scans(metric, random_case(seed), scans)
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(20))
def test_metric_equals_the_pure_functions(seed: int) -> None:
    case = random_case(seed)
    expected = froc(case.candidates, case.nodules, case.excluded, case.scan_ids, bootstraps=0)
    values = alone(list(range(len(case.scan_ids))), seed)
    assert values["froc"] == np.float32(expected.mean)
    assert [values[f"sensitivity@{rate:g}"] for rate in RATES] == expected.sensitivities.astype(np.float32).tolist()
    assert len(values) == 8


def test_scan_without_marks_and_nodules_still_divides() -> None:
    nodule = Findings(np.zeros((1, 3)), np.array([6.0]))
    mark = Candidates(np.array([[50.0, 0, 0], [0, 0, 0]]), np.array([0.9, 0.8]), np.array([-1.0, -1.0]))
    metric = FROC()
    metric.update(0, mark, nodule, Findings.empty())
    assert metric.compute()["sensitivity@0.5"] == 0.0
    metric.update(1, Candidates.empty(), Findings.empty(), Findings.empty())
    assert metric.compute()["sensitivity@0.5"] == 1.0


def test_first_block_of_a_repeated_scan_wins() -> None:
    nodule = Findings(np.zeros((1, 3)), np.array([6.0]))
    hit = Candidates(np.zeros((1, 3)), np.array([0.9]), np.array([5.0]))
    metric = FROC()
    metric.update(7, hit, nodule, Findings.empty())
    metric.update(7, Candidates.empty(), nodule, Findings.empty())
    assert metric.compute()["froc"] == 1.0
    assert metric.result().counts.scans == 1
    metric.reset()
    metric.update(7, Candidates.empty(), nodule, Findings.empty())
    metric.update(7, hit, nodule, Findings.empty())
    assert metric.compute()["froc"] == 0.0


def test_state_keeps_only_the_marks_that_can_count() -> None:
    metric = FROC()
    probability = np.linspace(0, 1, 5000)
    metric.update(0, Candidates(np.zeros((5000, 3)), probability, -probability), Findings.empty(), Findings.empty())
    assert sum(len(rows) for rows in metric.rows) == 101


def test_empty_metric_gives_zero_and_pickles() -> None:
    assert FROC().compute()["froc"] == 0.0
    metric = FROC()
    add_scans(metric, random_case(SEED), [0, 1, 2])
    again = pickle.loads(pickle.dumps(metric))
    assert again.compute() == metric.compute()


def test_values_are_floats_for_the_logger() -> None:
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in FROC().compute().values())


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path: Path) -> None:
    printed = printed_by_two_ranks(Path(__file__).with_name("froc_on_rank.py"), tmp_path / "meeting")
    assert printed[0] == printed[1]
    together = {name: values for line in printed[0].splitlines() for name, values in json.loads(line).items()}
    assert together == {name: alone(sorted({*first, *second})) for name, (first, second) in SHARES.items()}
    assert 0 < together["uneven"]["froc"] < 1
