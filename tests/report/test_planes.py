"""Three planes through one position: orientation, findings and marks."""

from io import BytesIO

import numpy as np
import pytest
from jaxtyping import Bool, Int64
from matplotlib.colors import to_rgb
from PIL import Image

from nodule_lightning.geometry import Grid
from nodule_lightning.report.canvas import GREEN, ORANGE
from nodule_lightning.report.pictures import MarkOutcome
from nodule_lightning.report.planes import (
    EXCLUDED_COLOUR,
    GAP_PIXELS,
    NODULE_COLOUR,
    TILE_PIXELS,
    draw_planes,
    to_jpeg,
)
from nodule_lightning.structures import Candidates, Findings

SHAPE = (100, 110, 120)
GRID = Grid(SHAPE, (1.0, 1.0, 1.0), (-5.0, 7.0, 100.0))
CENTRE = np.array([55.0, 57.0, 150.0])
# 49 voxels of 1 mm a tile.
PIXELS_PER_MM = TILE_PIXELS / 49


def planes(
    ct: np.ndarray | None = None,
    nodules: Findings | None = None,
    excluded: Findings | None = None,
    marks: Candidates | None = None,
    outcomes: tuple[MarkOutcome, ...] = (),
    centre: np.ndarray = CENTRE,
    grid: Grid = GRID,
) -> list[Int64[np.ndarray, "row column 3"]]:
    nothing = Findings.empty()
    picture = draw_planes(
        np.zeros(grid.shape, np.uint8) if ct is None else ct,
        grid,
        centre,
        nodules or nothing,
        excluded or nothing,
        marks or Candidates.empty(),
        outcomes,
    )
    assert picture.size == (3 * TILE_PIXELS + 2 * GAP_PIXELS, TILE_PIXELS)
    image = np.asarray(picture).astype(np.int64)
    starts = [place * (TILE_PIXELS + GAP_PIXELS) for place in range(3)]
    assert (image[:, TILE_PIXELS : TILE_PIXELS + GAP_PIXELS] == 255).all()
    return [image[:, start : start + TILE_PIXELS] for start in starts]


def drawn(tile: Int64[np.ndarray, "row column 3"], colour: str) -> Bool[np.ndarray, "row column"]:
    wanted = np.rint(255 * np.array(to_rgb(colour)))
    return np.asarray(np.abs(tile - wanted).max(axis=2) < 40)


def middle(chosen: Bool[np.ndarray, "row column"]) -> list[float]:
    """Locate the middle of what is drawn, in mm right of and below the tile's middle."""
    rows, columns = np.nonzero(chosen)
    spans = [(values.min() + values.max()) / 2 for values in (columns, rows)]
    return [(span - (TILE_PIXELS - 1) / 2) / PIXELS_PER_MM for span in spans]


def at(*offsets: tuple[float, float, float], diameter: float = 8.0) -> Findings:
    return Findings(CENTRE + np.array(offsets), np.full(len(offsets), diameter))


def test_the_place_is_in_the_middle_and_the_head_on_top_and_the_left_on_the_right() -> None:
    # x, y, z in mm from the centre, and where the three planes show it: (right, below).
    for offset, shown in (
        ((0, 0, 0), ((0, 0), (0, 0), (0, 0))),
        ((10, 0, 0), ((10, 0), (10, 0), None)),
        ((0, 10, 0), ((0, 10), None, (10, 0))),
        ((0, 0, 10), (None, (0, -10), (0, -10))),
    ):
        ct = np.zeros(SHAPE, np.uint8)
        z, y, x = GRID.to_index(CENTRE[None] + np.array([offset], dtype=np.float64))[0].astype(int)
        ct[z, y, x] = 255
        for tile, place in zip(planes(ct), shown, strict=True):
            bright = tile.max(axis=2) > 100
            assert bright.any() == (place is not None)
            if place is not None:
                assert middle(bright) == pytest.approx(place, abs=0.15)


@pytest.mark.parametrize(("colour", "kind"), [(NODULE_COLOUR, "nodules"), (EXCLUDED_COLOUR, "excluded")])
def test_findings_are_circles_of_their_size_where_the_plane_cuts_them(colour: str, kind: str) -> None:
    finding = at((6.0, -4.0, 3.0), diameter=10.0)
    tiles = planes(nodules=finding) if kind == "nodules" else planes(excluded=finding)
    # The planes pass 3, 4 and 6 mm from its centre: circles of radius 4, 3, and none.
    for tile, place, radius in zip(tiles, ((6, -4), (6, -3)), (4.0, 3.0), strict=False):
        circle = drawn(tile, colour)
        assert middle(circle) == pytest.approx(place, abs=0.4)
        assert np.ptp(np.nonzero(circle)[1]) / 2 / PIXELS_PER_MM == pytest.approx(radius, abs=0.5)
        # Nothing is painted over what is inside.
        row, column = (round((TILE_PIXELS - 1) / 2 + PIXELS_PER_MM * value) for value in reversed(place))
        assert not circle[row - 5 : row + 5, column - 5 : column + 5].any()
    assert not drawn(tiles[2], colour).any()


def test_excluded_findings_are_dashed_and_nodules_are_not() -> None:
    whole = drawn(planes(nodules=at((0, 0, 0), diameter=30.0))[0], NODULE_COLOUR).sum()
    dashed = drawn(planes(excluded=at((0, 0, 0), diameter=30.0))[0], EXCLUDED_COLOUR).sum()
    assert 0.45 * whole < dashed < 0.75 * whole


def test_an_unknown_size_is_that_of_the_score() -> None:
    circle = drawn(planes(excluded=at((0, 0, 0), diameter=-1.0))[0], EXCLUDED_COLOUR)
    assert np.ptp(np.nonzero(circle)[1]) / 2 / PIXELS_PER_MM == pytest.approx(5.0, abs=0.5)


def test_marks_are_open_crosses_where_a_plane_passes_near() -> None:
    marks = Candidates(CENTRE + np.array([[8.0, 2.0, -1.0]]), np.ones(1), np.full(1, -1.0))
    tiles = planes(marks=marks, outcomes=(MarkOutcome.FALSE_POSITIVE,))
    for tile, place in zip(tiles, ((8, 2), (8, 1)), strict=False):
        cross = drawn(tile, ORANGE)
        assert middle(cross) == pytest.approx(place, abs=0.3)
        row, column = (round((TILE_PIXELS - 1) / 2 + PIXELS_PER_MM * value) for value in reversed(place))
        assert not cross[row - 12 : row + 12, column - 12 : column + 12].any()
    assert not drawn(tiles[2], ORANGE).any()
    assert drawn(planes(marks=marks, outcomes=(MarkOutcome.HIT,))[0], GREEN).any()


def test_what_lies_beyond_the_edge_is_grey() -> None:
    corner = planes(centre=GRID.origin_xyz_mm + np.zeros(3))
    assert (corner[0][:100, :100] == 170).all()
    assert (corner[0][-100:, -100:] == 0).all()
    # The head is on top: there the scan goes on.
    assert (corner[1][-100:] == 170).all()
    for tile in planes(centre=np.array([1e6, 0.0, -1e6]), nodules=at((0, 0, 0))):
        assert (tile == 170).all()


def test_another_spacing_gives_the_same_size() -> None:
    grid = Grid((50, 55, 60), (2.0, 2.0, 2.0), GRID.origin_xyz_mm)
    circle = drawn(planes(nodules=at((0, 0, 0), diameter=20.0), grid=grid)[0], NODULE_COLOUR)
    # 25 voxels of 2 mm a tile.
    assert np.ptp(np.nonzero(circle)[1]) / 2 * 50 / TILE_PIXELS == pytest.approx(10.0, abs=0.5)


def test_jpeg_is_small() -> None:
    encoded = to_jpeg(Image.fromarray(np.zeros((240, 732, 3), np.uint8)))
    assert Image.open(BytesIO(encoded)).format == "JPEG"
    assert len(encoded) < 30_000
