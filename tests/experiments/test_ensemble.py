"""The study of five seeds: its table, and its script on searches that are there already."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from experiments.ensemble.score import Score, table
from nodule_lightning.io.tables import write_candidates, write_findings, write_scan_ids
from nodule_lightning.metrics.functional.comparison import compare
from nodule_lightning.metrics.functional.protocol import Protocol
from nodule_lightning.structures import Candidates, Findings, Table

ROOT = Path(__file__).parent.parent.parent
SCANS = [f"scan{place:02d}" for place in range(12)]
ARM = "res_unet_narrow,centres,balanced,hard_mining,bank=0.0"


def nodules() -> Table[Findings]:
    return Table(np.array(SCANS), Findings(np.zeros((len(SCANS), 3)), np.full(len(SCANS), 8.0)))


def marks(found: slice) -> Table[Candidates]:
    """Find the nodules of some scans, and make a mistake of its own in each."""
    place = np.arange(len(SCANS))[found]
    centre = np.zeros((2 * len(place), 3))
    centre[len(place) :, 0] = 50.0 + 20.0 * (found.start or 0)
    probability = np.repeat([0.9, 0.5], len(place))
    return Table(np.array(SCANS)[np.tile(place, 2)], Candidates(centre, probability, np.full(len(probability), -1.0)))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_ensemble_is_laid_beside_the_mean_and_the_best_seed() -> None:
    few, many, all_of_them = (
        Score.of(compare(marks(found), nodules(), None, SCANS, Protocol.LUNA16)[0], bootstraps=200)
        for found in (slice(0, 6), slice(3, 12), slice(0, 12))
    )
    rows = [cells(line) for line in list(table({"seed=0": few, "seed=1": many}, {"fused": all_of_them}))[2:]]
    assert [row[:2] for row in rows] == [
        ["seed=0", "0.500"], ["seed=1 (best)", "0.750"], ["mean of the seeds", "0.625"], ["fused", "1.000"],
    ]  # fmt: skip
    assert rows[3][3].startswith("+0.375 (+")
    assert rows[3][5].startswith("+0.250 (+")
    assert float(rows[3][4]) < 0.05
    assert rows[2][3:] == ["", "", "", ""]


@pytest.mark.slow
def test_the_script_fuses_what_is_there_and_scores_it(tmp_path: Path) -> None:
    ablations, output = tmp_path / "ablations", tmp_path / "my, ensemble"
    write_findings(ablations / "phantom" / "annotations.csv", nodules())
    write_findings(ablations / "phantom" / "annotations_excluded.csv", nodules()[:0])
    (ablations / "cache").mkdir()
    (ablations / "cache" / "preparation.html").touch()
    for folder, seed, found in ((ablations, 0, slice(0, 6)), (output, 1, slice(3, 12)), (ablations, 2, slice(0, 12))):
        run = folder / "runs" / ARM / f"seed={seed}"
        for searched, here in (("test", found), ("mirrored", slice(0, 12))):
            write_candidates(run / searched / "submission.csv", marks(here))
            write_scan_ids(run / searched / "scans.csv", SCANS)
    paths = {"ABLATIONS": str(ablations), "OUTPUT": str(output), "SEEDS": "0 1 2"}
    environment = {**os.environ, **paths, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = [str(ROOT / "experiments" / "ensemble" / "run.sh")]
    ended = subprocess.run(script, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == 0, ended.stderr
    assert "nodule-train" not in ended.stdout
    assert "weighted fusion of 3 members in 12 scans" in ended.stdout
    rows = {cells(line)[0]: cells(line) for line in ended.stdout.splitlines() if line.startswith("|")}
    assert [rows[name][1] for name in ("seed=0", "seed=1", "seed=2 (best)")] == ["0.500", "0.750", "1.000"]
    assert rows["weighted mean"][1] == "1.000"
    # All nodules are marked by two of three at least, and no mistake is.
    assert rows["consensus of more than half"][1] == "1.000"
    assert rows["mean of the seeds, each searched mirrored"][1] == "1.000"
    assert rows["weighted mean of the mirrored searches"][1] == "1.000"
    (ablations / "cache" / "preparation.html").unlink()
    refused = subprocess.run(script, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert refused.returncode == 2
    assert "experiments.ablations" in refused.stderr


def test_the_experiment_names_its_folders_as_the_script_does() -> None:
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["experiment=ablation", "seed=7"], return_hydra_config=True)
    assert config.hydra.sweep.subdir == f"{ARM}/seed=7"
    assert f'arm="{ARM}"' in (ROOT / "experiments" / "ensemble" / "run.sh").read_text(encoding="utf-8")
