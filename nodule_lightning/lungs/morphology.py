"""Morphology of masks with sizes in mm: dilation, closing, convex hulls and bounding boxes."""

import edt
import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from nodule_lightning.geometry import Grid

Mask = Bool[np.ndarray, "z y x"]
_IN_SLICE = np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3], dtype=bool)


def dilate(mask: Mask, grid: Grid, radius_mm: float) -> Mask:
    """Dilate a mask with a ball."""
    if not mask.any() or radius_mm <= 0:
        return mask
    wider: Mask = edt.edt(~mask, anisotropy=grid.spacing_zyx_mm) <= radius_mm
    return wider


def close(mask: Mask, grid: Grid, radius_mm: float) -> Mask:
    """Close a mask with a ball, and fill its holes."""
    if not mask.any():
        return mask
    box, near = crop_to(mask, grid, radius_mm)
    part = mask[box]
    # The outside of the scan counts as inside: lungs cut off by the first or last slice are not eroded from there.
    closed = edt.edt(dilate(part, near, radius_mm), anisotropy=grid.spacing_zyx_mm) > radius_mm
    whole = mask.copy()
    whole[box] = ndimage.binary_fill_holes(closed | part)
    return whole


def fill_hulls(mask: Mask, growth: float) -> Mask:
    """Fill the convex hull of each part of each slice, unless the hull is more than `growth` times as large."""
    filled = mask.copy()
    for plane, target in zip(mask, filled, strict=True):
        labels, count = ndimage.label(plane)
        for label, box in enumerate(ndimage.find_objects(labels, count), start=1):
            part = labels[box] == label
            hull = _hull(part)
            if np.count_nonzero(hull) <= growth * np.count_nonzero(part):
                target[box] |= hull
    return filled


def label_in_slices(mask: Mask) -> tuple[Int32[np.ndarray, "z y x"], int]:
    """Label the connected parts within each slice; no part spans two slices.

    Returns:
        The labels, and their number.
    """
    labels, count = ndimage.label(mask, structure=_IN_SLICE)
    return labels, int(count)


def crop_to(mask: Mask, grid: Grid, margin_mm: float) -> tuple[tuple[slice, slice, slice], Grid]:
    """Return the bounding box of a non-empty mask with a margin, and its grid.

    Distance transforms are costly per voxel, so they are computed in such a box.
    """
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    margin = np.ceil(margin_mm / np.array(grid.spacing_zyx_mm)).astype(int) + 1
    start = np.maximum([side.start for side in box] - margin, 0)
    stop = np.minimum([side.stop for side in box] + margin, grid.shape)
    z, y, x = (slice(int(low), int(high)) for low, high in zip(start, stop, strict=True))
    return (z, y, x), grid.crop(start, stop)


def world_box(mask: Mask, grid: Grid) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Return the lowest and highest world coordinates of a non-empty mask, including the extent of its voxels."""
    rows = mask.any(axis=2)
    first, last = mask[rows].argmax(axis=1), mask.shape[2] - 1 - mask[rows, ::-1].argmax(axis=1)
    z, y = np.nonzero(rows)
    # For any grid direction, the extremes lie at the ends of rows.
    ends = np.concatenate([np.stack([z, y, first], axis=1), np.stack([z, y, last], axis=1)])
    world = grid.to_world(ends.astype(np.float64))
    half = max(grid.spacing_zyx_mm) / 2
    return world.min(axis=0) - half, world.max(axis=0) + half


def voxel_l(grid: Grid) -> float:
    """Return the volume of one voxel in litres."""
    return float(np.prod(grid.spacing_zyx_mm)) / 1e6


def _hull(part: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    rows = np.flatnonzero(part.any(axis=1))
    first, last = part[rows].argmax(axis=1), part.shape[1] - 1 - part[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)])
    try:
        sides = ConvexHull(ends).equations
    except QhullError:
        # A single row, column or diagonal has no area and is its own hull.
        return part
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    inside = np.ones(part.shape, dtype=bool)
    for a, b, c in sides:
        inside &= a * y + b * x + c <= 1e-9
    return inside
