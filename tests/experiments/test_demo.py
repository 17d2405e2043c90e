"""The demo as a newcomer runs it: it learns, and its phantoms are no giveaway."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.cache.catalog import Catalog
from nodule_lightning.io.tables import read_scan_ids

ROOT = Path(__file__).parent.parent.parent
LEAST_FROC, MOST_BLOB_FROC = 0.70, 0.40


@pytest.mark.slow
def test_the_demo_learns_what_a_blob_detector_cannot(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    commands = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "OUTPUT": str(output), "SEED": "0"}
    subprocess.run([ROOT / "experiments" / "demo" / "run.sh"], env=environment, check=True)
    assert json.loads((output / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["mean"] >= LEAST_FROC
    assert {path.name for path in (output / "report").iterdir()} >= {"report.html", "froc.png", "lung_crop.png"}

    sets = {
        name: read_scan_ids(output / "train" / "splits" / f"{name}.csv") for name in ("train", "validation", "test")
    }
    assert len({*sets["train"], *sets["validation"], *sets["test"]}) == sum(map(len, sets.values()))
    catalog = Catalog.open(output / "cache")
    diameters_mm = np.concatenate([catalog.nodules(scan_id).diameter_mm for scan_id in sets["test"]])
    assert len(sets["test"]) >= 16
    assert len(diameters_mm) >= 30
    assert np.mean(diameters_mm < 6) >= 0.5

    script = ROOT / "experiments" / "demo" / "blob_baseline.py"
    printed = subprocess.run([sys.executable, script, output], check=True, capture_output=True, encoding="utf-8").stdout
    best = float(printed.splitlines()[-1].split()[1])
    assert 0 < best <= MOST_BLOB_FROC
