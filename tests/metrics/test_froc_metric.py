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
from tests.metrics.froc_on_rank import SCANS, SEED, add_scans, shares
from tests.ranks import printed_by_ranks

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
    assert values.pop("froc") == np.float32(expected.mean)
    sensitivities = [values.pop(f"sensitivity@{rate:g}") for rate in RATES]
    assert sensitivities == expected.sensitivities.astype(np.float32).tolist()
    sizes = (*expected.sizes, *expected.coarse_sizes)
    by_size = [float(np.float32(size.sensitivity)) for size in sizes if size.nodules]
    # Both end under 3 mm.
    assert sorted({*values.values()}) == sorted({*by_size})


def test_sizes_are_named_for_a_logger_and_left_out_where_there_is_no_nodule() -> None:
    diameters = np.array([4.0, 5.0, 20.0, 35.0])
    nodules = Findings(np.arange(12.0).reshape(4, 3) * 50, diameters)
    marks = Candidates(nodules.centre_xyz_mm[1:3], np.array([0.9, 0.8]), np.array([-1.0, -1.0]))
    metric = FROC()
    metric.update(0, marks, nodules, Findings.empty())
    by_size = {name: value for name, value in metric.compute().items() if "_" in name}
    assert by_size == {
        "sensitivity_3-5mm": 0.0,
        "sensitivity_5-6mm": 1.0,
        "sensitivity_over_20mm": 0.5,
        "sensitivity_3-10mm": 0.5,
        "sensitivity_10-30mm": 1.0,
        "sensitivity_over_30mm": 0.0,
    }


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
    assert metric.scans().scan_ids.tolist() == [7]
    metric.reset()
    metric.update(7, Candidates.empty(), nodule, Findings.empty())
    metric.update(7, hit, nodule, Findings.empty())
    assert metric.compute()["froc"] == 0.0


def test_the_state_grows_by_so_many_rows_a_scan_however_many_marks_it_has() -> None:
    metric = FROC()
    probability = np.linspace(0, 1, 5000)
    marks = Candidates(np.zeros((5000, 3)), probability, -probability)
    findings = Findings(np.zeros((3, 3)), np.ones(3))
    for scan in range(10):
        metric.update(scan, marks, findings, findings[:2])
        rows = (scan + 1) * (1 + 100 + 3 + 2)
        assert sum(block.nbytes for block in metric.rows) == rows * 7 * 8
    metric.compute()
    assert sum(len(block) for block in metric.rows) == rows
    metric.reset()
    assert metric.rows == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same() -> None:
    metric = FROC().to("cuda")
    add_scans(metric, random_case(SEED), list(range(SCANS)))
    values = metric.compute()
    assert {value.device.type for value in (*values.values(), *metric.rows)} == {"cuda"}
    assert {name: value.item() for name, value in values.items()} == alone(list(range(SCANS)))


def test_empty_metric_gives_zero_and_pickles() -> None:
    assert FROC().compute()["froc"] == 0.0
    metric = FROC()
    add_scans(metric, random_case(SEED), [0, 1, 2])
    again = pickle.loads(pickle.dumps(metric))
    assert again.compute() == metric.compute()


def test_values_are_floats_for_the_logger() -> None:
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in FROC().compute().values())


@pytest.mark.ddp
@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_number_of_processes_gives_the_same(number: int, tmp_path: Path) -> None:
    printed = printed_by_ranks(Path(__file__).with_name("froc_on_rank.py"), tmp_path / "meeting", number)
    assert len(set(printed)) == 1
    together = {name: values for line in printed[0].splitlines() for name, values in json.loads(line).items()}
    of_all = alone(list(range(SCANS)))
    assert 0 < of_all["froc"] < 1
    assert together == {name: alone([]) if name == "nothing" else of_all for name in shares(number)}
