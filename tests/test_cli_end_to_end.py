"""The whole road through the console scripts, with paths that no shell user should type."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nodule_lightning.io.tables import read_candidates, read_scan_ids
from tests import warm

BIN = Path(sys.executable).parent
SMALL_PHANTOMS = (
    "phantom.matrix=96",
    "phantom.pixel_mm=[1.6,1.7]",
    "phantom.slice_mm=[2.5,3.0]",
    "phantom.body_scale=[0.4,0.42]",
    "phantom.nodule_counts=[0,0,1]",
    "++phantom.vessel_ends=30",
)
SMALL_TRAINING = (
    "experiment=demo",
    "logger=both",
    "trainer.check_val_every_n_epoch=1",
    "data.validation_fraction=0.4",
    "sampler.patches_per_epoch=8",
    "datamodule.batch_size=4",
    "datamodule.patch_voxels=32",
    "datamodule.workers=0",
    "++model.anchors.spacing_mm=2.0",
)


def run(folder: Path, command: str, *arguments: str) -> str:
    """Run the console script, with exactly the bytes that a shell hands over: no quotes for Hydra."""
    ended = subprocess.run(
        [BIN / f"nodule-{command}", *arguments], check=False, cwd=folder, capture_output=True, encoding="utf-8"
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def run_warm(folder: Path, command: str, *arguments: str) -> str:
    ended = warm.run(command, *arguments, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go the road once."""
    folder = tmp_path_factory.mktemp("My CT (1), [a=b] 肺 $x")
    run(folder, "phantom", "output=raw, 1", "scans=10", "workers=2", *SMALL_PHANTOMS)
    prepared = run(
        folder, "prepare", "data=luna16", "data.root=raw, 1", "cache=the [cache]", "workers=1",
        "preparation.spacing_mm=2", "++lungs.min_volume_l=0.05",
    )  # fmt: skip
    assert "10 scans prepared" in prepared
    return folder


@pytest.mark.slow
def test_the_whole_road(folder: Path) -> None:
    train = (
        "train",
        "cache=the [cache]",
        "paths.run=run (1)=肺",
        "++trainer.enable_progress_bar=true",
        *SMALL_TRAINING,
    )
    trained = run(folder, *train, "trainer.max_epochs=1")
    best = folder / "run (1)=肺" / "checkpoints" / "best.ckpt"
    assert "validation FROC: 0." in trained
    assert best.exists()
    splits = {name: read_scan_ids(best.parent.parent / "splits" / f"{name}.csv") for name in ("train", "validation")}
    assert not set(splits["train"]) & set(splits["validation"])
    run(folder, *train, "trainer.max_epochs=2", "resume=true")
    log = (best.parent.parent / "train.log").read_text(encoding="utf-8")
    assert "Restored all states" in log
    assert torch.load(best.with_name("last.ckpt"), weights_only=True)["epoch"] == 1

    test_csv = "scans=run (1)=肺/splits/test.csv"
    predicted = run(
        folder, "predict", "checkpoint=run (1)=肺/checkpoints/best.ckpt", "input=the [cache]", test_csv, "output=pre,d"
    )
    assert "probability" in predicted
    candidates = read_candidates(folder / "pre,d" / "submission.csv")
    assert set(candidates.scan_id.tolist()) <= set(read_scan_ids(folder / "run (1)=肺" / "splits" / "test.csv"))

    run(
        folder, "evaluate", "submission=pre,d/submission.csv", "annotations=raw, 1/annotations.csv",
        "excluded=raw, 1/annotations_excluded.csv", test_csv, "output=sc{o}re",
    )  # fmt: skip
    metrics = json.loads((folder / "sc{o}re" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["counts"]["scans"] == 2

    run(
        folder, "report", "submission=pre,d/submission.csv", "cache=the [cache]", test_csv, "root=raw, 1",
        "output=re'port",
    )  # fmt: skip
    assert {path.name for path in (folder / "re'port").iterdir()} == {
        "report.html", "froc.png", "sizes.png", "candidates.png", "lung_crop.png"
    }  # fmt: skip
    # Nothing but what was asked for: no outputs/, no .hydra, no log beside the data.
    assert {path.name for path in folder.iterdir()} == {
        "raw, 1", "the [cache]", "run (1)=肺", "pre,d", "sc{o}re", "re'port"
    }  # fmt: skip


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_score(folder: Path) -> None:
    train = ("train", "cache=the [cache]", *SMALL_TRAINING, "logger=csv", "trainer.max_epochs=1")
    outputs = [run_warm(folder, *train, f"paths.run=again{index}") for index in range(2)]
    scores = [output.splitlines()[-1] for output in outputs]
    assert scores[0].startswith("validation FROC:")
    assert scores[0] == scores[1]
    tables = [next((folder / f"again{index}").rglob("metrics.csv")).read_text(encoding="utf-8") for index in range(2)]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_each_job_of_a_sweep_has_a_run_of_its_own_and_no_path_reaches_wandb(folder: Path) -> None:
    train = ("train", "-m", "cache=the [cache]", *SMALL_TRAINING, "trainer.max_epochs=1", "optim.lr=0.001,0.002")
    run_warm(folder, *train, "paths.sweep=sweep, 1")
    runs = [sorted((folder / "sweep, 1" / job / "wandb").glob("offline-run-*")) for job in ("0", "1")]
    assert [len(found) for found in runs] == [1, 1]
    for path in (folder / "sweep, 1").rglob("wandb/offline-run-*/**/*"):
        if path.is_file() and path.parent.name != "logs":
            assert b"the [cache]" not in path.read_bytes()
    best = [folder / "sweep, 1" / job / "checkpoints" / "best.ckpt" for job in ("0", "1")]
    assert all(path.exists() for path in best)
