"""How long and how much memory preparing a scan takes, imports apart: `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from tests.chest import write_image

LIMIT_S, LIMIT_GB = 3.0, 1.5
PREPARE = """
import json, resource, sys, tempfile, time
from pathlib import Path
import PIL.Image, scipy.spatial, SimpleITK
from nodule_lightning.data.cache import Labels
from nodule_lightning.data.filling import Task, prepare_task
from nodule_lightning.io import readers
from nodule_lightning.prepare import PreparationSettings
from nodule_lightning.report import crop_picture
seconds = []
for _ in range(3):
    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        outcome = prepare_task(Task("scan", Path(sys.argv[1]), Labels()), Path(cache), PreparationSettings())
        seconds.append(time.perf_counter() - begun)
        assert outcome.state == "prepared", outcome.reason
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": min(seconds), "gigabytes": peak}))
"""


def assert_quick_and_small(path: Path) -> None:
    command = [sys.executable, "-c", PREPARE, str(path)]
    used = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"\n{path.name}: {used['seconds']:.2f} s, at most {used['gigabytes']:.2f} GB with the imports")
    assert used["seconds"] < LIMIT_S
    assert used["gigabytes"] < LIMIT_GB


@pytest.mark.slow
@pytest.mark.real_data
def test_bench_prepare_real_scans(real_data: Path) -> None:
    for path in sorted((real_data / "lidc").glob("subset*/*.mhd")):
        assert_quick_and_small(path)


@pytest.mark.slow
def test_bench_prepare_phantom_of_300_slices(tmp_path: Path) -> None:
    settings = PhantomSettings(pixel_mm=(0.7, 0.7), slice_mm=(0.85, 0.85), body_scale=(1.0, 1.0), vessel_ends=300)
    scan = make_phantom(settings, 0, 0).scan
    assert len(scan.hu) >= 290
    assert_quick_and_small(write_image(tmp_path / "phantom.mhd", scan.hu, scan.grid))
