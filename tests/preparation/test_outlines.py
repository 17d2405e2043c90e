"""Outlines as voxels: of the scan, and of the entry's grid."""

from pathlib import Path

import numpy as np
import pytest

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.preparation.outlines import check_slices, count_readers, enclosed
from nodule_lightning.resampling import box_grid
from tests.chest import GRID, world_of
from tests.readings import contour, drawn_ball, nodule, non_nodule, outline, parse, square

UNIT = Grid((20, 40, 30), (1.0, 1.0, 1.0))


def test_the_contour_itself_does_not_belong_to_the_nodule(tmp_path: Path) -> None:
    [mark] = parse(tmp_path, [nodule(contour(5, square(2, 6)))]).marks
    voxels = enclosed(mark.contours, UNIT)
    assert sorted(map(tuple, voxels.tolist())) == [(5, y, x) for y in (3, 4, 5) for x in (3, 4, 5)]


def test_a_hole_goes_with_its_outline_wherever_it_stands(tmp_path: Path) -> None:
    parts = [contour(5, square(2, 10)), contour(5, square(5, 7), "FALSE")]
    for order in (parts, parts[::-1]):
        [mark] = parse(tmp_path, [nodule(*order)]).marks
        assert len(enclosed(mark.contours, UNIT)) == 7 * 7 - 9


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_pixels_are_those_of_the_file_in_any_direction_of_its_axes(tmp_path: Path, direction: float) -> None:
    axes = tuple((np.diag([direction, direction, 1.0])).ravel().tolist())
    grid = Grid(UNIT.shape, UNIT.spacing_zyx_mm, (5.0, 6.0, 7.0), axes)
    readings = parse(tmp_path, [nodule(contour(12, square(2, 6)))])
    check_slices(readings, grid)
    world = grid.to_world(enclosed(readings.marks[0].contours, grid).mean(axis=0)[None])[0]
    np.testing.assert_allclose(world, [5 + direction * 4, 6 + direction * 4, 12])


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        (Grid((20, 40, 24), (1.0, 1.0, 1.0)), "24x40"),
        (Grid((40, 40, 40), (0.7, 1.0, 1.0)), "resampled"),
        (Grid((20, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, -1, 0, 0, 0, 1)), "mirrored"),
        (Grid((20, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 0, -1, 0, 1, 0)), "axial"),
    ],
)
def test_a_scan_that_the_marks_do_not_fit_is_refused(tmp_path: Path, grid: Grid, named: str) -> None:
    with pytest.raises(InputError, match=named) as error:
        check_slices(parse(tmp_path, [nodule(contour(5, [(3, 4)])), non_nodule(5, 25, 7), non_nodule(8, 2, 7)]), grid)
    assert error.value.key == "scan-invalid"


def test_marks_beyond_the_slices_of_a_part_of_a_scan_are_no_reason_to_refuse_it(tmp_path: Path) -> None:
    readings = parse(tmp_path, [nodule(contour(50.3, square(2, 6)))])
    check_slices(readings, UNIT)
    assert count_readers(readings, UNIT, UNIT).max() == 0


def test_the_readers_of_each_voxel_of_an_entry(tmp_path: Path) -> None:
    one, two = drawn_ball(radius_mm=12), drawn_ball((4, 0, 0), radius_mm=12)
    readings = parse(tmp_path, [outline(one, GRID)], [outline(two, GRID)], [outline(one, GRID)], [])
    places = world_of(GRID)[one | two]
    onto = box_grid(places.min(axis=0) - 20, places.max(axis=0) + 20, 1.0)
    counts = count_readers(readings, GRID, onto)
    assert set(np.unique(counts)) == {0, 1, 2, 3}
    for least, mask in ((3, one & two), (1, one | two)):
        drawn, expected = onto.to_world(np.argwhere(counts >= least).astype(float)), world_of(GRID)[mask]
        np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=0.3)
        assert len(drawn) == pytest.approx(mask.sum() * np.prod(GRID.spacing_zyx_mm), rel=0.1)
    far = box_grid(places.max(axis=0) + 50, places.max(axis=0) + 60, 1.0)
    assert count_readers(readings, GRID, far).max() == 0
