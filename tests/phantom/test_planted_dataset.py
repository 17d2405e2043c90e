"""Data sets of planted nodules: what is written, what is kept, what fails."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.scan_folders import find_scans
from nodule_lightning.io.tables import read_findings, write_findings
from nodule_lightning.phantom.dataset import write_scan
from nodule_lightning.phantom.planted_dataset import PlantedScan, PlantSettings, PlantSource, plant_dataset
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.preparation.layouts import Luna16
from nodule_lightning.structures import Failure, Findings, Scan, Table


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = PhantomSettings(
        matrix=160, pixel_mm=(2.1, 2.2), slice_mm=(2.5, 2.6), nodule_counts=(0, 0, 1), vessel_ends=60, noise_hu=(8, 12)
    )
    folder = tmp_path_factory.mktemp("raw")
    made = [make_phantom(settings, 2, index, trouble) for index, trouble in ((0, ""), (0, "flipped"))]
    for phantom in made:
        write_scan(folder, phantom.scan)
    for name, rows in (("annotations.csv", made[0].nodules), ("annotations_excluded.csv", made[0].excluded)):
        write_findings(folder / name, Table(np.full(len(rows), made[0].scan.scan_id), rows))
    return folder


def planted_scans(results: Iterable[PlantedScan | Failure]) -> list[PlantedScan]:
    return [scan for scan in results if isinstance(scan, PlantedScan)]


def test_a_planted_data_set_is_read_as_luna16(raw: Path, tmp_path: Path) -> None:
    settings = PlantSettings(diameters_mm=(5.0, 9.0, 12.0), copies=2, seed=4)
    source = PlantSource(raw, raw / "annotations.csv", raw / "annotations_excluded.csv")
    assert len(planted_scans(plant_dataset(source, tmp_path / "out", settings, truth=True))) == 4
    read = Luna16(tmp_path / "out")
    assert sorted(find_scans(tmp_path / "out")) == sorted(read.scans)
    assert sorted(read.scans) == sorted(
        f"{name}-planted-4-{copy}" for name in ("phantom-2-0000", "phantom-2-flipped-0000") for copy in (0, 1)
    )
    assert len(read.nodules) == 4 * 3 + 2 * 2
    excluded = read_findings(raw / "annotations_excluded.csv", sized=False)
    assert len(read.excluded) == 2 * len(excluded) > 0
    planted = read_findings(tmp_path / "out/planted.csv").by_scan()
    with (tmp_path / "out/planted.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} <= {"solid", "part_solid", "ground_glass"}
    assert {row["place"] for row in rows} <= {"free", "vessel", "pleura", "mediastinum"}
    for scan_id, findings in planted.items():
        assert findings.diameter_mm.tolist() == [5.0, 9.0, 12.0]
        before = read_scan(raw / f"{scan_id.split('-planted')[0]}.mhd")
        after = read_scan(read.scans[scan_id])
        assert after.grid == before.grid
        labels = read_scan(tmp_path / "out/truth" / f"{scan_id}_nodules.nii.gz").hu
        for number in (1, 2, 3):
            assert np.mean(after.hu[labels == number].astype(float) - before.hu[labels == number]) > 80
    both = [planted[f"phantom-2-0000-planted-4-{copy}"].centre_xyz_mm for copy in (0, 1)]
    assert not np.allclose(both[0], both[1])


def test_nothing_is_planted_on_excluded_findings(raw: Path, tmp_path: Path) -> None:
    scan = PlantSource(raw / "phantom-2-0000.mhd")
    (before,) = planted_scans(plant_dataset(scan, tmp_path / "before", PlantSettings(nodules=3)))
    places = before.nodules.centre_xyz_mm
    excluded = Table(np.full(3, "phantom-2-0000"), Findings(places, np.full(3, -1.0)))
    write_findings(tmp_path / "excluded.csv", excluded)
    source = PlantSource(raw / "phantom-2-0000.mhd", excluded=tmp_path / "excluded.csv")
    (after,) = planted_scans(plant_dataset(source, tmp_path / "after", PlantSettings(nodules=3)))
    away = np.linalg.norm(after.nodules.centre_xyz_mm[:, None] - places, axis=2)
    assert (away > 5 + after.nodules.diameter_mm[:, None] / 2).all()


def test_planting_one_scan_gives_what_planting_all_gives(raw: Path, tmp_path: Path) -> None:
    settings = PlantSettings(nodules=2)
    list(plant_dataset(PlantSource(raw), tmp_path / "all", settings))
    list(plant_dataset(PlantSource(raw / "phantom-2-flipped-0000.mhd"), tmp_path / "one", settings))
    name = "subset0/phantom-2-flipped-0000-planted-0-0.raw"
    assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.real_data
def test_in_a_real_scan_a_nodule_is_as_noisy_and_as_sharp_as_its_surroundings(real_data: Path, tmp_path: Path) -> None:
    settings = PlantSettings(diameters_mm=(6.0, 8.0, 12.0, 20.0), kinds=(1, 0, 0), places=(1, 0, 0, 0))
    path = next((real_data / "lidc/subset3").glob("*.mhd"))
    (written,) = planted_scans(plant_dataset(PlantSource(path), tmp_path, settings, truth=True))
    scan = read_scan(tmp_path / f"subset0/{written.scan_id}.mhd")
    labels = read_scan(tmp_path / f"truth/{written.scan_id}_nodules.nii.gz").hu
    volume_mm3 = np.bincount(labels.ravel())[1:] * np.prod(scan.grid.spacing_zyx_mm)
    assert np.allclose(np.cbrt(6 / np.pi * volume_mm3), written.nodules.diameter_mm, rtol=0.08)
    before = read_scan(path)
    core = ndimage.binary_erosion(labels == 4, iterations=3)
    near = ndimage.binary_dilation(labels == 4, iterations=12) & ~ndimage.binary_dilation(labels == 4, iterations=4)
    parenchyma = before.hu[near & (before.hu < -800)]
    assert 0.5 < scan.hu[core].std() / (1.4826 * np.median(np.abs(parenchyma - np.median(parenchyma)))) < 2
    # The steepest slope of a real vessel's or wall's edge, and of the planted one's.
    slope = np.hypot(*np.gradient(scan.hu.astype(np.float32), axis=(1, 2)))
    rim = ndimage.binary_dilation(labels == 4, iterations=2) & ~ndimage.binary_erosion(labels == 4, iterations=2)
    lungs_rim = (before.hu > -600) & (before.hu < -200) & (labels == 0)
    ours, theirs = (np.percentile(slope[where & (scan.hu > -600) & (scan.hu < -200)], 90) for where in (rim, lungs_rim))
    assert 0.7 < ours / theirs < 1.4


def test_a_full_folder_is_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError) as error:
        list(plant_dataset(PlantSource(raw), tmp_path, PlantSettings()))
    assert error.value.key == "output-refused"
    assert str(tmp_path) in str(error.value)


def test_scans_that_fail_are_named_and_the_others_go_on(raw: Path, tmp_path: Path) -> None:
    tissue = np.full((72, 128, 128), 30, np.int16)
    write_scan(tmp_path / "in", Scan("bare", tissue, Grid(tissue.shape, (1.25, 0.7, 0.7), (0.0, 0.0, 0.0))))
    (tmp_path / "in/cut.nii.gz").write_bytes(b"cut")
    alone = list(plant_dataset(PlantSource(tmp_path / "in"), tmp_path / "none", PlantSettings()))
    assert not planted_scans(alone)
    assert not (tmp_path / "none").exists()
    for path in raw.glob("phantom-2-flipped-0000.*"):
        shutil.copy(path, tmp_path / "in")
    results = list(plant_dataset(PlantSource(tmp_path / "in"), tmp_path / "out", PlantSettings(nodules=2, copies=2)))
    failures = {result.scan_id: result.reason for result in results if isinstance(result, Failure)}
    assert sorted(failures) == ["bare", "cut"]
    assert all(str(tmp_path / "in" / scan_id) in reason for scan_id, reason in failures.items())
    assert len(planted_scans(results)) == len(Luna16(tmp_path / "out").scans) == 2
    assert len(read_findings(tmp_path / "out/planted.csv")) == 4


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"nodules": 0}, "not 0"),
        ({"nodules": 256}, "256"),
        ({"copies": 0}, "and 0"),
        ({"diameters_mm": (900.0,)}, "900.0"),
        ({"diameters_mm": ()}, "not 0"),
        ({"source": "lidc"}, "'lidc'"),
        ({"kinds": (1, 0)}, "[1, 0]"),
        ({"kinds": (1, -1, 1)}, "[1, -1, 1]"),
        ({"places": (0, 0, 0, 0)}, "[0, 0, 0, 0]"),
        ({"seed": -1}, "-1"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        PlantSettings(**values)
    assert error.value.key == "argument-invalid"
    assert named in str(error.value)
