"""Find the lungs on a coarse grid by rules; when the checks fail, try the cures; when all fail, take the body's box."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int16
from scipy import ndimage

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.air import drop_specks, find_lungs
from nodule_lightning.lungs.body import Body, measure_body
from nodule_lightning.lungs.checks import LOOSE_HU, MAX_LEFT_OUT, enclosed_air, failed_checks, left_out
from nodule_lightning.lungs.cures import CURES, attempts, keep_lung_slices
from nodule_lightning.lungs.morphology import Mask, close, crop_to, dilate, fill_hulls, world_box
from nodule_lightning.lungs.rules import Lungs, Rules
from nodule_lightning.lungs.settings import ONE_LUNG, PIECES, LungSettings
from nodule_lightning.resampling import shrink, stand_upright
from nodule_lightning.structures import Scan

FALLBACK_NOTE: Final = "no lung found: the body's box is used"
# Halfway between the lungs at their usual -850 HU and soft tissue.
_SURFACE_HU = -400
_LOST_RATIO = 20.0


@dataclass(frozen=True, slots=True)
class LungMask:
    """Where the lungs are, on a coarse grid.

    Attributes:
        lungs: the lungs, vessels and nodules at the pleura taken in.
        mask: what the network looks at: their convex hulls, dilated. Never empty.
        grid: the grid of both, some way around the lungs.
        low_xyz_mm: least world place of the lungs before dilation.
        high_xyz_mm: greatest world place of the lungs before dilation.
        volume_l: air of the right and of the left lung; 0 where none was found.
        cures: the cures that were needed.
        failed: the checks that failed without a cure.
        touching: the borders of the scan that the lungs reach, beyond which they may go on.
        found: False where the body's box stands in for the lungs.
        notes: what a reader of the preparation's report should know.
    """

    lungs: Mask
    mask: Mask
    grid: Grid
    low_xyz_mm: Float64[np.ndarray, "3"]
    high_xyz_mm: Float64[np.ndarray, "3"]
    volume_l: tuple[float, float]
    cures: tuple[str, ...]
    failed: tuple[str, ...]
    touching: tuple[str, ...]
    found: bool
    notes: tuple[str, ...]


def segment_lungs(scan: Scan, settings: LungSettings) -> LungMask:
    """Find the lungs of a scan by the rules; where nothing looks like lungs, the body's box takes their place."""
    # The block mean is also the smoothing: without it the noise of a thin-slice scan would perforate the lungs.
    hu, grid = shrink(*stand_upright(scan.hu, scan.grid), settings.coarse_mm)
    body = measure_body(hu < settings.threshold_hu, grid)
    # A table's hollow is enclosed too, but long and thin.
    loose = drop_specks(enclosed_air(hu < LOOSE_HU), grid, Rules.of(settings))
    failed: tuple[str, ...] = ()
    for cures in _worth_trying(settings, left_out(hu, loose, settings.threshold_hu)):
        rules = Rules.of(settings)
        for name in cures:
            rules = CURES[name](rules)
        lungs, failing = _attempt(hu, grid, body, loose, rules.scaled(body.scale))
        failed = failed if cures else failing
        if not failing:
            return finish(reach_surface(lungs, hu), body, settings, cures, failed)
    return body_box(body, grid, failed, f"{FALLBACK_NOTE} ({'; '.join(failed)})")


def box_body(scan: Scan, settings: LungSettings) -> LungMask:
    """Take the body's box without a search for lungs."""
    hu, grid = shrink(*stand_upright(scan.hu, scan.grid), settings.coarse_mm)
    return body_box(measure_body(hu < settings.threshold_hu, grid), grid)


def reach_surface(lungs: Lungs, hu: Int16[np.ndarray, "z y x"]) -> Lungs:
    """Add the voxels at the surface that are more lung than wall: the rules' threshold lies far on the lung's side."""
    mostly_lung = hu < _SURFACE_HU
    right, left = (lung | (ndimage.binary_dilation(lung) & mostly_lung) for lung in (lungs.right, lungs.left))
    return Lungs(right, left & ~right, lungs.grid)


def finish(
    lungs: Lungs, body: Body, settings: LungSettings, cures: tuple[str, ...] = (), failed: tuple[str, ...] = ()
) -> LungMask:
    """Make the mask of found lungs: close each, fill its hulls, dilate."""
    margin_mm = settings.closing_mm + settings.dilation_mm
    box, near = crop_to(lungs.both, lungs.grid, margin_mm)
    # Each lung for itself: a hull around both would take in the heart.
    right, left = (close(lung[box], near, settings.closing_mm) for lung in (lungs.right, lungs.left))
    closed = right | left
    hulls = fill_hulls(right, settings.hull_growth) | fill_hulls(left, settings.hull_growth)
    mask = dilate(hulls, near, settings.dilation_mm)
    low, high = world_box(closed, near)
    if ONE_LUNG in cures and lungs.ratio > _LOST_RATIO:
        low, high = _mirrored(low, high, body, lungs.grid)
    notes = (f"cured by {' and '.join(cures)} ({'; '.join(failed)})",) if cures else ()
    return LungMask(closed, mask, near, low, high, lungs.volume_l, cures, failed, _touching(lungs.both), True, notes)


def body_box(body: Body, grid: Grid, failed: tuple[str, ...] = (), *notes: str) -> LungMask:
    """Fill the box of the body; nothing of it is lost."""
    box = np.zeros_like(body.inside)
    sides, _ = crop_to(body.inside, grid, 0)
    box[sides] = True
    return LungMask(box, box, grid, *world_box(box, grid), (0.0, 0.0), (), failed, (), False, notes)


def _worth_trying(settings: LungSettings, share_left_out: float) -> Iterator[tuple[str, ...]]:
    # A higher threshold is for dense lungs alone: it would also join what does not belong together.
    dense = share_left_out > MAX_LEFT_OUT
    return attempts(tuple(name for name in settings.cures if dense or name != PIECES))


def _attempt(
    hu: Int16[np.ndarray, "z y x"], grid: Grid, body: Body, loose: Mask, rules: Rules
) -> tuple[Lungs, tuple[str, ...]]:
    air = drop_specks(hu < rules.threshold_hu, grid, rules)
    if rules.only_lung_slices:
        air = keep_lung_slices(air, grid, body)
    # A threshold for dense lungs makes air of thin places in the chest wall; the room's air is thin all the same.
    thin = air & (hu < rules.room_hu) if rules.room_hu < rules.threshold_hu else None
    lungs = find_lungs(air, thin, grid, body, rules)
    return lungs, failed_checks(lungs, loose & air, left_out(hu, loose, rules.threshold_hu), body, rules)


def _touching(lungs: Mask) -> tuple[str, ...]:
    ends = (("feet", "head"), ("front", "back"), ("right", "left"))
    return tuple(
        name for axis in range(3) for name, end in zip(ends[axis], (0, -1), strict=True) if lungs.take(end, axis).any()
    )


def _mirrored(
    low: Float64[np.ndarray, "3"], high: Float64[np.ndarray, "3"], body: Body, grid: Grid
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Widen the box of one lung to the other side of the body: a nodule may lie in what is left of the other lung."""
    middle = grid.to_world(np.array([[0.0, *np.divide(body.middle_yx_mm, grid.spacing_zyx_mm[1:])]]))[0, 0]
    reach = max(middle - low[0], high[0] - middle)
    wide_low, wide_high = low.copy(), high.copy()
    wide_low[0], wide_high[0] = min(low[0], middle - reach), max(high[0], middle + reach)
    return wide_low, wide_high
