"""Both stages through the commands: search, learn from what was found, search with both."""

import csv
import json
from hashlib import sha256
from pathlib import Path

import pytest

from nodule_lightning.io.tables import read_candidates
from nodule_lightning.training.checkpoint import read_checkpoint
from tests.commands import write_cache, write_checkpoint
from tests.test_cli_end_to_end import run_warm


@pytest.mark.slow
def test_both_stages_in_one_go(tmp_path: Path) -> None:
    write_cache(tmp_path / "the [cache]", ["one", "three", "two"])
    write_checkpoint(tmp_path / "detector.ckpt")
    search = ["predict", "checkpoint=detector.ckpt", "input=the [cache]"]
    run_warm(tmp_path, *search, "output=found, 1")
    train = [
        "train", "experiment=reducer", "cache=the [cache]", "candidates=found, 1/submission.csv",
        "data.test_subsets=[0]", "data.validation_fraction=0.5", "+classifier.spacing_mm=4.0", "paths.run=run (1)",
        "datamodule.batch_size=4", "datamodule.patches_per_epoch=8", "datamodule.patch_voxels=16", "logger=csv",
        "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1",
    ]  # fmt: skip
    said = run_warm(tmp_path, *train)
    assert "best checkpoint: " in said
    record = json.loads((tmp_path / "run (1)/run.json").read_text(encoding="utf-8"))
    learnt_from = sha256((tmp_path / "found, 1/submission.csv").read_bytes()).hexdigest()
    assert record["candidates"] == {"sha256": learnt_from}
    about = read_checkpoint(tmp_path / "run (1)/checkpoints/last.ckpt")["nodule_lightning"]
    assert about["model"]["candidates"] == {"sha256": learnt_from}
    resumed = run_warm(tmp_path, *train, "resume=true", "trainer.max_epochs=3")
    assert "best checkpoint: " in resumed
    with (tmp_path / "run (1)/metrics/version_0/metrics.csv").open(encoding="utf-8", newline="") as file:
        scored = [row for row in csv.DictReader(file) if row["val/froc"]]
    assert len(scored) == 2
    assert {"val/froc_detector", "val/froc_mean"} <= set(scored[0])
    assert (tmp_path / "run (1)/validation/last/report.html").is_file()
    settings = (tmp_path / "run (1)/metrics/version_0/hparams.yaml").read_text(encoding="utf-8")
    assert "submission.csv" not in settings
    assert "positive_share" in settings
    run_warm(tmp_path, *search, "output=both", "reducer=run (1)/checkpoints/best.ckpt")
    before, after = (read_candidates(tmp_path / name / "submission.csv") for name in ("found, 1", "both"))
    assert sorted(map(tuple, before.rows.centre_xyz_mm)) == sorted(map(tuple, after.rows.centre_xyz_mm))
    assert sorted(before.rows.probability) != sorted(after.rows.probability)
