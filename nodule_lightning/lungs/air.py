"""Separation of the air in the lungs from all other air, by rules.

All functions expect upright axial slices on a coarse grid, and are deterministic.
"""

import cc3d
import edt
import numpy as np
from jaxtyping import Float64, Int, Integer
from scipy import ndimage

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.body import Body, distance_to_middle_mm
from nodule_lightning.lungs.morphology import Mask, crop_to, label_in_slices, voxel_l
from nodule_lightning.lungs.rules import Lungs, Rules

_AIRWAY_MM2, _AIRWAY_OFFSET_MM, _AIRWAY_HEIGHT_MM = 900.0, 35.0, 25.0
_EROSION_STEP_MM, _EROSION_STEPS = 2.0, 12
_LUNGS_APART_MM = 70.0
_CORE_RATIO = 4.0
Labels = Integer[np.ndarray, "z y x"]


def find_lungs(air: Mask, thin: Mask | None, grid: Grid, body: Body, rules: Rules) -> Lungs:
    """Find the lungs in a mask of air: drop outside air and airway, keep plausible parts, separate the two lungs.

    Args:
        air: the voxels that may be lung.
        thin: the voxels of `air` that may be outside air; None if all may be.
        grid: the grid of both masks.
        body: the patient.
        rules: what counts as lung.
    """
    inner = remove_airway(drop_outer_air(air, thin, close_leaks=rules.close_leaks), grid, body)
    lungs = separate_lungs(keep_parts(inner, grid, body, rules), grid, body, rules)
    return add_other_side(lungs, inner, body) if rules.one_lung else lungs


def drop_specks(air: Mask, grid: Grid, rules: Rules) -> Mask:
    """Drop spots that are small or elongated, slice by slice."""
    labels, count = label_in_slices(air)
    if count == 0:
        return air
    pixel_mm2 = grid.spacing_zyx_mm[1] * grid.spacing_zyx_mm[2]
    area = np.bincount(labels.ravel(), minlength=count + 1)
    large = area * pixel_mm2 >= rules.min_speck_mm2
    large[0] = False
    return np.asarray((large & (_eccentricity(labels, area, grid) <= rules.max_eccentricity))[labels])


def drop_outer_air(air: Mask, thin: Mask | None = None, *, close_leaks: bool = False) -> Mask:
    """Drop air that is connected to the lateral sides of the scan. The first and last slice do not count as sides.

    Args:
        air: the mask of air.
        thin: the voxels of `air` as thin as room air; None if all are. The others are dropped only where they touch
            dropped air, as half-filled voxels at the skin do.
        close_leaks: let no connection pass that is at most two voxels wide.
    """
    passable = air if thin is None else thin
    wide = ndimage.binary_erosion(passable, border_value=1) if close_leaks else passable
    labels = cc3d.connected_components(wide, connectivity=6)
    is_outer = np.zeros(int(labels.max()) + 1, dtype=bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        is_outer[side] = True
    is_outer[0] = False
    outer = is_outer[labels]
    if steps := int(close_leaks) + int(thin is not None):
        outer = ndimage.binary_dilation(outer, iterations=steps)
    return np.asarray(air & ~outer)


def keep_parts(air: Mask, grid: Grid, body: Body, rules: Rules) -> Mask:
    """Keep the two largest parts of plausible volume near the middle of the body; touching lungs are one part."""
    labels: Labels = cc3d.connected_components(air, connectivity=6)
    volume_l = np.bincount(labels.ravel()) * voxel_l(grid)
    volume_l[0] = 0
    # The minimum is for both lungs together; a single lung has at least its share of it.
    plausible = np.flatnonzero((volume_l >= rules.min_volume_l / (1 + rules.max_ratio)) & (volume_l > 0))
    plausible = plausible[volume_l[plausible] <= rules.max_volume_l]
    near = [part for part in plausible if _mean_distance_mm(labels == part, grid, body, rules) < rules.max_distance_mm]
    largest = sorted(near, key=lambda part: -volume_l[part])[:2]
    return np.asarray(np.isin(labels, largest)) if largest else np.zeros_like(air)


def remove_airway(lungs: Mask, grid: Grid, body: Body) -> Mask:
    """Remove trachea and main bronchi: parts that are narrow in every slice, near the middle, and long."""
    labels, count = label_in_slices(lungs)
    area_mm2 = np.bincount(labels.ravel(), minlength=count + 1) * grid.spacing_zyx_mm[1] * grid.spacing_zyx_mm[2]
    narrow = area_mm2 <= _AIRWAY_MM2 * body.scale**2
    narrow[0] = False
    tubes: Labels = cc3d.connected_components(narrow[labels], connectivity=26)
    airway = np.zeros(int(tubes.max()) + 1, dtype=bool)
    statistics = cc3d.statistics(tubes)
    for part in range(1, len(airway)):
        z = statistics["bounding_boxes"][part][0]
        x_mm = statistics["centroids"][part][2] * grid.spacing_zyx_mm[2] - body.middle_yx_mm[1]
        long = (z.stop - z.start) * grid.spacing_zyx_mm[0] >= _AIRWAY_HEIGHT_MM * body.scale
        airway[part] = long and abs(x_mm) < _AIRWAY_OFFSET_MM * body.scale
    return np.asarray(lungs & ~airway[tubes])


def separate_lungs(lungs: Mask, grid: Grid, body: Body, rules: Rules) -> Lungs:
    """Separate the right lung from the left: erode until two cores remain, then assign each voxel to the nearer one.

    If no two cores of plausible size appear, all of it is one lung, on the side where most of it lies.
    """
    if not lungs.any():
        return Lungs(lungs, lungs, grid)
    box, near = crop_to(lungs, grid, 0)
    part = lungs[box]
    right, left = _split(part, near, body, rules)
    pair = []
    for lung in (right, left):
        whole = np.zeros_like(lungs)
        whole[box] = lung
        pair.append(whole)
    if right.any() and left.any():
        return Lungs(pair[0], pair[1], grid)
    side_mm = np.nonzero(lungs)[2].mean() * grid.spacing_zyx_mm[2] - body.middle_yx_mm[1]
    return Lungs(pair[1], pair[0], grid) if side_mm > 0 else Lungs(pair[0], pair[1], grid)


def add_other_side(lungs: Lungs, air: Mask, body: Body) -> Lungs:
    """Complement a single lung with the air on the other side of the body's middle, at the same height."""
    found, grid = lungs.both, lungs.grid
    if not found.any() or (lungs.right.any() and lungs.left.any()):
        return lungs
    slices = np.flatnonzero(found.any(axis=(1, 2)))
    middle = round(body.middle_yx_mm[1] / grid.spacing_zyx_mm[2])
    other = np.zeros_like(found)
    columns = slice(middle, None) if lungs.right.any() else slice(None, middle)
    other[slices[0] : slices[-1] + 1, :, columns] = air[slices[0] : slices[-1] + 1, :, columns]
    other &= ~found
    return Lungs(found, other, grid) if lungs.right.any() else Lungs(other, found, grid)


def _split(lungs: Mask, grid: Grid, body: Body, rules: Rules) -> tuple[Mask, Mask]:
    depth_mm = edt.edt(lungs, anisotropy=grid.spacing_zyx_mm)
    for step in range(_EROSION_STEPS):
        labels: Labels = cc3d.connected_components(depth_mm > step * _EROSION_STEP_MM * body.scale, connectivity=6)
        size = np.bincount(labels.ravel())
        size[0] = 0
        if len(size) < 3:
            continue
        first, second = (int(part) for part in np.argsort(-size, kind="stable")[:2])
        # Erosion takes a larger share of a small lung: the cores may differ more than the lungs.
        if size[first] > _CORE_RATIO * rules.max_ratio * size[second]:
            continue
        if not _side_by_side(labels, first, second, grid, body):
            continue
        right, left = _assign_to_nearer(lungs, labels == first, labels == second, grid)
        if max(right.sum(), left.sum()) <= rules.max_ratio * min(right.sum(), left.sum()):
            return right, left
    return lungs, np.zeros_like(lungs)


def _side_by_side(labels: Labels, first: int, second: int, grid: Grid, body: Body) -> bool:
    # The lobes of one lung separate too, but lie above each other.
    one, other = (np.nonzero(labels == part)[2].mean() * grid.spacing_zyx_mm[2] for part in (first, second))
    return bool(abs(one - other) >= _LUNGS_APART_MM * body.scale)


def _assign_to_nearer(lungs: Mask, one: Mask, other: Mask, grid: Grid) -> tuple[Mask, Mask]:
    to_one, to_other = (edt.edt(~core, anisotropy=grid.spacing_zyx_mm) for core in (one, other))
    first, second = lungs & (to_one <= to_other), lungs & (to_one > to_other)
    if np.nonzero(first)[2].mean() > np.nonzero(second)[2].mean():
        return second, first
    return first, second


def _mean_distance_mm(part: Mask, grid: Grid, body: Body, rules: Rules) -> float:
    """Return the smallest distance to the body's middle, averaged over the slices where the part is large."""
    area_mm2 = part.sum(axis=(1, 2)) * grid.spacing_zyx_mm[1] * grid.spacing_zyx_mm[2]
    large = part[area_mm2 > rules.min_slice_mm2]
    if not len(large):
        return float("inf")
    distance = np.where(large, distance_to_middle_mm(body, grid), np.inf)
    return float(distance.min(axis=(1, 2)).mean())


def _eccentricity(labels: Labels, area: Int[np.ndarray, "part"], grid: Grid) -> Float64[np.ndarray, "part"]:
    """Return the eccentricity of the ellipse with the same moments as each spot; 0 is a circle."""
    z, y, x = np.nonzero(labels)
    del z
    part = labels[labels > 0]
    dy, dx = grid.spacing_zyx_mm[1:]

    def mean(values: Float64[np.ndarray, "voxel"]) -> Float64[np.ndarray, "part"]:
        return np.asarray(np.bincount(part, weights=values, minlength=len(area)) / np.maximum(area, 1))

    middle_y, middle_x = mean(y * dy), mean(x * dx)
    off_y, off_x = y * dy - middle_y[part], x * dx - middle_x[part]
    # The second term is the variance of a square pixel.
    yy, xx, xy = mean(off_y**2) + dy**2 / 12, mean(off_x**2) + dx**2 / 12, mean(off_y * off_x)
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    major, minor = (yy + xx) / 2 + spread, (yy + xx) / 2 - spread
    return np.asarray(np.sqrt(np.clip(1 - minor / major, 0, 1)))
