"""Mining within a training: what is found is drawn in the next epoch, by every worker and on every rank."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from nodule_lightning.errors import InputError
from nodule_lightning.training.callbacks.scan_mining import ScanMining
from nodule_lightning.training.callbacks.weight_average import WeightAverage, averaged_weights
from nodule_lightning.training.module import NoduleDetector
from tests.ranks import ENVIRONMENT
from tests.training.mined_run import EPOCHS, SENTINEL_ZYX, Watched, train, write_cache

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]

Losses = list[tuple[str, float]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_search(monkeypatch: pytest.MonkeyPatch) -> None:
    # The run puts another there.
    monkeypatch.setattr("nodule_lightning.training.callbacks.scan_mining.detect", None)


def require_mined(ranks: list[Watched]) -> None:
    """Check a run of the ranks."""
    scans = ranks[0].scans
    assert "scan0" in scans
    for epoch in range(EPOCHS):
        last = epoch == EPOCHS - 1
        # Level 3: the ranks share the scans, and all get the sentinel, which is all that is wrong.
        searched = [scan for rank in ranks for scan in rank.searched[epoch]]
        assert sorted(searched) == ([] if last else sorted(scans))
        for rank in ranks:
            assert rank.bank[epoch] == [pytest.approx(SENTINEL_ZYX)]
        # Level 2: of all ranks' patches, those with the highest loss come back, on all ranks.
        losses: Losses = [pair for rank in ranks for pair in rank.losses[epoch]]
        hardest = [scan for scan, _ in sorted(losses, key=lambda pair: -pair[1])[:8]]
        for rank in ranks:
            assert rank.hardest[epoch] == hardest
            assert rank.returned[epoch] == (8 if epoch else 0)
    # Half of 24 draws are negatives, and all of those are of the bank, once there is one.
    assert sum(sum(rank.shown[0]) for rank in ranks) < 12
    for epoch in range(1, EPOCHS):
        assert sum(sum(rank.shown[epoch]) for rank in ranks) >= 12
        for rank in ranks:
            # The two workers take turns.
            assert sum(rank.shown[epoch][::2]) >= 1
            assert sum(rank.shown[epoch][1::2]) >= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_mined_is_drawn_in_the_next_epoch_also_by_workers_that_live_on(cache: Path, workers: int) -> None:
    require_mined([train(cache, workers).watched])


class Lent(pl.Callback):
    """Notes the weights after each epoch, as they are and averaged."""

    def __init__(self) -> None:
        self.raw: list[Tensor] = []
        self.averaged: list[Tensor] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, NoduleDetector)
        weight = pl_module.network.get_parameter("head.output.weight")
        self.raw.append(weight.detach().clone())
        with averaged_weights(trainer, pl_module):
            self.averaged.append(weight.detach().clone())


def test_the_averaged_weights_search_and_training_goes_on_from_the_others(cache: Path) -> None:
    lent = Lent()
    watcher = train(cache, 0, 1, WeightAverage(), lent)
    scans = len(watcher.watched.scans)
    for epoch in range(EPOCHS - 1):
        assert not torch.equal(lent.raw[epoch], lent.averaged[epoch])
        for weight in watcher.weights[epoch * scans : (epoch + 1) * scans]:
            assert torch.equal(weight, lent.averaged[epoch])


@pytest.mark.ddp
def test_what_is_mined_is_drawn_on_every_rank(cache: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("mined_run.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(cache), str(tmp_path)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    require_mined([Watched(**json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))) for rank in (0, 1)])


@pytest.mark.parametrize("arguments", [(0, 1, 0.1), (1, 0, 0.1), (1, 1, 0.0), (1, 1, 1.1)])
def test_mining_that_makes_no_sense_is_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(InputError) as error:
        ScanMining(*arguments)
    assert error.value.key == "argument-invalid"
    for value in arguments:
        assert str(value) in str(error.value)
