"""Measurement of the body on the coarse grid: its middle and its size, which scale the rules."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.morphology import Mask, label_in_slices

# The area of a slice through a slim adult's chest. LIDC-IDRI-0001 and 0002 have 58,000 and 63,000 mm2.
ADULT_SLICE_MM2: Final = 50_000.0


@dataclass(frozen=True, slots=True)
class Body:
    """The patient without the table; arms are included only where they touch the body.

    Attributes:
        inside: mask of the body including lungs and gas: the largest connected part of each slice.
        middle_yx_mm: the middle of the body in mm from the centre of voxel (0, 0) of each slice.
        scale: linear size relative to an adult, at most 1: the root of the ratio of the slice areas.
    """

    inside: Mask
    middle_yx_mm: tuple[float, float]
    scale: float


def measure_body(air: Mask, grid: Grid) -> Body:
    """Find the body: in each slice, the largest part that is not air connected to the sides of the slice.

    Args:
        air: the mask of air, in upright axial slices.
        grid: its grid.
    """
    inside = _largest_in_slices(~_open_to_sides(air))
    area_mm2 = inside.sum(axis=(1, 2)) * _pixel_mm2(grid)
    if not area_mm2.any():
        inside = np.ones_like(air)
        area_mm2 = inside.sum(axis=(1, 2)) * _pixel_mm2(grid)
    # The upper quartile, because a scan that begins at the head has many small slices.
    scale = min(1.0, float(np.sqrt(np.percentile(area_mm2[area_mm2 > 0], 75) / ADULT_SLICE_MM2)))
    _, y, x = np.nonzero(inside)
    middle = (float(np.mean(y)) * grid.spacing_zyx_mm[1], float(np.mean(x)) * grid.spacing_zyx_mm[2])
    return Body(inside, middle, scale)


def distance_to_middle_mm(body: Body, grid: Grid) -> Float64[np.ndarray, "y x"]:
    """Return the distance of each pixel of a slice to the body's middle."""
    y, x = (np.arange(count) * step for count, step in zip(grid.shape[1:], grid.spacing_zyx_mm[1:], strict=True))
    distance: Float64[np.ndarray, "y x"] = np.hypot(
        y[:, None] - body.middle_yx_mm[0], x[None, :] - body.middle_yx_mm[1]
    )
    return distance


def _open_to_sides(air: Mask) -> Mask:
    labels, count = label_in_slices(air)
    is_open = np.zeros(count + 1, dtype=bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        is_open[side] = True
    is_open[0] = False
    return np.asarray(is_open[labels])


def _largest_in_slices(mask: Mask) -> Mask:
    labels, count = label_in_slices(mask)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    largest: Bool[np.ndarray, part] = np.zeros(count + 1, dtype=bool)
    for plane in labels:
        present = np.unique(plane)
        largest[present[np.argmax(size[present])]] = True
    largest[0] = False
    return np.asarray(largest[labels])


def _pixel_mm2(grid: Grid) -> float:
    return grid.spacing_zyx_mm[1] * grid.spacing_zyx_mm[2]
