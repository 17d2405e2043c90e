"""The body on the coarse grid: where its middle is and how large it is, so that the rules can follow it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.morphology import Mask, label_in_slices

# The slices of a slim adult's chest are about this large; LIDC-IDRI-0001 and 0002 have 58,000 and 63,000 mm2.
ADULT_SLICE_MM2: Final = 50_000.0


@dataclass(frozen=True, slots=True)
class Body:
    """The patient without the table, the arms only where they touch.

    Attributes:
        inside: the body, its lungs and gas taken in. The largest thing of each slice.
        middle_yx_mm: the middle of the body in mm from the middle of voxel (0, 0) of each slice.
        scale: 1 for adults; smaller for a smaller body: the root of its slices' area.
    """

    inside: Mask
    middle_yx_mm: tuple[float, float]
    scale: float


def measure_body(air: Mask, grid: Grid) -> Body:
    """Find the body: what is neither air that reaches the sides of its slice, nor loose from the largest thing there.

    Args:
        air: what is air, in upright axial slices.
        grid: where it lies.
    """
    inside = _largest_in_slices(~_open_to_sides(air))
    area_mm2 = inside.sum(axis=(1, 2)) * _pixel_mm2(grid)
    if not area_mm2.any():
        inside = np.ones_like(air)
        area_mm2 = inside.sum(axis=(1, 2)) * _pixel_mm2(grid)
    # The upper quarter: a scan that begins at the head has many small slices.
    scale = min(1.0, float(np.sqrt(np.percentile(area_mm2[area_mm2 > 0], 75) / ADULT_SLICE_MM2)))
    _, y, x = np.nonzero(inside)
    middle = (float(np.mean(y)) * grid.spacing_zyx_mm[1], float(np.mean(x)) * grid.spacing_zyx_mm[2])
    return Body(inside, middle, scale)


def distance_to_middle_mm(body: Body, grid: Grid) -> Float64[np.ndarray, "y x"]:
    """Measure how far each pixel of a slice lies from the body's middle."""
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
