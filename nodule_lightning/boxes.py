"""Findings as boxes in voxels, and pieces of a prepared scan: what training, search and preparation have in common.

A box is (z, y, x, diameter) in voxels of an entry or of a patch.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Entry, Findings

NOTHING, NODULE, IGNORED = 0, 1, 2
"""Kinds of box in a batch: padding, to be found, and neither positive nor negative."""

OUTSIDE: Final = 170
"""Grey value put outside the lungs and beyond the volume's edge: that of soft tissue (grt123)."""


def voxel_boxes(findings: Findings, entry: Entry) -> Float64[np.ndarray, "n 4"]:
    """Bring findings to (z, y, x, diameter) in voxels of the entry."""
    centre = entry.grid.to_index(findings.centre_xyz_mm)
    return np.concatenate([centre, findings.effective_diameter_mm()[:, None] / entry.grid.spacing_zyx_mm[0]], axis=1)


def visible(boxes: Float64[np.ndarray, "n 4"], lung: UInt8[np.ndarray, "z y x"]) -> Bool[np.ndarray, "n"]:
    """Tell which boxes have their centre in the lung mask: the others a detector could neither see nor report."""
    cell = np.rint(boxes[:, :3]).astype(np.int64)
    inside = ((cell >= 0) & (cell < lung.shape)).all(axis=1)
    inside[inside] = lung[tuple(cell[inside].T)] > 0
    return np.asarray(inside)


def in_crop(findings: Findings, grid: Grid) -> Bool[np.ndarray, "n"]:
    """Tell of each finding if its centre lies in a voxel of the crop."""
    nearest = np.rint(grid.to_index(findings.centre_xyz_mm))
    return np.asarray(((nearest >= 0) & (nearest < grid.shape)).all(axis=1))


def check_nodules(nodules: Findings, grid: Grid, lung: UInt8[np.ndarray, "z y x"]) -> dict[str, int]:
    """Count the annotated nodules, those whose centre lies in the crop, and those whose centre lies in its mask."""
    inside = in_crop(nodules, grid)
    z, y, x = np.rint(grid.to_index(nodules.centre_xyz_mm[inside])).astype(int).T
    return {"annotated": len(nodules), "in_crop": int(inside.sum()), "in_mask": int((lung[z, y, x] > 0).sum())}


def cut_patch(
    entry: Entry, start: Int64[np.ndarray, "3"], side: int, *, fill_outside_lungs: bool
) -> UInt8[np.ndarray, "z y x"]:
    """Cut a cube from its first voxel on; what lies beyond the crop is filled as the outside of the lungs is."""
    image = np.full((side,) * 3, OUTSIDE, np.uint8)
    low = np.clip(start, 0, entry.ct.shape)
    high = np.clip(start + side, 0, entry.ct.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    place = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    if fill_outside_lungs:
        np.copyto(image[place], entry.ct[source], where=entry.lung[source].view(bool))
    else:
        image[place] = entry.ct[source]
    return image


def centred_start(place_zyx: Float64[np.ndarray, "*n 3"], side: int) -> Int64[np.ndarray, "*n 3"]:
    """Give the first voxel of the patch in whose middle a place lies.

    >>> centred_start(np.array([10.0, 10.4, 3.6]), 8).tolist()
    [6, 7, 0]
    """
    return np.asarray(np.rint(place_zyx - (side - 1) / 2).astype(np.int64))


def position_in_crop(
    start: Sequence[int] | Int64[np.ndarray, "3"],
    stop: Sequence[int] | Int64[np.ndarray, "3"],
    crop: Sequence[int],
) -> Float32[np.ndarray, "3 2"]:
    """Give the places of a piece's first and last voxel along (z, y, x), the whole lung crop's being -1 and 1.

    A piece that reaches beyond the crop has places beyond -1 and 1.

    >>> position_in_crop((0, 4, -2), (5, 9, 9), (5, 9, 9)).tolist()
    [[-1.0, 1.0], [0.0, 1.0], [-1.5, 1.0]]
    """
    ends = np.stack([np.asarray(start), np.asarray(stop) - 1], axis=1)
    return np.asarray(2 * ends / np.maximum(np.asarray(crop) - 1, 1)[:, None] - 1, dtype=np.float32)
