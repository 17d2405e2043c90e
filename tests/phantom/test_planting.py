"""Planted nodules: where and as large as they are said to be, no sharper or smoother than the scan around them."""

import csv
import shutil
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nodule_lightning.data.layouts import Luna16
from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import find_scans, read_scan
from nodule_lightning.io.tables import read_findings, write_findings
from nodule_lightning.phantom.dataset import write_scan
from nodule_lightning.phantom.nodules import Nodule
from nodule_lightning.phantom.planted_dataset import FailedScan, PlantedScan, PlantSettings, PlantSource, plant_dataset
from nodule_lightning.phantom.planting import Planted, plant_nodules
from nodule_lightning.phantom.scan import make_phantom
from nodule_lightning.phantom.scan_quality import ScanQuality
from nodule_lightning.phantom.settings import PhantomSettings
from nodule_lightning.phantom.trouble import flip_axes
from nodule_lightning.phantom.truth import Phantom
from nodule_lightning.structures import Findings, Scan, Table

SPACING_MM = (1.25, 0.7, 0.7)


def ball(grid: Grid, centre_xyz_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Give how far each voxel lies inside a ball, in mm."""
    index = np.indices(grid.shape).reshape(3, -1).T.astype(float)
    away = np.linalg.norm(grid.to_world(index) - centre_xyz_mm, axis=1).reshape(grid.shape)
    inside: np.ndarray = radius_mm - away
    return inside


@cache
def chamber(noise_hu: float = 20.0, blur_mm: float = 0.5, slice_mm: float = 1.25) -> tuple[Scan, np.ndarray]:
    """Give a block of tissue around one large ball of lung, with noise and blur that are known."""
    shape = (int(90 / slice_mm), 128, 128)
    grid = Grid(shape, (slice_mm, 0.7, 0.7), (-45.0, -44.8, -45.0))
    depth = ball(grid, np.array([0.0, 0.0, 0.0]), 36.0)
    hu = np.where(depth > 0, -850.0, 40.0)
    blurred = ndimage.gaussian_filter(hu, (0, blur_mm / 0.7, blur_mm / 0.7))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(shape), (0, 0.6, 0.6))
    blurred += noise / noise.std() * noise_hu
    return Scan("chamber", np.rint(blurred).astype(np.int16), grid), depth > 0


def plant(*nodules: Nodule, seed: int = 0, scan: Scan | None = None) -> Planted:
    own, lungs = chamber()
    return plant_nodules(scan or own, lungs, nodules, np.random.default_rng(seed))


@pytest.mark.parametrize("diameter_mm", [4.0, 8.0, 16.0])
@pytest.mark.parametrize("slice_mm", [0.7, 1.25, 2.5])
def test_a_planted_nodule_has_its_size_and_place(diameter_mm: float, slice_mm: float) -> None:
    scan, lungs = chamber(slice_mm=slice_mm)
    nodule = Nodule(diameter_mm, "solid", "free", 0.08)
    planted = plant_nodules(scan, lungs, [nodule], np.random.default_rng(1))
    added = (planted.scan.hu.astype(float) - scan.hu) / 880
    voxel_mm3 = np.prod(scan.grid.spacing_zyx_mm)
    assert added.sum() * voxel_mm3 == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.16)
    middle = scan.grid.to_world((np.argwhere(added > 0.3) * 1.0).mean(axis=0)[None])[0]
    assert np.linalg.norm(middle - planted.nodules.centre_xyz_mm[0]) < 0.5 + 0.06 * diameter_mm
    labelled_mm3 = np.count_nonzero(planted.labels) * voxel_mm3
    assert labelled_mm3 == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.2, abs=float(12 * voxel_mm3))


def test_nothing_but_the_nodule_changes() -> None:
    scan, _ = chamber()
    planted = plant(Nodule(10.0, "solid", "free", 0.08))
    changed = planted.scan.hu != scan.hu
    assert (ball(scan.grid, planted.nodules.centre_xyz_mm[0], 0.0)[changed] > -5 * 2.5).all()
    assert np.count_nonzero(changed) > 100
    assert planted.scan.grid == scan.grid
    assert planted.scan.scan_id == scan.scan_id


@pytest.mark.parametrize("blur_mm", [0.4, 0.7, 1.0])
def test_blur_is_measured(blur_mm: float) -> None:
    scan, lungs = chamber(noise_hu=8.0, blur_mm=blur_mm)
    assert ScanQuality.measure(scan, lungs).blur_mm == pytest.approx(blur_mm, abs=0.2)


def test_a_nodule_is_as_blurred_as_the_scan() -> None:
    widths = []
    for blur_mm in (0.4, 1.1):
        scan, lungs = chamber(noise_hu=2.0, blur_mm=blur_mm)
        planted = plant_nodules(scan, lungs, [Nodule(16.0, "solid", "free", 0.0)], np.random.default_rng(3))
        z = int(np.rint(scan.grid.to_index(planted.nodules.centre_xyz_mm)[0, 0]))
        plane = planted.scan.hu[z].astype(float)
        steepest = np.hypot(*np.gradient(plane, 0.7))
        around = ball(scan.grid, planted.nodules.centre_xyz_mm[0], 8.0)[z]
        widths.append(880 / steepest[np.abs(around) < 2].max())
    assert widths[1] > 1.4 * widths[0]


@pytest.mark.parametrize("noise_hu", [10.0, 40.0])
def test_noise_in_a_nodule_is_that_of_the_scan(noise_hu: float) -> None:
    scan, lungs = chamber(noise_hu=noise_hu)
    spreads, grains = [], []
    for seed in range(4):
        planted = plant_nodules(scan, lungs, [Nodule(20.0, "solid", "free", 0.0)], np.random.default_rng(seed))
        core = ball(scan.grid, planted.nodules.centre_xyz_mm[0], 7.0) > 0
        values = planted.scan.hu.astype(float)
        spreads.append(values[core].std())
        step = np.diff(values, axis=2)[:, :, :][core[:, :, 1:] & core[:, :, :-1]]
        grains.append(step.std() / values[core].std())
    expected = np.diff(scan.hu.astype(float), axis=2)[:, :8].std() / scan.hu[:, :8].std()
    assert np.mean(spreads) == pytest.approx(noise_hu, rel=0.2)
    # White noise would have 1.41 here.
    assert np.mean(grains) == pytest.approx(expected, rel=0.15)


def test_partial_volume_follows_the_slice_thickness() -> None:
    half = []
    for slice_mm in (0.7, 5.0):
        scan, lungs = chamber(noise_hu=1.0, slice_mm=slice_mm)
        planted = plant_nodules(scan, lungs, [Nodule(6.0, "solid", "free", 0.0)], np.random.default_rng(0))
        half.append(planted.scan.hu[planted.scan.hu != scan.hu].max())
    assert half[0] > -100
    assert half[1] <= half[0]
    scan, lungs = chamber(noise_hu=1.0, slice_mm=5.0)
    small = plant_nodules(scan, lungs, [Nodule(3.0, "solid", "free", 0.0)], np.random.default_rng(0))
    assert small.scan.hu[small.labels > 0].max() < -150


def test_denser_vessels_and_walls_stay() -> None:
    scan, lungs = chamber(noise_hu=3.0)
    hu = scan.hu.copy()
    hu[:, 60:66, 60:66] = 180
    vessel = Scan("vessel", hu, scan.grid)
    planted = plant_nodules(vessel, lungs, [Nodule(12.0, "ground_glass", "vessel", 0.0)], np.random.default_rng(0))
    assert (planted.scan.hu[:, 62:64, 62:64] > 160).all()
    assert np.count_nonzero(planted.scan.hu != hu) > 200


@pytest.mark.parametrize("place", ["free", "vessel", "pleura"])
def test_nodules_lie_away_from_vessels_or_at_them_or_at_the_pleura(place: str) -> None:
    scan, lungs = chamber(noise_hu=3.0)
    hu = scan.hu.copy()
    index = np.indices(hu.shape)
    strands = lungs & (index[1] % 24 < 5) & (index[2] % 24 < 5)
    hu[strands] = 40
    nodules = [Nodule(6.0, "solid", place, 0.0)] * 5
    planted = plant_nodules(Scan("strands", hu, scan.grid), lungs, nodules, np.random.default_rng(0))
    inner = strands & (ball(scan.grid, np.zeros(3), 36.0) > 5)
    to_vessel = ndimage.distance_transform_edt(~inner, sampling=scan.grid.spacing_zyx_mm)
    at = tuple(np.rint(scan.grid.to_index(planted.nodules.centre_xyz_mm)).astype(int).T)
    wall_mm = 36.0 - np.linalg.norm(planted.nodules.centre_xyz_mm, axis=1)
    if place == "pleura":
        assert (wall_mm < 5).all()
        assert (wall_mm > -1.5).all()
    else:
        assert (wall_mm > 2).all()
        assert ((to_vessel[at] < 3.8) == (place == "vessel")).all()
    gaps = np.linalg.norm(planted.nodules.centre_xyz_mm[:, None] - planted.nodules.centre_xyz_mm, axis=2)
    assert gaps[~np.eye(5, dtype=bool)].min() > 6 + 3


def test_any_grid_gives_the_same_nodule() -> None:
    scan, lungs = chamber()
    blank = Findings.empty()
    made = Phantom(scan, blank, blank, lungs, np.zeros(lungs.shape, dtype=np.uint8))
    turned = flip_axes(made, (True, False, True))
    nodule = Nodule(12.0, "solid", "free", 0.3)
    for one in (made, turned):
        planted = plant_nodules(one.scan, one.lungs, [nodule], np.random.default_rng(5))
        added = planted.scan.hu.astype(float) - one.scan.hu
        middle = one.scan.grid.to_world(np.argwhere(added > 300).astype(float)).mean(axis=0)
        assert np.linalg.norm(middle - planted.nodules.centre_xyz_mm[0]) < 1.0
        assert added.sum() / 880 * 1.25 * 0.7**2 == pytest.approx(np.pi / 6 * 12**3, rel=0.15)


def test_same_seed_same_bytes_and_the_scan_is_left_alone() -> None:
    scan, _ = chamber()
    before = scan.hu.copy()
    nodules = [Nodule(6.0, "solid", "free", 0.1), Nodule(9.0, "part_solid", "pleura", 0.2)]
    first, again, other = plant(*nodules), plant(*nodules), plant(*nodules, seed=1)
    assert np.array_equal(first.scan.hu, again.scan.hu)
    assert not np.array_equal(first.scan.hu, other.scan.hu)
    assert np.array_equal(scan.hu, before)
    assert first.nodules.diameter_mm.tolist() == [6.0, 9.0]


def test_nothing_is_planted_on_what_is_known() -> None:
    scan, lungs = chamber()
    known = Findings(np.array([[0.0, 0.0, 0.0]]), np.array([40.0]))
    planted = plant_nodules(scan, lungs, [Nodule(5.0, "solid", "free", 0.0)] * 4, np.random.default_rng(0), known)
    assert (np.linalg.norm(planted.nodules.centre_xyz_mm, axis=1) > 20 + 2.5 + 3).all()


def test_nodules_never_overlap_and_full_lungs_are_said_to_be_full() -> None:
    scan, lungs = chamber()
    generator = np.random.default_rng(0)
    planted = plant_nodules(scan, lungs, [Nodule(28.0, "solid", "free", 0.0)] * 3, generator).nodules
    apart = np.linalg.norm(planted.centre_xyz_mm[:, None] - planted.centre_xyz_mm, axis=2)
    assert apart[~np.eye(3, dtype=bool)].min() >= 28
    with pytest.raises(InputError, match=r"no room left for a nodule of 40 mm .*: plant fewer or smaller nodules"):
        plant_nodules(scan, lungs, [Nodule(40.0, "solid", "free", 0.0)] * 3, generator)


def test_empty_and_impossible_wishes() -> None:
    scan, lungs = chamber()
    untouched = plant()
    assert np.array_equal(untouched.scan.hu, scan.hu)
    assert len(untouched.nodules) == 0
    nodule = Nodule(5.0, "solid", "free", 0.0)
    for none in (np.zeros_like(lungs), scan.hu > -100):
        with pytest.raises(InputError, match="no air was found in the lungs"):
            plant_nodules(scan, none, [nodule], np.random.default_rng(0))
    with pytest.raises(InputError, match="at most 255"):
        plant_nodules(scan, lungs, [nodule] * 256, np.random.default_rng(0))


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


def planted_scans(outcomes: Iterable[PlantedScan | FailedScan]) -> list[PlantedScan]:
    return [scan for scan in outcomes if isinstance(scan, PlantedScan)]


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


def test_nothing_is_planted_on_what_is_listed_as_no_nodule(raw: Path, tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match="holds files already"):
        list(plant_dataset(PlantSource(raw), tmp_path, PlantSettings()))


def test_scans_that_fail_are_named_and_the_others_go_on(raw: Path, tmp_path: Path) -> None:
    scan, _ = chamber()
    write_scan(tmp_path / "in", replace(scan, scan_id="bare", hu=np.full_like(scan.hu, 30)))
    (tmp_path / "in/cut.nii.gz").write_bytes(b"cut")
    alone = list(plant_dataset(PlantSource(tmp_path / "in"), tmp_path / "none", PlantSettings()))
    assert not planted_scans(alone)
    assert not (tmp_path / "none").exists()
    for path in raw.glob("phantom-2-flipped-0000.*"):
        shutil.copy(path, tmp_path / "in")
    outcomes = list(plant_dataset(PlantSource(tmp_path / "in"), tmp_path / "out", PlantSettings(nodules=2, copies=2)))
    failed = {outcome.scan_id: outcome.reason for outcome in outcomes if isinstance(outcome, FailedScan)}
    assert sorted(failed) == ["bare", "cut"]
    assert "no lungs were found" in failed["bare"]
    assert len(planted_scans(outcomes)) == len(Luna16(tmp_path / "out").scans) == 2
    assert len(read_findings(tmp_path / "out/planted.csv")) == 4


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"nodules": 0}, "at least 1"),
        ({"nodules": 256}, "from 1 to 255 nodules"),
        ({"copies": 0}, "at least 1"),
        ({"diameters_mm": (900.0,)}, "between 2 and 60"),
        ({"diameters_mm": ()}, "from 1 to 255 nodules"),
        ({"source": "lidc"}, "source must be one of"),
        ({"kinds": (1, 0)}, "kinds must be 3 shares"),
        ({"kinds": (1, -1, 1)}, "kinds must be 3 shares"),
        ({"places": (0, 0, 0, 0)}, "places must be 4 shares, none negative and not all 0"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        PlantSettings(**values)
