"""Validation in two processes: each scan counts once, and only one process writes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.metrics.froc import FROC
from tests import warm
from tests.balls import write_balls
from tests.metrics.cases import random_case
from tests.metrics.froc_on_rank import add_scans
from tests.operations.validated_on_ranks import SEEDS
from tests.ranks import ENVIRONMENT, finished

pytestmark = pytest.mark.ddp

TRAIN = (
    "experiment=demo",
    "trainer=ddp",
    "trainer.devices=2",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "sampler.patches_per_epoch=16",
    "datamodule.batch_size=4",
    "datamodule.patch_voxels=32",
    "logger=both",
    "+callbacks.watched._target_=tests.watched_scans.WatchedScans",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_balls(tmp_path / "the [cache]", 12)
    return tmp_path


def train(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Train in the folder; give what each rank's validation was."""
    ended = warm.run(
        "train", "cache=the [cache]", "paths.run=run (1)", *TRAIN, *arguments,
        folder=folder, environment=ENVIRONMENT, before=warm.FORKED_RANKS, timeout_s=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"watched-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def test_each_validation_scan_is_searched_by_one_rank_and_counts_once(folder: Path) -> None:
    first, second = train(folder, "data.test_subsets=[]", "data.validation_fraction=0.42")
    validation = read_scan_ids(folder / "run (1)" / "splits" / "validation.csv")
    assert len(validation) == 5
    assert first == {"searched": validation[::2], "counted": 5}
    assert second == {"searched": validation[1::2], "counted": 5}
    files = {path.relative_to(folder / "run (1)") for path in (folder / "run (1)").rglob("*") if path.is_file()}
    logs = {path.name for path in files if path.suffix == ".log" and len(path.parts) == 1}
    # All is written once, and by the first rank.
    assert logs == {"train.log"}
    pictures = {"sampling.csv", "sampling.png", "augmentation.png"}
    folders = {".hydra", "checkpoints", "metrics", "splits", "validation", "wandb"}
    assert {path.parts[0] for path in files} == {*folders, *pictures, *logs, "run.json"}
    record = json.loads((folder / "run (1)" / "run.json").read_text(encoding="utf-8"))
    assert [(start["status"], start["processes"]) for start in record["starts"]] == [("finished", 2)]
    assert [path.name for path in (folder / "run (1)" / "metrics").iterdir()] == ["version_0"]
    assert len(list((folder / "run (1)" / "wandb").glob("*run-*-*"))) == 1


def test_the_report_shows_the_scans_of_all_ranks(folder: Path) -> None:
    # Without a mark each nodule is missed.
    first, second = train(
        folder, "data.test_subsets=[]", "data.validation_fraction=0.42", "++inference.min_probability=1.1"
    )
    validation = folder / "run (1)" / "validation"
    assert json.loads((validation / "last" / "metrics.json").read_text(encoding="utf-8"))["counts"]["scans"] == 5
    page = (validation / "best" / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r"\d+\. [\d.]+ mm</\w+>(scan\d+)<", page)
    catalog = Catalog.open(folder / "the [cache]")
    for rank in (first, second):
        with_nodule = [scan_id for scan_id in rank["searched"] if len(catalog.nodules(scan_id))]
        assert with_nodule
        assert [shown.count(scan_id) for scan_id in with_nodule] == [1] * len(with_nodule)


def test_fewer_validation_scans_than_ranks_neither_hang_nor_count_twice(folder: Path) -> None:
    # The third subset has no nodules, and of the eight other scans a tenth is one.
    first, second = train(folder, "data.test_subsets=[2]", "data.validation_fraction=0.1")
    validation = read_scan_ids(folder / "run (1)" / "splits" / "validation.csv")
    assert len(validation) == 1
    assert first == second == {"searched": validation, "counted": 1}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_logged_score_is_the_same_to_the_last_digit_on_any_number_of_ranks(number: int) -> None:
    script = Path(__file__).with_name("validated_on_ranks.py")
    printed = finished([sys.executable, str(script), str(number)])
    values = [json.loads(line) for line in printed.splitlines()]
    assert values == [{str(seed): logged_alone(seed) for seed in SEEDS}] * number


def logged_alone(seed: int) -> dict[str, float]:
    case, metric = random_case(seed), FROC()
    add_scans(metric, case, list(range(len(case.scan_ids))))
    values = {f"val/{name}": value.item() for name, value in metric.compute().items()}
    score = np.float32(values["val/froc"])
    assert (score + score + score) / np.float32(3) != score
    return values
