"""Lung segmentation by rules on a coarse grid, with cures if the checks fail and the body's box as a fallback."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int16
from scipy import ndimage

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.air import drop_specks, find_lungs
from nodule_lightning.lungs.body import Body, measure_body
from nodule_lightning.lungs.checks import AERATED_HU, MAX_LEFT_OUT, enclosed_air, failed_checks, left_out
from nodule_lightning.lungs.cures import CURES, attempts, keep_lung_slices
from nodule_lightning.lungs.morphology import Mask, close, crop_to, dilate, fill_hulls, world_box
from nodule_lightning.lungs.rules import Lungs, Rules
from nodule_lightning.lungs.settings import ONE_LUNG, PIECES, LungSettings
from nodule_lightning.resampling import shrink, to_upright
from nodule_lightning.structures import Scan

FALLBACK_NOTE: Final = "no lung found: the body's box is used"
# Halfway between lung at its usual -850 HU and soft tissue.
_SURFACE_HU = -400
_LOST_RATIO = 20.0


@dataclass(frozen=True, slots=True)
class LungMask:
    """The segmented lungs of a scan, on a coarse grid.

    Attributes:
        lungs: the lungs, including vessels and nodules at the pleura.
        mask: what the network sees: the convex hulls of the lungs, dilated. Never empty.
        grid: the grid of both masks, a box around the lungs with a margin.
        low_xyz_mm: lowest world coordinates of the lungs before dilation.
        high_xyz_mm: highest world coordinates of the lungs before dilation.
        volume_l: air in the right and in the left lung; 0 if none was found.
        cures: the cures that were needed.
        failed: the checks that failed without a cure.
        touching: the borders of the scan that the lungs reach, and may extend beyond.
        found: False if the mask is the body's box instead of lungs.
        notes: notes for the report of the preparation.
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
    """Segment the lungs of a scan by the rules; if nothing looks like lungs, use the body's box.

    Args:
        scan: the CT.
        settings: the rules and the cures to try.
    """
    # The block mean also smooths: without it, the noise of a thin-slice scan would perforate the lungs.
    hu, grid = shrink(*to_upright(scan.hu, scan.grid), settings.coarse_mm)
    body = measure_body(hu < settings.threshold_hu, grid)
    # The hollow of a table is enclosed too, but it is elongated and dropped as a speck.
    aerated = drop_specks(enclosed_air(hu < AERATED_HU), grid, Rules.of(settings))
    failed: tuple[str, ...] = ()
    for cures in _worth_trying(settings, left_out(hu, aerated, settings.threshold_hu)):
        rules = Rules.of(settings)
        for name in cures:
            rules = CURES[name](rules)
        lungs, failing = _attempt(hu, grid, body, aerated, rules.scaled(body.scale))
        failed = failed if cures else failing
        if not failing:
            return build_mask(extend_to_surface(lungs, hu), body, settings, cures, failed)
    return body_box(body, grid, failed, f"{FALLBACK_NOTE} ({'; '.join(failed)})")


def skip_segmentation(scan: Scan, settings: LungSettings) -> LungMask:
    """Use the body's box without a search for lungs."""
    hu, grid = shrink(*to_upright(scan.hu, scan.grid), settings.coarse_mm)
    return body_box(measure_body(hu < settings.threshold_hu, grid), grid)


def extend_to_surface(lungs: Lungs, hu: Int16[np.ndarray, "z y x"]) -> Lungs:
    """Add the surface voxels that are more lung than wall; the threshold of the rules leaves them out."""
    mostly_lung = hu < _SURFACE_HU
    right, left = (lung | (ndimage.binary_dilation(lung) & mostly_lung) for lung in (lungs.right, lungs.left))
    return Lungs(right, left & ~right, lungs.grid)


def build_mask(
    lungs: Lungs, body: Body, settings: LungSettings, cures: tuple[str, ...] = (), failed: tuple[str, ...] = ()
) -> LungMask:
    """Build the mask of segmented lungs: close each lung, fill its convex hulls, dilate.

    Args:
        lungs: the air in the lungs.
        body: the patient.
        settings: the sizes in mm, and the limit of the hulls.
        cures: the cures that were needed.
        failed: the checks that failed without them.
    """
    margin_mm = settings.closing_mm + settings.dilation_mm
    box, near = crop_to(lungs.both, lungs.grid, margin_mm)
    # Each lung separately: a hull around both would include the heart.
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
    """Make a mask of the body's bounding box, which loses nothing."""
    box = np.zeros_like(body.inside)
    sides, _ = crop_to(body.inside, grid, 0)
    box[sides] = True
    return LungMask(box, box, grid, *world_box(box, grid), (0.0, 0.0), (), failed, (), False, notes)


def _worth_trying(settings: LungSettings, share_left_out: float) -> Iterator[tuple[str, ...]]:
    # A higher threshold is for dense lungs only: elsewhere it would merge separate parts.
    dense = share_left_out > MAX_LEFT_OUT
    return attempts(tuple(name for name in settings.cures if dense or name != PIECES))


def _attempt(
    hu: Int16[np.ndarray, "z y x"], grid: Grid, body: Body, aerated: Mask, rules: Rules
) -> tuple[Lungs, tuple[str, ...]]:
    air = drop_specks(hu < rules.threshold_hu, grid, rules)
    if rules.only_lung_slices:
        air = keep_lung_slices(air, grid, body)
    # A threshold for dense lungs counts thin places of the chest wall as air; room air is below `room_hu` in any case.
    thin = air & (hu < rules.room_hu) if rules.room_hu < rules.threshold_hu else None
    lungs = find_lungs(air, thin, grid, body, rules)
    return lungs, failed_checks(lungs, aerated & air, left_out(hu, aerated, rules.threshold_hu), body, rules)


def _touching(lungs: Mask) -> tuple[str, ...]:
    ends = (("feet", "head"), ("front", "back"), ("right", "left"))
    return tuple(
        name for axis in range(3) for name, end in zip(ends[axis], (0, -1), strict=True) if lungs.take(end, axis).any()
    )


def _mirrored(
    low: Float64[np.ndarray, "3"], high: Float64[np.ndarray, "3"], body: Body, grid: Grid
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Widen the box of one lung to both sides of the body: the rest of the other lung may hold a nodule."""
    middle = grid.to_world(np.array([[0.0, *np.divide(body.middle_yx_mm, grid.spacing_zyx_mm[1:])]]))[0, 0]
    reach = max(middle - low[0], high[0] - middle)
    wide_low, wide_high = low.copy(), high.copy()
    wide_low[0], wide_high[0] = min(low[0], middle - reach), max(high[0], middle + reach)
    return wide_low, wide_high
