"""Quality checks of raw scans and of their lung crop, for the record of the preparation."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int16

from nodule_lightning.lungs.segmentation import LungMask
from nodule_lightning.structures import Scan

_TILE: Final = 8
_NEIGHBOURS: Final = 5
_JUMP: Final = 1.6
_NOISE_HU: Final = 5.0
_LEAST_HU: Final = 1.0
_NOISY_VALUES: Final = 32
_AIR_HU: Final = -800


def check_scan(scan: Scan) -> dict[str, Any]:
    """Measure possible defects of a raw scan.

    Returns:
        `spacing_zyx_mm`; `hu_range`, the lowest and highest value; `repeated_slices` and `gaps`, each as the 1-based
        number of the slice before.
    """
    step = _slice_differences(scan.hu)
    return {
        "spacing_zyx_mm": [round(size, 4) for size in scan.grid.spacing_zyx_mm],
        "hu_range": [int(scan.hu.min()), int(scan.hu.max())],
        "repeated_slices": _repeats(scan.hu, step),
        "gaps": find_gaps(step),
    }


def check_lungs(lungs: LungMask) -> dict[str, Any]:
    """Convert the results of the lung segmentation to plain values."""
    right_l, left_l = (round(volume, 3) for volume in lungs.volume_l)
    low, high = sorted((right_l, left_l))
    return {
        "found": lungs.found,
        "right_l": right_l,
        "left_l": left_l,
        "ratio": round(high / low, 2) if low else None,
        "cures": list(lungs.cures),
        "failed_checks": list(lungs.failed),
        "touching": list(lungs.touching),
    }


def scan_notes(checks: dict[str, Any], lungs: LungMask) -> list[str]:
    """Describe in words what needs a human look."""
    notes = list(lungs.notes)
    if lungs.touching:
        notes.append(f"the lungs reach the scan's border ({', '.join(lungs.touching)}) and may be cut off")
    if checks["hu_range"][0] > _AIR_HU:
        notes.append(f"the lowest value is {checks['hu_range'][0]} HU: a CT has air, are these Hounsfield units?")
    if checks["repeated_slices"]:
        notes.append(f"slices are repeated: the one after slice {_listed(checks['repeated_slices'])}")
    if checks["gaps"]:
        notes.append(f"slices seem to be missing after slice {_listed(checks['gaps'])}")
    return notes


def find_gaps(step_hu: Float64[np.ndarray, "step"]) -> list[int]:
    """Find missing slices: places where neighbours differ much more than the slices around them.

    Args:
        step_hu: mean absolute difference between each slice and the next.

    Returns:
        The 1-based number of the slice before each gap.
    """
    padded = np.pad(step_hu, _NEIGHBOURS, mode="reflect") if len(step_hu) > _NEIGHBOURS else None
    if padded is None:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)
    usual = np.median(windows, axis=1)
    # In a scan without noise, neighbours may be equal, and any change would look like a jump.
    jumps = (usual > _LEAST_HU) & (step_hu > _JUMP * usual + _NOISE_HU)
    return [int(place) + 1 for place in np.flatnonzero(jumps)]


def _slice_differences(hu: Int16[np.ndarray, "z y x"]) -> Float64[np.ndarray, "step"]:
    """Measure how much each slice differs from the next, in means of small tiles so that noise does not hide a jump."""
    width = hu.shape[2] // _TILE * _TILE
    # For speed: a quarter of the rows of a 512x512 slice is enough.
    rows = hu[:, :: max(1, hu.shape[1] // 128), :width]
    tiles = rows.reshape(*rows.shape[:2], -1, min(_TILE, max(1, width))).sum(axis=3, dtype=np.int32) / _TILE
    return np.asarray(np.abs(np.diff(tiles, axis=0)).mean(axis=(1, 2), dtype=np.float64))


def _repeats(hu: Int16[np.ndarray, "z y x"], step_hu: Float64[np.ndarray, "step"]) -> list[int]:
    same = [int(place) for place in np.flatnonzero(step_hu == 0) if np.array_equal(hu[place], hu[place + 1])]
    # Slices of pure air, or of a synthetic scan without noise, may be equal without being repeats.
    return [place + 1 for place in same if len(np.unique(hu[place])) > _NOISY_VALUES]


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} others" if len(numbers) > most else "")
