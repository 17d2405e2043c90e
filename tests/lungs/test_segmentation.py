"""Lung segmentation: any orientation, without the table, each trouble with its own cure, and never empty."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.tables import read_findings
from nodule_lightning.lungs.segmentation import FALLBACK_NOTE, LungMask, segment_lungs
from nodule_lightning.lungs.settings import EVERY_CURE, LungSettings
from nodule_lightning.structures import Scan
from tests.chest import (
    CENTRE_XYZ_MM,
    GRID,
    LUNG_RADII_XYZ_MM,
    NODULE_XYZ_MM,
    TROUBLES,
    ball,
    draw_chest,
    draw_trouble,
    lung_centre,
    world_of,
)

FLIPPED = Grid(GRID.shape, GRID.spacing_zyx_mm, (147.2, 103.4, -228.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
CORONAL = Grid((79, 54, 100), (2.8, 3.0, 2.8), (-130.0, -115.0, -69.0), (1, 0, 0, 0, 0, 1, 0, -1, 0))
BOX = np.array([50.0, 0, 0]) + LUNG_RADII_XYZ_MM
ONE_LUNG_L = 4 / 3 * np.pi * np.prod(LUNG_RADII_XYZ_MM) / 1e6


def covered(mask: LungMask, radii_mm: float) -> float:
    """Return the share of the lungs' ellipsoids, enlarged by `radii_mm`, that the mask covers."""
    world = world_of(mask.grid)
    drawn = ball(world, lung_centre(-1), LUNG_RADII_XYZ_MM + radii_mm)
    drawn |= ball(world, lung_centre(1), LUNG_RADII_XYZ_MM + radii_mm)
    return float(mask.mask[drawn].mean())


def dice(mask: LungMask, shares: tuple[float, float]) -> float:
    """Return the Dice score of the lungs and of ellipsoids scaled by the given shares, the right one first."""
    world = world_of(mask.grid)
    right, left = (
        ball(world, lung_centre(side), LUNG_RADII_XYZ_MM * share) for side, share in zip((-1, 1), shares, strict=True)
    )
    return float(2 * (mask.lungs & (right | left)).sum() / (mask.lungs.sum() + (right | left).sum()))


@pytest.mark.parametrize("grid", [GRID, FLIPPED, CORONAL], ids=["axial", "flipped", "coronal"])
def test_finds_both_lungs_and_not_the_table(grid: Grid) -> None:
    lungs = segment_lungs(draw_chest(grid), LungSettings())
    assert lungs.found
    assert (lungs.notes, lungs.cures, lungs.failed, lungs.touching) == ((), (), (), ())
    assert lungs.volume_l == pytest.approx((ONE_LUNG_L, ONE_LUNG_L), rel=0.06)
    assert np.abs(lungs.low_xyz_mm - (CENTRE_XYZ_MM - BOX)).max() < 4
    assert np.abs(lungs.high_xyz_mm - (CENTRE_XYZ_MM + BOX)).max() < 4
    assert dice(lungs, (1, 1)) > 0.97
    assert covered(lungs, 0) == 1
    assert covered(lungs, 5) > 0.98
    assert lungs.mask.sum() * np.prod(lungs.grid.spacing_zyx_mm) < 2.2e6


def test_right_and_left_lung_are_the_patient_s() -> None:
    scan = draw_chest()
    x = world_of(GRID)[..., 0]
    scan.hu[(x < CENTRE_XYZ_MM[0]) & (world_of(GRID)[..., 2] < CENTRE_XYZ_MM[2] - 15)] = 40
    for grid in (GRID, replace(FLIPPED)):
        flip = grid is not GRID
        hu = np.ascontiguousarray(scan.hu[:, ::-1, ::-1]) if flip else scan.hu
        right, left = segment_lungs(Scan("", hu, grid), LungSettings()).volume_l
        assert right < 0.75 * left


def test_nodules_at_the_pleura_are_inside() -> None:
    scan = draw_chest()
    pleura = CENTRE_XYZ_MM + np.array([80.0, 0, 0])
    scan.hu[ball(world_of(scan.grid), pleura, np.full(3, 8.0))] = 40
    lungs = segment_lungs(scan, replace(LungSettings(), dilation_mm=0))
    for place in (pleura, NODULE_XYZ_MM):
        assert lungs.mask[tuple(np.rint(lungs.grid.to_index(place[None]))[0].astype(int))]


def test_hulls_take_in_what_is_too_wide_to_be_closed() -> None:
    scan = draw_chest()
    pleura = CENTRE_XYZ_MM + np.array([80.0, 0, 0])
    scan.hu[ball(world_of(scan.grid), pleura, np.full(3, 22.0))] = 40
    inside = pleura - np.array([6.0, 0, 0])
    for growth, is_inside in ((1.0, False), (1.5, True)):
        lungs = segment_lungs(scan, LungSettings(hull_growth=growth, closing_mm=2, dilation_mm=0))
        assert lungs.mask[tuple(np.rint(lungs.grid.to_index(inside[None]))[0].astype(int))] == is_inside


def test_dilation_goes_beyond() -> None:
    narrow, wide = (segment_lungs(draw_chest(), LungSettings(dilation_mm=size)) for size in (0.0, 12.0))
    assert wide.mask.sum() > narrow.mask.sum()
    assert covered(wide, 9) > 0.99
    assert covered(narrow, 9) < 0.9
    assert np.allclose(wide.low_xyz_mm, narrow.low_xyz_mm)


def test_lungs_cut_off_by_the_first_and_last_slice() -> None:
    scan = draw_chest()
    middle = Scan("slab", scan.hu[20:36], scan.grid.crop((20, 0, 0), (36, *GRID.shape[1:])))
    lungs = segment_lungs(middle, LungSettings())
    assert lungs.found
    assert covered(lungs, 0) == 1
    assert lungs.touching == ("feet", "head")


def test_airway_is_no_lung() -> None:
    scan = draw_chest()
    x, y, z = np.moveaxis(world_of(GRID) - CENTRE_XYZ_MM, -1, 0)
    scan.hu[(np.hypot(x, y) < 8) & (z > -20)] = -1000
    scan.hu[(np.abs(x) < 40) & (np.hypot(y, z + 15) < 6)] = -1000
    lungs = segment_lungs(scan, LungSettings())
    assert (lungs.cures, lungs.found) == ((), True)
    trachea = CENTRE_XYZ_MM + np.array([0, 0, 40.0])
    assert not lungs.lungs[tuple(np.rint(lungs.grid.to_index(trachea[None]))[0].astype(int))]
    assert dice(lungs, (1, 1)) > 0.96
    assert lungs.high_xyz_mm[2] < CENTRE_XYZ_MM[2] + BOX[2] + 4


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_cured_by_its_own_cure_alone(name: str) -> None:
    scan, cure, radii = draw_trouble(name)
    lungs = segment_lungs(scan, LungSettings())
    assert (lungs.found, lungs.cures) == (True, (cure,))
    assert lungs.notes[0].startswith(f"cured by {cure} (")
    assert lungs.failed
    assert dice(lungs, radii) > 0.93
    without = segment_lungs(scan, LungSettings(cures=tuple(other for other in EVERY_CURE if other != cure)))
    assert not without.found
    assert without.notes == (f"{FALLBACK_NOTE} ({'; '.join(lungs.failed)})",)
    assert segment_lungs(scan, LungSettings(cures=(cure,))).cures == (cure,)


def test_half_filled_voxels_in_the_chest_wall_do_not_open_dense_lungs_to_the_room() -> None:
    scan, cure, radii = draw_trouble("cut to pieces")
    x, y, z = np.moveaxis(world_of(GRID) - CENTRE_XYZ_MM, -1, 0)
    wall = (scan.hu == 40) & (x > 60) & (np.abs(y) < 14) & (np.abs(z) < 20)
    assert wall.any()
    scan.hu[wall] = -250
    lungs = segment_lungs(scan, LungSettings())
    assert (lungs.found, lungs.cures) == (True, (cure,))
    assert dice(lungs, radii) > 0.93


def test_two_troubles_need_two_cures() -> None:
    scan, _, radii = draw_trouble("begins at the head")
    dense = np.random.default_rng(0).normal(-560, 150, scan.hu.shape).clip(-900, -330)
    lung = scan.hu == -850
    scan.hu[lung] = dense[lung]
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.cures == ("pieces", "slices")
    assert dice(lungs, radii) > 0.93


def test_unequal_lungs_that_the_airway_joins_are_told_apart() -> None:
    scan, _, _ = draw_trouble("very unequal")
    x, y, z = np.moveaxis(world_of(scan.grid) - CENTRE_XYZ_MM, -1, 0)
    scan.hu[(np.abs(x) < 40) & (np.hypot(y, z) < 7)] = -1000
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.found
    assert lungs.volume_l == pytest.approx((ONE_LUNG_L, ONE_LUNG_L * 0.6**3), rel=0.15)


def test_a_lung_that_was_lost_is_not_taken_for_a_filled_one() -> None:
    scan, _, _ = draw_trouble("open chest wall")
    lungs = segment_lungs(scan, LungSettings(cures=("one_lung",)))
    assert not lungs.found


def test_the_box_of_one_lung_reaches_to_the_other_side() -> None:
    scan, _, _ = draw_trouble("filled with fluid")
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.low_xyz_mm[0] < CENTRE_XYZ_MM[0] - 80
    assert lungs.high_xyz_mm[0] > CENTRE_XYZ_MM[0] + 80


def test_gas_in_the_bowel_is_no_lung() -> None:
    scan = draw_chest()
    z = world_of(GRID)[..., 2]
    longer = Grid((90, *GRID.shape[1:]), GRID.spacing_zyx_mm, (-130.0, -115.0, -336.0))
    hu = np.concatenate([np.repeat(scan.hu[z[:, 0, 0] < -222][:1], 36, axis=0), scan.hu])
    gas = Scan("abdomen", hu, longer)
    for x, y in ((30.0, -30.0), (-40.0, -20.0), (0.0, -35.0)):
        hu[ball(world_of(longer), CENTRE_XYZ_MM + np.array([x, y, -120.0]), np.array([22.0, 18.0, 30.0]))] = -1000
    lungs = segment_lungs(gas, LungSettings())
    assert lungs.found
    assert np.abs(lungs.low_xyz_mm - (CENTRE_XYZ_MM - BOX)).max() < 4


def test_no_lung_falls_back_to_the_body() -> None:
    lungs = segment_lungs(draw_chest(lungs=False), LungSettings())
    assert not lungs.found
    assert lungs.notes == (f"{FALLBACK_NOTE} (no lung found)",)
    assert lungs.volume_l == (0, 0)
    body = (np.abs(world_of(lungs.grid)[..., :2] - CENTRE_XYZ_MM[:2]) < (105, 75)).all(axis=-1)
    assert lungs.mask[body].all()
    assert not lungs.mask.all()


@pytest.mark.parametrize("hu", [-1024, 0, 3000])
@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 40, 40)])
def test_any_volume_has_a_mask(hu: int, shape: tuple[int, int, int]) -> None:
    scan = Scan("flat", np.full(shape, hu, dtype=np.int16), Grid(shape, (5.0, 1.0, 1.0)))
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.notes == (f"{FALLBACK_NOTE} (no lung found)",)
    assert lungs.mask.all()


def test_rules_are_settings() -> None:
    for kept in (LungSettings(), LungSettings(min_slice_mm2=3000), LungSettings(max_distance_mm=40)):
        assert segment_lungs(draw_chest(), kept).cures == ()
    for strict in (
        LungSettings(min_volume_l=4.0, max_volume_l=8.0),
        LungSettings(min_volume_l=0.1, max_volume_l=0.3),
        LungSettings(max_distance_mm=10),
        LungSettings(min_slice_mm2=12_000),
    ):
        assert segment_lungs(draw_chest(), replace(strict, cures=())).failed == ("no lung found",)


@pytest.mark.parametrize(
    "values",
    [
        {"coarse_mm": 0.0},
        {"coarse_mm": 1e-5},
        {"coarse_mm": 11.0},
        {"coarse_mm": math.nan},
        {"closing_mm": -1.0},
        {"dilation_mm": math.inf},
        {"min_volume_l": 9.0},
        {"cures": ("prayer",)},
        {"source": "luna"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        LungSettings(**values)
    (name, value) = next(iter(values.items()))
    assert error.value.key == ("argument-conflict" if name == "min_volume_l" else "argument-invalid")
    assert str(value[0] if isinstance(value, tuple) else value) in str(error.value)


@pytest.mark.real_data
def test_real_lungs(real_data: Path) -> None:
    nodule = read_findings(real_data / "lidc/annotations.csv")
    for path, volume_l in zip(sorted((real_data / "lidc").glob("subset*/*.mhd")), (3.6, 5.1), strict=True):
        lungs = segment_lungs(read_scan(path), LungSettings())
        assert (lungs.found, lungs.cures, lungs.notes) == (True, (), ())
        assert sum(lungs.volume_l) == pytest.approx(volume_l, rel=0.05)
        assert 1.2 * volume_l < lungs.mask.sum() * np.prod(lungs.grid.spacing_zyx_mm) / 1e6 < 2.2 * volume_l
        for centre in nodule.rows.centre_xyz_mm[nodule.scan_id == path.stem]:
            assert lungs.mask[tuple(np.rint(lungs.grid.to_index(centre[None]))[0].astype(int))]
