"""Lungs: found on the plain chest in any orientation, without the table; never an empty mask."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.io.readers import read_scan
from nodule_lightning.io.tables import read_findings
from nodule_lightning.lungs.segmentation import FALLBACK_NOTE, LungMask, LungSettings, segment_lungs
from nodule_lightning.structures import Scan
from tests.chest import CENTRE_XYZ_MM, GRID, LUNG_RADII_XYZ_MM, NODULE_XYZ_MM, ball, draw_chest, lung_centre, world_of

FLIPPED = Grid(GRID.shape, GRID.spacing_zyx_mm, (147.2, 103.4, -228.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
CORONAL = Grid((79, 54, 100), (2.8, 3.0, 2.8), (-130.0, -115.0, -69.0), (1, 0, 0, 0, 0, 1, 0, -1, 0))
BOX = np.array([50.0, 0, 0]) + LUNG_RADII_XYZ_MM


def covered(mask: LungMask, radii_mm: float) -> float:
    """Give the share of the lungs' ellipsoids, grown by some mm, that the mask covers."""
    world = world_of(mask.grid)
    drawn = ball(world, lung_centre(-1), LUNG_RADII_XYZ_MM + radii_mm)
    drawn |= ball(world, lung_centre(1), LUNG_RADII_XYZ_MM + radii_mm)
    return float(mask.mask[drawn].mean())


@pytest.mark.parametrize("grid", [GRID, FLIPPED, CORONAL], ids=["axial", "flipped", "coronal"])
def test_finds_both_lungs_and_not_the_table(grid: Grid) -> None:
    lungs = segment_lungs(draw_chest(grid), LungSettings())
    assert lungs.found
    assert lungs.notes == ()
    assert lungs.volume_l == pytest.approx(2 * 4 / 3 * np.pi * np.prod(LUNG_RADII_XYZ_MM) / 1e6, rel=0.05)
    assert np.abs(lungs.low_xyz_mm - (CENTRE_XYZ_MM - BOX)).max() < 4
    assert np.abs(lungs.high_xyz_mm - (CENTRE_XYZ_MM + BOX)).max() < 4
    assert covered(lungs, 0) == 1
    assert covered(lungs, 5) > 0.98
    assert lungs.mask.sum() * np.prod(lungs.grid.spacing_zyx_mm) < 2.2e6


def test_nodules_at_the_pleura_are_inside() -> None:
    scan = draw_chest()
    pleura = CENTRE_XYZ_MM + np.array([80.0, 0, 0])
    scan.hu[ball(world_of(scan.grid), pleura, np.full(3, 8.0))] = 40
    lungs = segment_lungs(scan, replace(LungSettings(), dilation_mm=0))
    for place in (pleura, NODULE_XYZ_MM):
        assert lungs.mask[tuple(np.rint(lungs.grid.to_index(place[None]))[0].astype(int))]


def test_dilation_goes_beyond() -> None:
    narrow, wide = (segment_lungs(draw_chest(), LungSettings(dilation_mm=size)) for size in (0.0, 12.0))
    assert wide.mask.sum() > narrow.mask.sum()
    assert covered(wide, 9) > 0.99
    assert covered(narrow, 9) < 0.9
    assert np.allclose(wide.low_xyz_mm, narrow.low_xyz_mm)


def test_one_lung_is_enough() -> None:
    scan = draw_chest()
    scan.hu[ball(world_of(scan.grid), lung_centre(-1), LUNG_RADII_XYZ_MM)] = 40
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.found
    assert lungs.low_xyz_mm[0] > CENTRE_XYZ_MM[0]


def test_lungs_cut_off_by_the_first_and_last_slice() -> None:
    scan = draw_chest()
    middle = Scan("slab", scan.hu[20:36], scan.grid.crop((20, 0, 0), (36, *GRID.shape[1:])))
    lungs = segment_lungs(middle, LungSettings())
    assert lungs.found
    assert covered(lungs, 0) == 1


def test_no_lung_falls_back_to_the_body() -> None:
    lungs = segment_lungs(draw_chest(lungs=False), LungSettings())
    assert not lungs.found
    assert lungs.notes == (FALLBACK_NOTE,)
    assert lungs.volume_l == 0
    body = (np.abs(world_of(lungs.grid)[..., :2] - CENTRE_XYZ_MM[:2]) < (105, 75)).all(axis=-1)
    assert lungs.mask[body].all()
    assert not lungs.mask.all()


@pytest.mark.parametrize("hu", [-1024, 0, 3000])
@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 40, 40)])
def test_any_volume_has_a_mask(hu: int, shape: tuple[int, int, int]) -> None:
    scan = Scan("flat", np.full(shape, hu, dtype=np.int16), Grid(shape, (5.0, 1.0, 1.0)))
    lungs = segment_lungs(scan, LungSettings())
    assert lungs.notes == (FALLBACK_NOTE,)
    assert lungs.mask.all()


def test_volume_limits_are_settings() -> None:
    assert not segment_lungs(draw_chest(), LungSettings(min_volume_l=1.0)).found
    assert not segment_lungs(draw_chest(), LungSettings(max_volume_l=0.3)).found
    for bad in ({"coarse_mm": 0.0}, {"closing_mm": -1.0}, {"min_volume_l": 9.0}):
        with pytest.raises(InputError, match="lungs: "):
            LungSettings(**bad)


@pytest.mark.real_data
def test_real_lungs(real_data: Path) -> None:
    nodule = read_findings(real_data / "lidc/annotations.csv")
    for path, volume_l in zip(sorted((real_data / "lidc").glob("subset*/*.mhd")), (3.5, 5.0), strict=True):
        lungs = segment_lungs(read_scan(path), LungSettings())
        assert lungs.found
        assert lungs.volume_l == pytest.approx(volume_l, rel=0.05)
        assert 1.2 * volume_l < lungs.mask.sum() * np.prod(lungs.grid.spacing_zyx_mm) / 1e6 < 2.2 * volume_l
        for centre in nodule.rows.centre_xyz_mm[nodule.scan_id == path.stem]:
            assert lungs.mask[tuple(np.rint(lungs.grid.to_index(centre[None]))[0].astype(int))]
