"""Grid: round trips, flips, oblique axes and crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import IDENTITY_DIRECTION, Grid

# The type checker of the tests samples a random item of a tuple, with Python's global generator.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

coordinate = st.floats(-2000, 2000)
step = st.floats(0.1, 20)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Draw a grid with any axes, left-handed ones among them."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    axes = (Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * signs)[:, order]
    size = st.integers(1, 600)
    return Grid(
        (draw(size), draw(size), draw(size)),
        (draw(step), draw(step), draw(step)),
        (draw(coordinate), draw(coordinate), draw(coordinate)),
        tuple(axes.ravel().tolist()),
    )


points = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=5).map(
    lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 3)
)


@given(grids(), points)
def test_world_to_index_and_back(grid: Grid, world: Float64[np.ndarray, "n 3"]) -> None:
    assert grid.to_index(world).shape == world.shape
    assert np.allclose(grid.to_world(grid.to_index(world)), world, atol=1e-6)


@given(grids(), points)
def test_index_to_world_and_back(grid: Grid, index: Float64[np.ndarray, "n 3"]) -> None:
    assert np.allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


@given(grids(), points)
def test_distances_are_millimetres(grid: Grid, index: Float64[np.ndarray, "n 3"]) -> None:
    length = np.linalg.norm(index * grid.spacing_zyx_mm, axis=1)
    assert np.allclose(np.linalg.norm(grid.to_world(index) - grid.origin_xyz_mm, axis=1), length, rtol=1e-6, atol=1e-6)


@given(grids(), st.data())
def test_a_crop_stays_in_its_place(grid: Grid, data: st.DataObject) -> None:
    start = np.array([data.draw(st.integers(0, size - 1)) for size in grid.shape])
    stop = np.array([data.draw(st.integers(low + 1, size)) for low, size in zip(start, grid.shape, strict=True)])
    crop = grid.crop(start, stop)
    assert crop.shape == tuple(stop - start)
    ends = np.stack([start, stop - 1]).astype(np.float64)
    assert np.allclose(crop.to_world(ends - start), grid.to_world(ends), atol=1e-6)


@given(grids())
def test_plain_values_and_back(grid: Grid) -> None:
    assert Grid.from_dict(grid.to_dict()) == grid


def test_flipped_axes() -> None:
    grid = Grid((10, 20, 30), (2.0, 0.5, 0.5), (100.0, 50.0, -300.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert grid.to_world(np.array([[1.0, 2.0, 4.0]])).tolist() == [[98.0, 49.0, -298.0]]


def test_sagittal_slices() -> None:
    # The array's first axis runs to the left, its second to the feet, its third to the back.
    grid = Grid((10, 20, 30), (3.0, 1.0, 2.0), (0.0, 0.0, 0.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
    assert grid.to_world(np.array([[1.0, 10.0, 100.0]])).tolist() == [[3.0, 200.0, -10.0]]


def test_corners() -> None:
    corners = Grid((2, 3, 4), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)).corners_xyz_mm()
    assert corners.min(axis=0).tolist() == [1, 1, 1]
    assert corners.max(axis=0).tolist() == [4, 3, 2]


@pytest.mark.parametrize(
    ("shape", "spacing", "direction", "named"),
    [
        ((0, 1, 1), (1.0, 1.0, 1.0), IDENTITY_DIRECTION, "(0, 1, 1)"),
        ((1, 1, 1), (1.0, 0.0, 1.0), IDENTITY_DIRECTION, "(1.0, 0.0, 1.0) mm"),
        ((1, 1, 1), (1.0, float("nan"), 1.0), IDENTITY_DIRECTION, "(1.0, nan, 1.0) mm"),
        ((1, 1, 1), (1.0, 1.0, 1.0), (1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), "(1.0, 0.5, 0.0, "),
    ],
)
def test_impossible_grids(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], direction: tuple[float, ...], named: str
) -> None:
    with pytest.raises(InputError) as error:
        Grid(shape, spacing, direction=direction)
    assert error.value.key == "scan-invalid"
    assert named in str(error.value)
