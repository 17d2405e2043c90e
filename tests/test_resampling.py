"""Resampling: a field that is linear in world coordinates does not change on any grid."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nodule_lightning.geometry import Grid
from nodule_lightning.resampling import box_grid, resample, shrink
from tests.chest import world_of

DIRECTIONS = {
    "plain": np.eye(3),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": Rotation.from_euler("xyz", [8, -12, 20], degrees=True).as_matrix(),
}
SLOPE = np.array([3.0, -5.0, 7.0])


def source(direction: str) -> Grid:
    axes = DIRECTIONS[direction]
    shape, spacing = (40, 50, 60), (2.0, 1.5, 1.25)
    centre = axes @ (np.array([59, 49, 39]) / 2 * spacing[::-1])
    x, y, z = (-centre).tolist()
    return Grid(shape, spacing, (x, y, z), tuple(axes.ravel().tolist()))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_linear_field_keeps_its_place(direction: str) -> None:
    grid = source(direction)
    field = np.rint(world_of(grid) @ SLOPE).astype(np.int16)
    onto = box_grid(np.array([-20.0, -18, -16]), np.array([15.0, 20, 16]), 1.0)
    assert onto.shape == (33, 39, 36)
    there = resample(field, grid, onto, linear=True, outside=-1024)
    assert np.abs(there - world_of(onto) @ SLOPE).max() < 2


def test_beyond_the_volume_is_outside() -> None:
    grid = source("plain")
    onto = box_grid(np.array([-100.0, 0, 0]), np.array([0.0, 1, 1]), 1.0)
    there = resample(np.zeros(grid.shape, np.int16), grid, onto, linear=True, outside=-1024)
    assert (there[..., 0] == -1024).all()
    assert (there[..., -1] == 0).all()


def test_nearest_keeps_labels() -> None:
    grid = source("oblique")
    mask = (np.indices(grid.shape).sum(axis=0) % 2).astype(np.uint8)
    onto = box_grid(np.full(3, -10.0), np.full(3, 10.0), 0.7)
    there = resample(mask, grid, onto, linear=False, outside=0)
    assert there.dtype == np.uint8
    assert set(np.unique(there)) == {0, 1}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shrinking_keeps_a_linear_field(direction: str) -> None:
    grid = source(direction)
    field = np.rint(world_of(grid) @ SLOPE).astype(np.int16)
    means, blocks = shrink(field, grid, 3.2)
    assert blocks.shape == means.shape == (40, 25, 30)
    assert blocks.spacing_zyx_mm == (2.0, 3.0, 2.5)
    assert np.abs(means - world_of(blocks) @ SLOPE).max() < 1.01


def test_shrinking_leaves_coarse_grids_and_survives_thin_ones() -> None:
    grid = Grid((2, 50, 60), (1.0, 5.0, 1.0))
    hu = np.zeros(grid.shape, np.int16)
    same, blocks = shrink(hu, grid, 1.0)
    assert same is hu
    assert blocks == grid
    assert shrink(hu, grid, 7.0)[1].shape == (1, 50, 8)
