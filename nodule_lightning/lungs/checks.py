"""Plausibility checks of segmented lungs."""

from typing import Final

import numpy as np
from jaxtyping import Int16

from nodule_lightning.lungs.body import Body
from nodule_lightning.lungs.morphology import Mask, label_in_slices, voxel_l
from nodule_lightning.lungs.rules import Lungs, Rules

AERATED_HU: Final = -150.0
MAX_LEFT_OUT: Final = 0.25
_MIN_HEIGHT_MM, _MAX_HEIGHT_MM = 100.0, 400.0
_MAX_OFFSET_MM = 90.0
_MIN_OVERLAP = 0.5
_AIRWAY_OFFSET_MM = 20.0


def enclosed_air(air: Mask) -> Mask:
    """Keep the air that does not reach a side of its own slice: lungs, airway, bowel gas."""
    labels, count = label_in_slices(air)
    is_enclosed = np.ones(count + 1, dtype=bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        is_enclosed[side] = False
    return np.asarray(air & is_enclosed[labels])


def left_out(hu: Int16[np.ndarray, "z y x"], aerated: Mask, threshold_hu: float) -> float:
    """Return the share of the aerated voxels (below -150 HU, in the body) at or above a threshold: dense lung.

    For -600 HU it is 0.10 and 0.13 in LIDC-IDRI-0001 and 0002: partly filled voxels at surfaces and vessels.
    """
    return float((aerated & (hu >= threshold_hu)).sum() / max(1, aerated.sum()))


def failed_checks(lungs: Lungs, enclosed: Mask, share_left_out: float, body: Body, rules: Rules) -> tuple[str, ...]:
    """Check segmented lungs for plausibility.

    Args:
        lungs: the lungs.
        enclosed: the air that does not reach a side of its own slice, even if connected to the room elsewhere.
        share_left_out: the result of `left_out` for the threshold of the rules.
        body: the patient; lengths are scaled to it.
        rules: the rules that found the lungs.

    Returns:
        The failed checks in words; empty if the lungs are plausible.
    """
    volume_l = sum(lungs.volume_l)
    if volume_l == 0:
        return ("no lung found",)
    failed = []
    if not rules.min_volume_l <= volume_l <= rules.max_volume_l:
        failed.append(f"{volume_l:.2f} l of air")
    if share_left_out > MAX_LEFT_OUT:
        failed.append(f"cut to pieces: {share_left_out:.0%} of what holds air is above the threshold")
    failed += _shape(lungs, body)
    failed += _single(lungs, enclosed, body, rules) if rules.one_lung else _pair(lungs, rules)
    return tuple(failed)


def _shape(lungs: Lungs, body: Body) -> list[str]:
    grid, failed = lungs.grid, []
    z, y, x = np.nonzero(lungs.both)
    height_mm = (np.ptp(z) + 1) * grid.spacing_zyx_mm[0]
    scanned_mm = grid.shape[0] * grid.spacing_zyx_mm[0]
    low = min(_MIN_HEIGHT_MM * body.scale, 0.5 * scanned_mm)
    if not low <= height_mm <= _MAX_HEIGHT_MM:
        failed.append(f"{height_mm:.0f} mm high")
    offset_mm = np.hypot(
        y.mean() * grid.spacing_zyx_mm[1] - body.middle_yx_mm[0],
        x.mean() * grid.spacing_zyx_mm[2] - body.middle_yx_mm[1],
    )
    if offset_mm > _MAX_OFFSET_MM * body.scale:
        failed.append(f"{offset_mm:.0f} mm off the body's middle")
    return failed


def _pair(lungs: Lungs, rules: Rules) -> list[str]:
    if lungs.ratio == float("inf"):
        return ["one lung found"]
    if lungs.ratio > rules.max_ratio:
        return [f"one lung {lungs.ratio:.1f} times as large as the other"]
    right, left = (np.flatnonzero(lung.any(axis=(1, 2))) for lung in (lungs.right, lungs.left))
    shared = min(right[-1], left[-1]) - max(right[0], left[0]) + 1
    if shared < _MIN_OVERLAP * min(np.ptp(right), np.ptp(left)):
        return ["the lungs are not side by side"]
    return []


def _single(lungs: Lungs, enclosed: Mask, body: Body, rules: Rules) -> list[str]:
    """Accept a single lung only if the other side holds little air. Otherwise the other lung was missed."""
    found = lungs.both
    slices = np.flatnonzero(found.any(axis=(1, 2)))
    dx = lungs.grid.spacing_zyx_mm[2]
    side = 1 if lungs.left.sum() < lungs.right.sum() else -1
    offset_mm = side * (np.arange(found.shape[2]) * dx - body.middle_yx_mm[1])
    # The airway near the middle does not count.
    beyond = enclosed[slices[0] : slices[-1] + 1][:, :, offset_mm > _AIRWAY_OFFSET_MM * body.scale]
    other_l, lung_l = float(beyond.sum()) * voxel_l(lungs.grid), max(lungs.volume_l)
    if other_l * rules.max_ratio >= lung_l:
        return [f"the other lung is not filled: {other_l:.2f} l of air beside {lung_l:.2f} l"]
    return []
