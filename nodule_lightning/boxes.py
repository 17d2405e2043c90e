"""Findings as boxes in voxels, and patches of prepared scans; shared by preparation, training and search.

A box is (z, y, x, diameter) in voxels of an entry or of a patch.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Entry, Findings

NOTHING, NODULE, IGNORED = 0, 1, 2
"""Kinds of box in a batch: padding, a nodule, and a finding that is neither positive nor negative."""

OUTSIDE: Final = 170
"""Grey value outside the lungs and beyond the edge of the volume: soft tissue, as in grt123."""


def voxel_boxes(findings: Findings, entry: Entry) -> Float64[np.ndarray, "n 4"]:
    """Convert findings to boxes (z, y, x, diameter) in voxels of the entry."""
    centre = entry.grid.to_index(findings.centre_xyz_mm)
    return np.concatenate([centre, findings.effective_diameter_mm()[:, None] / entry.grid.spacing_zyx_mm[0]], axis=1)


def visible(boxes: Float64[np.ndarray, "n 4"], lung: UInt8[np.ndarray, "z y x"]) -> Bool[np.ndarray, "n"]:
    """Return which boxes have their centre in the lung mask; a detector can neither see nor report the others."""
    cell = np.rint(boxes[:, :3]).astype(np.int64)
    inside = ((cell >= 0) & (cell < lung.shape)).all(axis=1)
    inside[inside] = lung[tuple(cell[inside].T)] > 0
    return np.asarray(inside)


def in_crop(findings: Findings, grid: Grid) -> Bool[np.ndarray, "n"]:
    """Return which findings have their centre in a voxel of the crop."""
    nearest = np.rint(grid.to_index(findings.centre_xyz_mm))
    return np.asarray(((nearest >= 0) & (nearest < grid.shape)).all(axis=1))


def check_nodules(nodules: Findings, grid: Grid, lung: UInt8[np.ndarray, "z y x"]) -> dict[str, int]:
    """Count the annotated nodules, those with their centre in the crop, and those with their centre in its mask.

    Returns:
        The counts `annotated`, `in_crop` and `in_mask`.
    """
    inside = in_crop(nodules, grid)
    z, y, x = np.rint(grid.to_index(nodules.centre_xyz_mm[inside])).astype(int).T
    return {"annotated": len(nodules), "in_crop": int(inside.sum()), "in_mask": int((lung[z, y, x] > 0).sum())}


def cut_patch(
    entry: Entry, start: Int64[np.ndarray, "3"], side: int, *, fill_outside_lungs: bool
) -> UInt8[np.ndarray, "z y x"]:
    """Cut a cubic patch out of an entry.

    Args:
        entry: the prepared scan.
        start: first voxel (z, y, x) of the patch; may be negative.
        side: edge of the patch in voxels.
        fill_outside_lungs: set voxels outside the lung mask to `OUTSIDE`, as those beyond the crop always are.
    """
    image = np.full((side,) * 3, OUTSIDE, np.uint8)
    source, place = _overlap(entry, start, side)
    if fill_outside_lungs:
        np.copyto(image[place], entry.ct[source], where=entry.lung[source].view(bool))
    else:
        image[place] = entry.ct[source]
    return image


def cut_outlines(entry: Entry, start: Int64[np.ndarray, "3"], side: int) -> UInt8[np.ndarray, "z y x"] | None:
    """Cut the readers' outlines as `cut_patch` cuts the image; None if the entry has none."""
    if entry.outlines is None:
        return None
    outlines = np.zeros((side,) * 3, np.uint8)
    source, place = _overlap(entry, start, side)
    outlines[place] = entry.outlines[source]
    return outlines


def _overlap(entry: Entry, start: Int64[np.ndarray, "3"], side: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of an entry that a patch shows, and its place in the patch."""
    low = np.clip(start, 0, entry.ct.shape)
    high = np.clip(start + side, 0, entry.ct.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    place = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    return source, place


def centred_start(place_zyx: Float64[np.ndarray, "*n 3"], side: int) -> Int64[np.ndarray, "*n 3"]:
    """Return the first voxel of the patch that is centred on a position.

    >>> centred_start(np.array([10.0, 10.4, 3.6]), 8).tolist()
    [6, 7, 0]
    """
    return np.asarray(np.rint(place_zyx - (side - 1) / 2).astype(np.int64))


def position_in_crop(
    start: Sequence[int] | Int64[np.ndarray, "3"],
    stop: Sequence[int] | Int64[np.ndarray, "3"],
    crop: Sequence[int],
) -> Float32[np.ndarray, "3 2"]:
    """Return the positions of a patch's first and last voxel along (z, y, x), relative to the lung crop.

    The first and last voxel of the crop are -1 and 1; a patch that reaches beyond the crop goes beyond them.

    >>> position_in_crop((0, 4, -2), (5, 9, 9), (5, 9, 9)).tolist()
    [[-1.0, 1.0], [0.0, 1.0], [-1.5, 1.0]]
    """
    ends = np.stack([np.asarray(start), np.asarray(stop) - 1], axis=1)
    return np.asarray(2 * ends / np.maximum(np.asarray(crop) - 1, 1)[:, None] - 1, dtype=np.float32)
