"""A small picture of a scan before and after the lung crop."""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8
from PIL import Image

from nodule_lightning.boxes import OUTSIDE
from nodule_lightning.geometry import Grid
from nodule_lightning.structures import Entry, Scan

PIXEL_MM: Final = 2.0
BOX_RGB: Final = (213, 94, 0)
LUNG_RGB: Final = (86, 180, 233)
_QUALITY: Final = 75
_LOW_HU, _HIGH_HU = -1200, 600
Plane = Float64[np.ndarray, "row column 3"]


def draw_crop(scan: Scan, entry: Entry) -> bytes:
    """Draw the axial and the coronal slice with most lung: raw with crop and mask, then as the network sees them.

    Returns:
        A JPEG with the two raw slices, then the two of the crop, all at 2 mm per pixel.
    """
    z, y = (int(entry.lung.sum(axis=axes, dtype=np.int64).argmax()) for axes in ((1, 2), (0, 2)))
    (_, world_y, world_z) = entry.grid.to_world(np.array([[z, y, 0.0]]))[0]
    whole, crop = (_world_box(grid) for grid in (scan.grid, entry.grid))
    panels = []
    for low, high in (whole, crop):
        for across, depth in ((1, world_z), (2, world_y)):
            panels.append(_plane(low, high, across, float(depth)))
    pictures = [_before(scan, entry, plane) for plane in panels[:2]] + [_after(entry, plane) for plane in panels[2:]]
    buffer = BytesIO()
    Image.fromarray(_beside(pictures)).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _plane(low: Float64[np.ndarray, "3"], high: Float64[np.ndarray, "3"], across: int, depth_mm: float) -> Plane:
    """Return the world positions of pixels over a box: axial if `across` is 1 (y down), coronal if it is 2 (z up)."""
    columns = np.arange(low[0], high[0] + 1e-6, PIXEL_MM)
    rows = np.arange(low[across], high[across] + 1e-6, PIXEL_MM)
    rows = rows[::-1] if across == 2 else rows
    plane = np.empty((len(rows), len(columns), 3))
    plane[..., 0] = columns
    plane[..., across] = rows[:, None]
    plane[..., 3 - across] = depth_mm
    return plane


def _look_up(
    values: Shaped[np.ndarray, "z y x"], grid: Grid, plane: Plane, outside: int
) -> Shaped[np.ndarray, "row column"]:
    index = np.rint(grid.to_index(plane.reshape(-1, 3))).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    seen: Shaped[np.ndarray, pixel] = np.full(len(index), outside, dtype=values.dtype)
    seen[inside] = values[tuple(index[inside].T)]
    return seen.reshape(plane.shape[0], plane.shape[1])


def _before(scan: Scan, entry: Entry, plane: Plane) -> UInt8[np.ndarray, "row column 3"]:
    hu = _look_up(scan.hu, scan.grid, plane, _LOW_HU).astype(np.float64)
    grey = ((hu - _LOW_HU) / (_HIGH_HU - _LOW_HU) * 255).clip(0, 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[_edge(_look_up(entry.lung, entry.grid, plane, 0).astype(bool))] = LUNG_RGB
    index = entry.grid.to_index(plane.reshape(-1, 3))
    in_crop = ((index >= -0.5) & (index <= np.array(entry.grid.shape) - 0.5)).all(axis=1)
    picture[_edge(np.asarray(in_crop).reshape(plane.shape[0], plane.shape[1]))] = BOX_RGB
    return picture


def _after(entry: Entry, plane: Plane) -> UInt8[np.ndarray, "row column 3"]:
    grey = _look_up(entry.ct, entry.grid, plane, OUTSIDE)
    grey[_look_up(entry.lung, entry.grid, plane, 0) == 0] = OUTSIDE
    return np.repeat(grey[..., None], 3, axis=2)


def _edge(mask: Bool[np.ndarray, "row column"]) -> Bool[np.ndarray, "row column"]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def _beside(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "row column 3"]:
    gap, height = 4, max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] + gap for picture in pictures) - gap
    whole = np.full((height, width, 3), 255, dtype=np.uint8)
    left = 0
    for picture in pictures:
        whole[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return whole


def _world_box(grid: Grid) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    corners = grid.corners_xyz_mm()
    return corners.min(axis=0), corners.max(axis=0)
