"""Bring a volume onto another grid: block means for a coarser one, SimpleITK for any other."""

from itertools import permutations

import numpy as np
from jaxtyping import Int16, Shaped

from nodule_lightning.geometry import IDENTITY_DIRECTION, Grid


def shrink(hu: Int16[np.ndarray, "z y x"], grid: Grid, spacing_mm: float) -> tuple[Int16[np.ndarray, "Z Y X"], Grid]:
    """Average whole blocks of voxels, as many along each axis as fit into the spacing.

    Voxels at the far end that fill no block are left out, at most one block's width less one voxel.

    Returns:
        The block means, and the grid of the blocks' centres, whose spacing is at most `spacing_mm` unless it was
        larger already. The same array where nothing is to be averaged.
    """
    sizes = zip(grid.shape, grid.spacing_zyx_mm, strict=True)
    fz, fy, fx = (max(1, min(count, int(spacing_mm / step + 1e-6))) for count, step in sizes)
    if fz * fy * fx == 1:
        return hu, grid
    z, y, x = grid.shape[0] // fz, grid.shape[1] // fy, grid.shape[2] // fx
    whole = hu[: z * fz, : y * fy, : x * fx].reshape(z, fz, y, fy, x * fx)
    # Two steps keep the innermost axis contiguous in the first and costly one: five times faster than one mean.
    total = whole.sum(axis=(1, 3), dtype=np.int32).reshape(z, y, x, fx).sum(axis=3, dtype=np.int32)
    origin = grid.to_world(np.array([[fz - 1, fy - 1, fx - 1]]) / 2)[0]
    sz, sy, sx = grid.spacing_zyx_mm
    blocks = Grid((z, y, x), (sz * fz, sy * fy, sx * fx), (origin[0], origin[1], origin[2]), grid.direction)
    return np.rint(total / (fz * fy * fx)).astype(np.int16), blocks


def stand_upright(values: Shaped[np.ndarray, "z y x"], grid: Grid) -> tuple[Shaped[np.ndarray, "Z Y X"], Grid]:
    """Turn and mirror the axes so that they follow the world's as nearly as they can: slices from the feet up.

    No voxel changes its place in the world; the answer is a view.
    """
    order, flips = _turn(grid)
    first = np.zeros(3)
    for axis, is_flipped in zip(order, flips, strict=True):
        first[axis] = grid.shape[axis] - 1 if is_flipped else 0
    # A column of the matrix belongs to an index axis in (x, y, z); the array's axes run the other way.
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


def lay_down(values: Shaped[np.ndarray, "Z Y X"], grid: Grid) -> Shaped[np.ndarray, "z y x"]:
    """Undo `stand_upright`: bring a volume that stands upright back onto the grid it came from."""
    order, flips = _turn(grid)
    return _mirror(values, flips).transpose(np.argsort(order))


def _turn(grid: Grid) -> tuple[tuple[int, int, int], list[bool]]:
    """Give the array axis that runs nearest along the world's z, y and x, and whether it runs against it."""
    axes = np.reshape(grid.direction, (3, 3))
    x, y, z = max(permutations(range(3)), key=lambda order: float(np.abs(axes[range(3), order]).sum()))
    flips = [bool(axes[world, column] < 0) for world, column in ((2, z), (1, y), (0, x))]
    return (2 - z, 2 - y, 2 - x), flips


def _mirror(values: Shaped[np.ndarray, "z y x"], flips: list[bool]) -> Shaped[np.ndarray, "z y x"]:
    return values[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def box_grid(low_xyz_mm: np.ndarray, high_xyz_mm: np.ndarray, spacing_mm: float) -> Grid:
    """Lay an isotropic grid along the world axes over a box of the world."""
    # The last digits, which NIfTI does not keep, must not cost a row.
    count_xyz = np.floor((high_xyz_mm - low_xyz_mm) / spacing_mm + 1e-3).astype(int) + 1
    nx, ny, nz = (int(count) for count in count_xyz)
    x, y, z = (float(value) for value in low_xyz_mm)
    return Grid((nz, ny, nx), (spacing_mm, spacing_mm, spacing_mm), (x, y, z), IDENTITY_DIRECTION)


def resample(
    values: Shaped[np.ndarray, "z y x"], grid: Grid, onto: Grid, *, linear: bool, outside: int
) -> Shaped[np.ndarray, "Z Y X"]:
    """Read a volume at the voxels of another grid, in whatever directions the two lie.

    Args:
        values: the volume, of the number type that the answer will have.
        grid: where the volume lies.
        onto: where the answer lies.
        linear: interpolate linearly; else take the nearest voxel.
        outside: the value beyond the volume.
    """
    # SimpleITK is wanted for preparing alone: training from a ready cache imports this module without it.
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
