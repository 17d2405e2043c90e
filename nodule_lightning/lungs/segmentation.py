"""Find the lungs on a coarse grid: a threshold, connected components, and a closing."""

from dataclasses import dataclass

import cc3d
import edt
import numpy as np
from jaxtyping import Bool, Float64, Integer
from scipy import ndimage

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.resampling import shrink
from nodule_lightning.structures import Scan

FALLBACK_NOTE = "no lung found: the body's box is used"


@dataclass(frozen=True, slots=True)
class LungSettings:
    """How the lungs are found.

    Attributes:
        coarse_mm: the grid of the search; a voxel is the mean of a block at most this wide.
        threshold_hu: what is below is air.
        min_radius_mm: a part of the lungs, its vessels taken in, holds a ball this large; the foam of a table and
            bowel gas do not.
        min_volume_l: the least air of both lungs. Adults have at least 0.68 l; phantoms are smaller.
        max_volume_l: the most air of both lungs; what has more is the room.
        closing_mm: vessels, and nodules at the pleura, up to twice this wide are taken into the lungs.
        dilation_mm: how far the mask then goes beyond the lungs.
    """

    coarse_mm: float = 3.0
    threshold_hu: float = -600.0
    min_radius_mm: float = 15.0
    min_volume_l: float = 0.2
    max_volume_l: float = 9.0
    closing_mm: float = 10.0
    dilation_mm: float = 8.0

    def __post_init__(self) -> None:
        if self.coarse_mm <= 0 or self.closing_mm < 0 or self.dilation_mm < 0:
            raise InputError("lungs: coarse_mm must be positive, closing_mm and dilation_mm not negative")
        if not 0 <= self.min_volume_l < self.max_volume_l:
            raise InputError(f"lungs: min_volume_l {self.min_volume_l} is not below max_volume_l {self.max_volume_l}")


@dataclass(frozen=True, slots=True)
class LungMask:
    """Where the lungs are, on a coarse grid.

    Attributes:
        mask: the lungs with vessels and pleural nodules taken in, dilated. Never empty.
        grid: the grid of the mask, some way around the lungs.
        low_xyz_mm: least world place of the lungs before dilation.
        high_xyz_mm: greatest world place of the lungs before dilation.
        volume_l: air of the lungs; 0 where none was found.
        found: False where the body's box stands in for the lungs.
        notes: what a reader of the preparation's report should know.
    """

    mask: Bool[np.ndarray, "z y x"]
    grid: Grid
    low_xyz_mm: Float64[np.ndarray, "3"]
    high_xyz_mm: Float64[np.ndarray, "3"]
    volume_l: float
    found: bool
    notes: tuple[str, ...]


def segment_lungs(scan: Scan, settings: LungSettings) -> LungMask:
    """Find the lungs of a scan; where nothing looks like lungs, the body's box takes their place."""
    # The block mean is also the smoothing: without it the noise of a thin-slice scan would perforate the lungs.
    hu, grid = shrink(scan.hu, scan.grid, settings.coarse_mm)
    air = hu < settings.threshold_hu
    inner, near = _crop(_inner_air(air, grid), grid, settings.closing_mm + settings.dilation_mm)
    lungs = _two_largest(inner, near, settings)
    volume_l = float(lungs.sum()) * _voxel_l(grid)
    if not settings.min_volume_l <= volume_l <= settings.max_volume_l:
        body = _body_box(air)
        return LungMask(body, grid, *_world_box(body, grid), 0.0, False, (FALLBACK_NOTE,))
    closed = ndimage.binary_fill_holes(_close(lungs, near, settings.closing_mm))
    dilated = _dilate(closed, near, settings.dilation_mm)
    return LungMask(dilated, near, *_world_box(closed, near), volume_l, True, ())


def _inner_air(air: Bool[np.ndarray, "z y x"], grid: Grid) -> Bool[np.ndarray, "z y x"]:
    """Drop the air that reaches the scan's sides; the first and last slices are no sides, lungs may reach them."""
    labels = cc3d.connected_components(air, connectivity=6)
    # A scan may be stored in sagittal or coronal slices: the axis nearest to the world's z is the patient's.
    axial = 2 - int(np.argmax(np.abs(grid.direction[6:])))
    sides = [np.take(labels, end, axis).ravel() for axis in range(3) if axis != axial for end in (0, -1)]
    is_outer = np.zeros(int(labels.max()) + 1, dtype=bool)
    is_outer[np.concatenate(sides)] = True
    return np.asarray(air & ~is_outer[labels])


def _crop(mask: Bool[np.ndarray, "z y x"], grid: Grid, margin_mm: float) -> tuple[Bool[np.ndarray, "Z Y X"], Grid]:
    """Cut off what lies further than a margin from the mask: the distances cost by the voxel."""
    if not mask.any():
        return mask, grid
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    margin = np.ceil(margin_mm / np.array(grid.spacing_zyx_mm)).astype(int) + 1
    start = np.maximum([side.start for side in box] - margin, 0)
    stop = np.minimum([side.stop for side in box] + margin, grid.shape)
    return mask[tuple(map(slice, start, stop))], grid.crop(start, stop)


def _two_largest(air: Bool[np.ndarray, "z y x"], grid: Grid, settings: LungSettings) -> Bool[np.ndarray, "z y x"]:
    """Keep the two largest parts that are as thick as lungs; both lungs are one part where the airway joins them."""
    labels: Integer[np.ndarray, "z y x"] = cc3d.connected_components(air, connectivity=6)
    count = int(labels.max())
    if count == 0:
        return air
    depth_mm = edt.edt(_close(air, grid, settings.closing_mm), anisotropy=grid.spacing_zyx_mm)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    thick = np.unique(labels[air & (depth_mm >= settings.min_radius_mm)])
    plausible = thick[size[thick] * _voxel_l(grid) <= settings.max_volume_l]
    largest = plausible[np.argsort(-size[plausible], kind="stable")[:2]]
    is_lung = np.zeros(count + 1, dtype=bool)
    is_lung[largest] = True
    return np.asarray(is_lung[labels])


def _dilate(mask: Bool[np.ndarray, "z y x"], grid: Grid, radius_mm: float) -> Bool[np.ndarray, "z y x"]:
    if not mask.any():
        return mask
    wider: Bool[np.ndarray, "z y x"] = edt.edt(~mask, anisotropy=grid.spacing_zyx_mm) <= radius_mm
    return wider


def _close(mask: Bool[np.ndarray, "z y x"], grid: Grid, radius_mm: float) -> Bool[np.ndarray, "z y x"]:
    # Beyond the scan counts as inside, so lungs cut off by the first or last slice are not eaten from there.
    dilated = _dilate(mask, grid, radius_mm)
    closed: Bool[np.ndarray, "z y x"] = edt.edt(dilated, anisotropy=grid.spacing_zyx_mm) > radius_mm
    return closed


def _body_box(air: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Fill the box of the largest thing that is not air; all of the scan where there is none."""
    labels: Integer[np.ndarray, "z y x"] = cc3d.connected_components(~air, connectivity=6)
    if labels.max() == 0:
        return np.ones_like(air)
    body = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    box = np.zeros_like(air)
    box[ndimage.find_objects((labels == body).astype(np.uint8))[0]] = True
    return box


def _world_box(
    mask: Bool[np.ndarray, "z y x"], grid: Grid
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Give the least and greatest world place of a mask's voxels, their own extent counted in."""
    world = grid.to_world(np.argwhere(mask).astype(np.float64))
    half = max(grid.spacing_zyx_mm) / 2
    return world.min(axis=0) - half, world.max(axis=0) + half


def _voxel_l(grid: Grid) -> float:
    return float(np.prod(grid.spacing_zyx_mm)) / 1e6
