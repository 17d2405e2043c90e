"""No scan of a test fold is read in training or in choosing the checkpoint, and every scan is tested by one fold."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from nodule_lightning.cache import catalog
from nodule_lightning.cache.catalog import Catalog, split_scans
from nodule_lightning.cache.entries import open_entry, update_labels, write_entry
from nodule_lightning.cli import folds, train
from nodule_lightning.io.tables import read_scan_ids
from nodule_lightning.preparation.prepare import prepare_scan
from nodule_lightning.structures import Entry, Findings, Labels
from tests.chest import NODULE_XYZ_MM, draw_chest
from tests.commands import TINY, Runner

# Lightning warns of SLURM's being installed where a training is not started by it.
pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")

FOLDS = ("0", "1", "2")
TRAINING = (
    "experiment=luna16", "data.fold=0", "data.validation_fraction=0.4", "logger=csv", "model=res_unet_narrow",
    *(f"curriculum.stages.{stage}.epochs=1" for stage in ("plain", "mined", "weighted")),
    "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "datamodule.batch_size=4", "datamodule.patch_voxels=32", "datamodule.workers=0",
    "callbacks.scan_mining.every_n_epochs=1", "++model.anchors.spacing_mm=4.0",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Write two scans with a nodule and two without for each subset."""
    entry = prepare_scan(draw_chest(), TINY)
    for subset in FOLDS:
        for place in range(4):
            found = Findings(NODULE_XYZ_MM[None], np.array([12.0])) if place < 2 else Findings.empty()
            scan_id = f"scan-{subset}{place}"
            write_entry(tmp_path / "cache", replace(entry, scan_id=scan_id, labels=Labels(subset, found)))
    return tmp_path / "cache"


def test_the_subsets_are_the_folds_and_scans_without_nodules_are_in_them(cache: Path) -> None:
    there = Catalog.open(cache)
    tested: list[str] = []
    for fold in FOLDS:
        with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
            config = compose("train", ["experiment=luna16", f"data.fold={fold}", "cache=unused"])
        subsets, fraction = list(config.datamodule.test_subsets), config.datamodule.validation_fraction
        split = split_scans(there, subsets, fraction, seed=0)
        assert split.test == tuple(f"scan-{fold}{place}" for place in range(4))
        assert sorted((*split.train, *split.validation, *split.test)) == list(there.scan_ids)
        assert split.validation
        tested += split.test
    assert sorted(tested) == list(there.scan_ids)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    values = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    assert isinstance(values, dict)
    return values


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_no_test_scan_is_read_in_training_or_in_choosing(
    run: Runner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[str] = set()

    def noted(folder: Path, scan_id: str) -> Entry:
        opened.add(scan_id)
        return open_entry(folder, scan_id)

    monkeypatch.setattr(catalog, "open_entry", noted)
    ended = run(train.main, *TRAINING, f"cache={cache}", "paths.run=whole")
    assert ended.code == 0, ended.error
    test = set(read_scan_ids(Path("whole/splits/test.csv")))
    assert test == {f"scan-0{place}" for place in range(4)}
    assert opened == {f"scan-{fold}{place}" for fold in "12" for place in range(4)}

    # With test scans that cannot be read, and whose nodules lie elsewhere, the same is learnt and chosen, to the bit.
    torn = Path(shutil.copytree(cache, "torn"))
    for scan_id in test:
        for name in ("ct.npy", "lung.npy"):
            (torn / "scans" / scan_id / name).write_bytes(b"torn")
        elsewhere = Findings(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([30.0, 3.0]))
        update_labels(torn, scan_id, Labels("0", elsewhere, elsewhere))
    again = run(train.main, *TRAINING, f"cache={torn}", "paths.run=blind")
    assert again.code == 0, again.error
    for name in ("best", "last"):
        first, second = weights(Path("whole"), name), weights(Path("blind"), name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)

    # The like of a training or validation scan is noticed.
    for part in ("train", "validation"):
        scan_id = read_scan_ids(Path("whole/splits") / f"{part}.csv")[0]
        shutil.copytree(torn, part)
        (Path(part) / "scans" / scan_id / "ct.npy").write_bytes(b"torn")
        assert scan_id in run(train.main, *TRAINING, f"cache={part}", f"paths.run=without_{part}").line()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_sweep_over_the_folds_and_one_command_give_the_pooled_score(run: Runner, cache: Path) -> None:
    short = [*TRAINING, "curriculum=single", "trainer.max_epochs=1", "sampler.patches_per_epoch=8"]
    short = [text for text in short if text != "data.fold=0" and not text.startswith("curriculum.stages")]
    trained = run(train.main, "-m", *short, f"cache={cache}", "data.fold=range(3)", "paths.sweep=sweep")
    assert trained.code == 0, trained.error
    ended = run(folds.main, "runs=sweep", f"cache={cache}", "output=pooled", "bootstraps=10", "+predict.device=cpu")
    assert ended.code == 0, ended.error
    assert read_scan_ids(Path("pooled/scans.csv")) == list(Catalog.open(cache).scan_ids)
    counts = json.loads(Path("pooled/metrics.json").read_text(encoding="utf-8"))["counts"]
    assert (counts["scans"], counts["nodules"]) == (12, 6)
    assert Path("pooled/report/report.html").exists()
