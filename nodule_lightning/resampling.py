"""Resampling of volumes: block means for coarser grids, axis permutations, SimpleITK for any other grid."""

from itertools import permutations

import numpy as np
from jaxtyping import Int16, Shaped

from nodule_lightning.geometry import IDENTITY_DIRECTION, Grid


def shrink(hu: Int16[np.ndarray, "z y x"], grid: Grid, spacing_mm: float) -> tuple[Int16[np.ndarray, "Z Y X"], Grid]:
    """Average blocks of voxels: along each axis, as many as fit into the wanted spacing.

    Voxels at the far end that do not fill a block are dropped; these are fewer than one block.

    Returns:
        The block means, and the grid of the block centres. Its spacing is at most `spacing_mm`, except along axes that
        were coarser already. The same array is returned if there is nothing to average.
    """
    sizes = zip(grid.shape, grid.spacing_zyx_mm, strict=True)
    fz, fy, fx = (max(1, min(count, int(spacing_mm / step + 1e-6))) for count, step in sizes)
    if fz * fy * fx == 1:
        return hu, grid
    z, y, x = grid.shape[0] // fz, grid.shape[1] // fy, grid.shape[2] // fx
    whole = hu[: z * fz, : y * fy, : x * fx].reshape(z, fz, y, fy, x * fx)
    # The first, costly sum keeps the innermost axis contiguous: two steps are five times faster than one mean.
    total = whole.sum(axis=(1, 3), dtype=np.int32).reshape(z, y, x, fx).sum(axis=3, dtype=np.int32)
    origin = grid.to_world(np.array([[fz - 1, fy - 1, fx - 1]]) / 2)[0]
    sz, sy, sx = grid.spacing_zyx_mm
    blocks = Grid((z, y, x), (sz * fz, sy * fy, sx * fx), (origin[0], origin[1], origin[2]), grid.direction)
    return np.rint(total / (fz * fy * fx)).astype(np.int16), blocks


def to_upright(values: Shaped[np.ndarray, "z y x"], grid: Grid) -> tuple[Shaped[np.ndarray, "Z Y X"], Grid]:
    """Permute and flip the axes so that they follow the world axes as closely as possible: axial slices, feet first.

    No voxel changes its world position. The result is a view.
    """
    order, flips = _axis_order(grid)
    first = np.zeros(3)
    for axis, is_flipped in zip(order, flips, strict=True):
        first[axis] = grid.shape[axis] - 1 if is_flipped else 0
    # The columns of the matrix are in (x, y, z) order, the array's axes in (z, y, x).
    columns = np.reshape(grid.direction, (3, 3))[:, [2 - axis for axis in reversed(order)]]
    direction = columns * np.where(flips[::-1], -1.0, 1.0)
    z, y, x = order
    upright = Grid(
        (grid.shape[z], grid.shape[y], grid.shape[x]),
        (grid.spacing_zyx_mm[z], grid.spacing_zyx_mm[y], grid.spacing_zyx_mm[x]),
        tuple(grid.to_world(first[None])[0].tolist()),
        tuple(direction.ravel().tolist()),
    )
    return _mirror(values.transpose(order), flips), upright


def from_upright(values: Shaped[np.ndarray, "Z Y X"], grid: Grid) -> Shaped[np.ndarray, "z y x"]:
    """Undo `to_upright`: return an upright volume to the axis order of the grid it came from."""
    order, flips = _axis_order(grid)
    return _mirror(values, flips).transpose(np.argsort(order))


def _axis_order(grid: Grid) -> tuple[tuple[int, int, int], list[bool]]:
    """Return, for world z, y and x, the array axis closest to it and whether that axis is reversed."""
    axes = np.reshape(grid.direction, (3, 3))
    x, y, z = max(permutations(range(3)), key=lambda order: float(np.abs(axes[range(3), order]).sum()))
    flips = [bool(axes[world, column] < 0) for world, column in ((2, z), (1, y), (0, x))]
    return (2 - z, 2 - y, 2 - x), flips


def _mirror(values: Shaped[np.ndarray, "z y x"], flips: list[bool]) -> Shaped[np.ndarray, "z y x"]:
    return values[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def box_grid(low_xyz_mm: np.ndarray, high_xyz_mm: np.ndarray, spacing_mm: float) -> Grid:
    """Make an isotropic, axis-aligned grid that covers a box in world coordinates."""
    # NIfTI stores fewer digits: the rounding of a corner must not cost a row.
    count_xyz = np.floor((high_xyz_mm - low_xyz_mm) / spacing_mm + 1e-3).astype(int) + 1
    nx, ny, nz = (int(count) for count in count_xyz)
    x, y, z = (float(value) for value in low_xyz_mm)
    return Grid((nz, ny, nx), (spacing_mm, spacing_mm, spacing_mm), (x, y, z), IDENTITY_DIRECTION)


def resample(
    values: Shaped[np.ndarray, "z y x"], grid: Grid, onto: Grid, *, linear: bool, outside: int
) -> Shaped[np.ndarray, "Z Y X"]:
    """Resample a volume onto another grid; both may have any direction.

    Args:
        values: the volume; the result has the same dtype.
        grid: the grid of the volume.
        onto: the grid of the result.
        linear: interpolate linearly; otherwise take the nearest voxel.
        outside: the value beyond the volume.
    """
    # Imported late: training from a cache imports this module, and needs no SimpleITK.
    import SimpleITK

    place = grid.to_index(onto.corners_xyz_mm())
    start = np.clip(np.floor(place.min(axis=0)).astype(int) - 1, 0, np.array(grid.shape) - 1)
    stop = np.clip(np.ceil(place.max(axis=0)).astype(int) + 2, start + 1, grid.shape)
    part = values[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    image = SimpleITK.GetImageFromArray(part)
    _place(image, grid.crop(start, stop))
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize([onto.shape[2], onto.shape[1], onto.shape[0]])
    resampler.SetOutputSpacing(onto.spacing_zyx_mm[::-1])
    resampler.SetOutputOrigin(onto.origin_xyz_mm)
    resampler.SetOutputDirection(onto.direction)
    resampler.SetInterpolator(SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(outside)
    resampled: Shaped[np.ndarray, "Z Y X"] = SimpleITK.GetArrayFromImage(resampler.Execute(image))
    return resampled


def _place(image: object, grid: Grid) -> None:
    image.SetSpacing(grid.spacing_zyx_mm[::-1])  # type: ignore[attr-defined]
    image.SetOrigin(grid.origin_xyz_mm)  # type: ignore[attr-defined]
    image.SetDirection(grid.direction)  # type: ignore[attr-defined]
