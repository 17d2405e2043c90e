"""Planted nodules: stated size and position, and the blur and noise of the scan around them."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.phantom.nodules import Nodule
from nodule_lightning.phantom.planting import Planted, plant_nodules
from nodule_lightning.phantom.scan_quality import ScanQuality
from nodule_lightning.phantom.trouble import flip_axes
from nodule_lightning.phantom.truth import Phantom
from nodule_lightning.structures import Findings, Scan

SPACING_MM = (1.25, 0.7, 0.7)


def ball(grid: Grid, centre_xyz_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the depth of each voxel inside a ball, in mm."""
    index = np.indices(grid.shape).reshape(3, -1).T.astype(float)
    away = np.linalg.norm(grid.to_world(index) - centre_xyz_mm, axis=1).reshape(grid.shape)
    inside: np.ndarray = radius_mm - away
    return inside


@cache
def chamber(noise_hu: float = 20.0, blur_mm: float = 0.5, slice_mm: float = 1.25) -> tuple[Scan, np.ndarray]:
    """Make a block of tissue around one large ball of lung, with known noise and blur."""
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


def test_nodules_never_overlap_and_full_lungs_are_refused() -> None:
    scan, lungs = chamber()
    generator = np.random.default_rng(0)
    planted = plant_nodules(scan, lungs, [Nodule(28.0, "solid", "free", 0.0)] * 3, generator).nodules
    apart = np.linalg.norm(planted.centre_xyz_mm[:, None] - planted.centre_xyz_mm, axis=2)
    assert apart[~np.eye(3, dtype=bool)].min() >= 28
    with pytest.raises(InputError) as error:
        plant_nodules(scan, lungs, [Nodule(40.0, "solid", "free", 0.0)] * 3, generator)
    assert error.value.key == "argument-invalid"
    assert "40 mm" in str(error.value)


def test_empty_and_impossible_requests() -> None:
    scan, lungs = chamber()
    untouched = plant()
    assert np.array_equal(untouched.scan.hu, scan.hu)
    assert len(untouched.nodules) == 0
    nodule = Nodule(5.0, "solid", "free", 0.0)
    for none in (np.zeros_like(lungs), scan.hu > -100):
        with pytest.raises(InputError) as error:
            plant_nodules(scan, none, [nodule], np.random.default_rng(0))
        assert error.value.key == "scan-invalid"
        assert "chamber" in str(error.value)
    with pytest.raises(InputError) as error:
        plant_nodules(scan, lungs, [nodule] * 256, np.random.default_rng(0))
    assert error.value.key == "argument-invalid"
    assert "256" in str(error.value)
