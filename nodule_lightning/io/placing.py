"""The grid of a volume: rounded direction cosines are made orthonormal, sheared axes are resampled."""

from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
from jaxtyping import Float64, Shaped

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid

LARGEST_EXTENT_MM: Final = 3000
# Cosines with three digits differ by so much; more is a shear.
_ROUNDED: Final = 2e-3


def place(
    path: Path,
    values: Shaped[np.ndarray, "z y x"],
    axes_xyz_mm: Float64[np.ndarray, "3 3"],
    origin_xyz_mm: Float64[np.ndarray, "3"],
    outside: int,
    *,
    linear: bool = True,
) -> tuple[Shaped[np.ndarray, "Z Y X"], Grid, tuple[str, ...]]:
    """Place values on a grid with orthonormal axes.

    Args:
        path: the file, for messages.
        values: the volume.
        axes_xyz_mm: columns are the steps from voxel to voxel along the x, y and z index axes.
        origin_xyz_mm: world position of the centre of voxel (0, 0, 0).
        outside: the value where a resampled volume reaches beyond the original one.
        linear: how sheared volumes are interpolated; False takes the nearest voxel.

    Returns:
        The values, resampled if the axes are sheared, their grid, and a note if they were resampled.

    Raises:
        InputError: the spacing or the place make no sense.
    """
    steps = np.linalg.norm(axes_xyz_mm, axis=0)
    _check_steps(path, values.shape, steps, axes_xyz_mm, origin_xyz_mm)
    cosines = axes_xyz_mm / steps
    deviation = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if deviation > _ROUNDED:
        upright, grid = _straighten(values, cosines, steps, origin_xyz_mm, outside, linear=linear)
        degrees = float(np.degrees(np.arcsin(min(deviation, 1.0))))
        return upright, grid, (f"its axes are sheared by {degrees:.1f} degrees (gantry tilt): resampled upright",)
    if deviation < 1e-9:
        return values, _grid(values.shape, steps, origin_xyz_mm, cosines), ()
    left, _, right = np.linalg.svd(cosines)
    nearest = left @ right
    # Turned about the middle, so that the corners move least.
    middle = (np.array(values.shape[::-1]) - 1) / 2
    origin = origin_xyz_mm + (axes_xyz_mm - nearest * steps) @ middle
    return values, _grid(values.shape, steps, origin, nearest), ()


def _check_steps(
    path: Path,
    shape: tuple[int, ...],
    steps: Float64[np.ndarray, "3"],
    axes_xyz_mm: Float64[np.ndarray, "3 3"],
    origin_xyz_mm: Float64[np.ndarray, "3"],
) -> None:
    written = ", ".join(f"{step:g}" for step in steps)
    if not np.isfinite(steps).all() or not np.isfinite(origin_xyz_mm).all() or steps.min() <= 0:
        raise InputError(f"{path}: voxel spacing and place must be finite, not {written} mm", "scan-invalid")
    if abs(np.linalg.det(axes_xyz_mm / steps)) < 0.1:
        raise InputError(f"{path}: its axes lie almost in one plane; export it again", "scan-invalid")
    longest = float((steps * shape[::-1]).max())
    if longest > LARGEST_EXTENT_MM:
        raise InputError(
            f"{path} is {longest / 1000:.1f} m long by its header, longer than any patient: its spacing "
            f"{written} mm must be wrong",
            "scan-invalid",
        )


def _straighten(
    values: Shaped[np.ndarray, "z y x"],
    cosines: Float64[np.ndarray, "3 3"],
    steps: Float64[np.ndarray, "3"],
    origin_xyz_mm: Float64[np.ndarray, "3"],
    outside: int,
    *,
    linear: bool,
) -> tuple[Shaped[np.ndarray, "Z Y X"], Grid]:
    """Resample onto the orthonormal axes that keep the slices where they are: each is only shifted in its plane."""
    across, triangle = np.linalg.qr(cosines * steps)
    upright = across * np.sign(np.diag(triangle))
    spacing = np.abs(np.diag(triangle))
    corners = np.array(list(product(*((0, count - 1) for count in values.shape[::-1]))), dtype=np.float64)
    along = corners @ (cosines * steps).T @ upright
    low, high = along.min(axis=0), along.max(axis=0)
    nx, ny, nz = (int(count) for count in np.ceil((high - low) / spacing - 1e-6) + 1)
    grid = _grid((nz, ny, nx), spacing, origin_xyz_mm + upright @ low, upright)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(steps.tolist())
    image.SetOrigin(origin_xyz_mm.tolist())
    image.SetDirection(cosines.ravel().tolist())
    method = SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor
    frame = grid.origin_xyz_mm, spacing.tolist(), grid.direction
    moved = SimpleITK.Resample(image, (nx, ny, nz), SimpleITK.Transform(), method, *frame, outside)
    return SimpleITK.GetArrayFromImage(moved), grid


def _grid(
    shape: tuple[int, ...], steps: Float64[np.ndarray, "3"], origin: Float64[np.ndarray, "3"], axes: np.ndarray
) -> Grid:
    (nz, ny, nx), (sx, sy, sz), (ox, oy, oz) = shape, steps.tolist(), origin.tolist()
    return Grid((nz, ny, nx), (sz, sy, sx), (ox, oy, oz), tuple(axes.ravel().tolist()))
