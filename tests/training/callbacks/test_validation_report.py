"""The report of a validation: what it shows, where it stands, and that it needs no particular logger."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.errors import InputError
from nodule_lightning.metrics.froc import FROC
from nodule_lightning.structures import Candidates, Entry, Findings
from nodule_lightning.training.callbacks.validation_report import ValidationReport, summarise_validation
from tests.balls import tiny_datamodule, tiny_module, write_balls
from tests.ranks import ENVIRONMENT

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
]
FILES = {"report.html", "froc.png", "sizes.png", "froc.csv", "metrics.json", "misses.csv", "false_positives.csv"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("cache"), 12)


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Entry], Candidates]], None]:
    """Replace what validation finds in a scan."""

    def replace(what: Callable[[Entry], Candidates]) -> None:
        monkeypatch.setattr("nodule_lightning.training.module.detect", lambda network, entry, inference: what(entry))

    return replace


def all_nodules(entry: Entry) -> Candidates:
    nodules = entry.labels.nodules
    return Candidates(nodules.centre_xyz_mm, np.full(len(nodules), 0.9), nodules.diameter_mm)


def a_corner(entry: Entry) -> Candidates:
    return Candidates(entry.grid.to_world(np.full((1, 3), 5.0)), np.array([0.75]), np.array([6.0]))


def fit(
    cache: Path, folder: Path, *callbacks: pl.Callback, epochs: int = 1, resume: Path | None = None, sanity: int = 0
) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        check_val_every_n_epoch=2 if sanity else 1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        num_sanity_val_steps=sanity,
        default_root_dir=folder,
    )
    trainer.fit(tiny_module(), datamodule=tiny_datamodule(cache, 4), ckpt_path=resume)
    return trainer


def score(folder: Path) -> float:
    mean: float = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["mean"]
    return mean


def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_reports_of_the_last_and_of_the_best_validation_stay(
    cache: Path, tmp_path: Path, finds: Callable[[Callable[[Entry], Candidates]], None]
) -> None:
    report = ValidationReport(tmp_path / "validation")
    saved = ModelCheckpoint(tmp_path, filename="saved")
    finds(all_nodules)
    trainer = fit(cache, tmp_path, report, saved)
    last, best = tmp_path / "validation" / "last", tmp_path / "validation" / "best"
    assert score(last) == score(best) == trainer.callback_metrics["val/froc"] == 1.0
    assert "No nodule is without a mark inside." in page(last)
    assert "No mark is a false positive." in page(last)
    before = page(best)

    # A second start, which knows the best score by its checkpoint alone, is worse.
    finds(a_corner)
    fit(cache, tmp_path, ValidationReport(tmp_path / "validation"), saved, epochs=2, resume=tmp_path / "saved.ckpt")
    assert score(last) == 0.0
    assert page(best) == before
    assert "epoch 2</h1>" in page(last)
    assert "p = 0.750, 6.0 mm" in page(last)
    datamodule = tiny_datamodule(cache)
    datamodule.setup("fit")
    missed = sum(len(datamodule.catalog.nodules(scan_id)) for scan_id in datamodule.split.validation)
    assert page(last).count('<figure><img src="data:image/jpeg') == missed + len(datamodule.split.validation)
    # However many validations there were.
    assert {path.name for path in last.iterdir()} == {path.name for path in best.iterdir()} == FILES


def test_a_sanity_check_is_no_validation(cache: Path, tmp_path: Path) -> None:
    fit(cache, tmp_path, ValidationReport(tmp_path / "validation"), sanity=2)
    assert list(tmp_path.iterdir()) == []


def test_a_nodule_counts_as_missed_where_the_score_does_not_see_its_mark(cache: Path) -> None:
    catalog = Catalog.open(cache)
    nodules = catalog.nodules("scan0")
    rng = np.random.default_rng(0)
    beside = rng.uniform(4, 8, (20, 3))
    centres = np.concatenate([catalog.entry("scan0").grid.to_world(beside), nodules.centre_xyz_mm])
    for place, missed in ((7, 0), (8, 0), (9, 1), (20, 1)):
        # So many false positives are more probable than the mark on the nodule.
        probability = np.append(np.linspace(0.9, 0.5, 20), 0.9 - (place - 0.5) * 0.4 / 19)
        marks = Candidates(centres, probability, np.full(21, -1.0))
        metric = FROC()
        metric.update(1, marks, nodules, Findings.empty())
        seen = summarise_validation(metric.scans(), ("other", "scan0"), catalog, 3)
        assert seen.result.counts.misses == 0
        assert len(seen.misses.cases) == missed, place
        assert len(seen.false_positives.cases) == 3
        assert [case.lines[0] for case in seen.false_positives.cases] == ["scan0"] * 3


def test_no_scan_at_all_gives_an_empty_report(cache: Path) -> None:
    seen = summarise_validation(FROC().scans(), (), Catalog.open(cache), 3)
    assert seen.result.mean == 0.0
    assert not seen.misses.cases
    assert not seen.false_positives.cases


def test_pictures_can_be_left_out(cache: Path) -> None:
    metric = FROC()
    metric.update(0, Candidates.empty(), Catalog.open(cache).nodules("scan0"), Findings.empty())
    seen = summarise_validation(metric.scans(), ("scan0",), Catalog.open(cache), 0)
    assert seen.result.counts.misses == 1
    assert not seen.misses.cases
    with pytest.raises(InputError, match="-1") as error:
        ValidationReport("folder", -1)
    assert error.value.key == "argument-invalid"


WITHOUT_WANDB = """
import sys
sys.modules["wandb"] = None  # its import fails, as where it is not installed
import warnings
warnings.simplefilter("ignore")
from pathlib import Path
import pytorch_lightning as pl
from nodule_lightning.training.callbacks.validation_report import ValidationReport
from tests.balls import tiny_datamodule, tiny_module
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", logger=pl.loggers.CSVLogger("run"), callbacks=[ValidationReport("run/validation")],
    enable_progress_bar=False, enable_checkpointing=False, use_distributed_sampler=False, num_sanity_val_steps=0,
)
trainer.fit(tiny_module(), datamodule=tiny_datamodule(Path(sys.argv[1]), 4))
"""


@pytest.mark.slow
def test_it_needs_no_wandb(cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_WANDB, str(cache)]
    ended = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, check=False, capture_output=True, encoding="utf-8", timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in (tmp_path / "run" / "validation" / "last").iterdir()} == FILES
    assert "val/sensitivity@0.125" in next((tmp_path / "run").rglob("metrics.csv")).read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_does_not_end_the_training(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="file"):
        trainer = fit(cache, tmp_path, ValidationReport(tmp_path / "file"))
    assert trainer.current_epoch == 1
