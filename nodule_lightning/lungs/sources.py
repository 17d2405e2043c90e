"""The sources of the lung mask: the rules, LUNA16's own masks, the `lungmask` package, or the body's box."""

from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Integer

from nodule_lightning.errors import InputError
from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.body import measure_body
from nodule_lightning.lungs.morphology import Mask
from nodule_lightning.lungs.rules import Lungs
from nodule_lightning.lungs.segmentation import LungMask, build_mask, segment_lungs, skip_segmentation
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.resampling import from_upright, shrink, to_upright
from nodule_lightning.structures import Scan

# The labels of the two lungs. LUNA16 also labels the trachea, as 5.
LUNA16_LABELS: Final = (3, 4)
LUNGMASK_LABELS: Final = (1, 2)
_WHOLE = 1000


def locate_lungs(scan: Scan, settings: LungSettings, luna16_labels: np.ndarray | None = None) -> LungMask:
    """Find the lungs of a scan with the source that the settings name.

    Args:
        scan: the CT.
        settings: the source, and how the mask is built from it.
        luna16_labels: LUNA16's mask of this scan, on its grid; None if there is none.

    Raises:
        InputError: `lungmask` is not installed or cannot download its weights.
    """
    if settings.source == "none":
        return skip_segmentation(scan, settings)
    if settings.source == "lungmask":
        return from_labels(scan, _apply_lungmask(scan), LUNGMASK_LABELS, settings)
    if settings.source == "luna16_masks":
        if luna16_labels is not None:
            return from_labels(scan, luna16_labels, LUNA16_LABELS, settings)
        return _by_rules(scan, settings, "LUNA16 has no mask of it")
    return segment_lungs(scan, settings)


def from_labels(
    scan: Scan, labels: Integer[np.ndarray, "z y x"], wanted: tuple[int, int], settings: LungSettings
) -> LungMask:
    """Take the lungs from a label map on the scan's grid; if it holds none, fall back to the rules."""
    hu, grid = shrink(*to_upright(scan.hu, scan.grid), settings.coarse_mm)
    one, other = (_mostly(labels == label, scan.grid, settings.coarse_mm) for label in wanted)
    lungs = Lungs(one, other, grid)
    if not lungs.both.any():
        return _by_rules(scan, settings, "its lung mask is empty")
    return build_mask(_ordered_by_side(lungs), measure_body(hu < settings.threshold_hu, grid), settings)


def _by_rules(scan: Scan, settings: LungSettings, reason: str) -> LungMask:
    found = segment_lungs(scan, settings)
    return replace(found, notes=(f"{reason}: the lungs were found by rules", *found.notes))


def _mostly(mask: Mask, grid: Grid, spacing_mm: float) -> Bool[np.ndarray, "Z Y X"]:
    share, _ = shrink(*to_upright(mask.astype(np.int16) * np.int16(_WHOLE), grid), spacing_mm)
    return np.asarray(share >= _WHOLE // 2)


def _ordered_by_side(lungs: Lungs) -> Lungs:
    if lungs.right.any() and lungs.left.any() and np.nonzero(lungs.right)[2].mean() > np.nonzero(lungs.left)[2].mean():
        return Lungs(lungs.left, lungs.right, lungs.grid)
    return lungs


def _apply_lungmask(scan: Scan) -> Integer[np.ndarray, "z y x"]:
    try:
        from lungmask import LMInferer
    except ImportError:
        raise InputError(
            "lungs=lungmask needs the package lungmask, which is not installed: pip install lungmask, "
            "or take lungs=default",
            "package-missing",
        ) from None
    try:
        inferer = LMInferer(tqdm_disable=True)
    except OSError as error:
        raise InputError(
            f"lungs=lungmask cannot fetch the weights of the package lungmask ({error}): prepare one scan where the "
            "internet can be reached, and copy hub/checkpoints of torch's cache from there, or take lungs=default",
            "file-missing",
        ) from None
    upright, _ = to_upright(scan.hu, scan.grid)
    labels = inferer.apply(np.ascontiguousarray(upright))
    return from_upright(np.asarray(labels), scan.grid)
