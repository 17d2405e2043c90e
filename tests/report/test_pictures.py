from io import BytesIO

import matplotlib.image
import numpy as np
import pytest
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from nodule_lightning.geometry import Grid
from nodule_lightning.report.canvas import BLUE, GREEN, ORANGE, to_png
from nodule_lightning.report.pictures import (
    MarkOutcome,
    Tile,
    cut_tiles,
    draw_gallery,
    draw_lung_crop,
    mark_outcomes,
)
from nodule_lightning.structures import Candidates, Findings

FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def pixels(figure: Figure) -> Float64[np.ndarray, "y x 4"]:
    return np.asarray(matplotlib.image.imread(BytesIO(to_png(figure))), dtype=np.float64)


def candidates(*centres: tuple[float, float, float], diameter: float = 8.0) -> Candidates:
    number = len(centres)
    centre_xyz_mm = np.array(centres, dtype=np.float64).reshape(-1, 3)
    return Candidates(centre_xyz_mm, np.linspace(0.9, 0.5, number), np.full(number, diameter))


def test_outcomes_follow_the_score() -> None:
    marks = candidates((0, 0, 0), (50, 0, 0), (90, 0, 0))
    nodules = Findings(np.zeros((1, 3)), np.array([6.0]))
    excluded = Findings(np.array([[50.0, 0, 0]]), np.array([-1.0]))
    assert mark_outcomes(marks, nodules, excluded) == [MarkOutcome.HIT, MarkOutcome.IGNORED, MarkOutcome.FALSE_POSITIVE]
    assert mark_outcomes(Candidates.empty(), nodules, excluded) == []
    many = candidates(*[(float(place), 0.0, 0.0) for place in range(120)])
    assert mark_outcomes(many, Findings.empty(), Findings.empty()).count(MarkOutcome.NOT_SCORED) == 20


@pytest.mark.parametrize("centre", [(30, 40, 20), (0, 0, 0), (59, 79, 29), (3, 70, 15)])
def test_tile_shows_the_mark_at_its_centre(centre: tuple[int, int, int]) -> None:
    x, y, z = centre
    ct = np.zeros((30, 80, 60), dtype=np.uint8)
    ct[z, y, x] = 255
    grid = Grid((30, 80, 60), (1.0, 1.0, 1.0), (-5.0, 7.0, 100.0))
    world = grid.to_world(np.array([[float(z), y, x]]))
    (tile,) = cut_tiles(ct, grid, Candidates(world, np.array([0.5]), np.array([8.0])), [MarkOutcome.HIT])
    assert tile.patch.shape == (49, 49)
    assert np.argwhere(tile.patch == 255).tolist() == [[24, 24]]


@pytest.mark.parametrize("world", [(0, 0, 500), (900, 0, 0), (0, -900, 5), (1e6, 1e6, 5)])
def test_tile_of_a_mark_outside_is_grey(world: tuple[float, float, float]) -> None:
    grid = Grid((10, 20, 30), (1.0, 1.0, 1.0))
    (tile,) = cut_tiles(np.zeros(grid.shape, dtype=np.uint8), grid, candidates(world), [MarkOutcome.NOT_SCORED])
    assert set(tile.patch.ravel().tolist()) == {170}


def test_gallery_draws_every_tile_in_its_colour() -> None:
    patch = np.zeros((49, 49), dtype=np.uint8)
    tiles = [
        Tile(patch, 1.0, 0.9, 10.0, MarkOutcome.HIT, "LKDS_$1$"),
        Tile(patch, 1.0, 0.8, -1.0, MarkOutcome.FALSE_POSITIVE),
        Tile(patch, 2.0, 0.7, 10.0, MarkOutcome.IGNORED),
        *[Tile(patch, 1.0, 0.1, 5.0, MarkOutcome.NOT_SCORED)] * 4,
    ]
    figure = draw_gallery(tiles)
    circles = [[patch for patch in axes.patches if isinstance(patch, Circle)] for axes in figure.axes]
    assert [len(drawn) for drawn in circles] == [1] * 7 + [0] * 5
    assert [axes.spines["top"].get_edgecolor() for axes in figure.axes[:3]] == [
        matplotlib.colors.to_rgba(colour) for colour in (GREEN, ORANGE, BLUE)
    ]
    # The circle runs 1.5 pixels outside the mark's own size.
    assert [drawn[0].get_radius() for drawn in circles[:3]] == [6.5, 6.5, 4.0]
    assert "p = 0.900" in figure.axes[0].get_title(loc="left")
    assert pixels(figure).shape[0] > 400


def test_long_ids_leave_the_tiles_their_size() -> None:
    patch = np.zeros((49, 49), dtype=np.uint8)
    series = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
    figures = [draw_gallery([Tile(patch, 1.0, 0.9, -1.0, MarkOutcome.HIT, caption)] * 7) for caption in ("a", series)]
    short, long = (pixels(figure) for figure in figures)
    assert short.shape == long.shape
    widths = [figure.axes[0].get_window_extent().width for figure in figures]
    assert widths[1] > 0.9 * widths[0]
    assert figures[1].axes[0].get_xlabel().endswith("5059720603192")


def test_gallery_without_candidates() -> None:
    assert pixels(draw_gallery([])).std() > 0


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), FLIPPED])
def test_lung_crop_draws_the_same_place_twice(direction: tuple[float, ...]) -> None:
    grid = Grid((10, 64, 64), (2.5, 0.8, 0.8), (10.0, 20.0, 30.0), direction)
    hu = np.full(grid.shape, -900, dtype=np.int16)
    corners = grid.to_world(np.array([[2.0, 10.0, 20.0], [8.0, 50.0, 60.0]]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    size: np.ndarray = np.rint(high - low).astype(np.int64)[::-1] + 1
    crop_grid = Grid(
        (int(size[0]), int(size[1]), int(size[2])),
        (1.0, 1.0, 1.0),
        (float(low[0]), float(low[1]), float(low[2])),
    )
    lung = np.zeros(crop_grid.shape, dtype=np.uint8)
    lung[5, 3:20, 3:20] = 1
    figure = draw_lung_crop(hu, grid, np.full(crop_grid.shape, 30, dtype=np.uint8), lung, crop_grid)
    before, after = figure.axes
    # Five millimetres above slice 2 of 2.5 mm.
    assert before.get_title(loc="left").startswith("scan: slice 5 of 10")
    (box,) = [patch for patch in before.patches if isinstance(patch, Rectangle)]
    assert box.get_bbox().bounds == pytest.approx((20, 10, 40, 40), abs=0.7)
    shown = np.asarray(after.images[0].get_array())
    assert (shown[3:20, 3:20] == 30).all()
    assert shown[0, 0] == 170
    assert pixels(figure).std() > 0
