"""Preparation of one raw scan into one cache entry: lung crop, isotropic grid, window.

Training imports this module for its settings; SimpleITK is needed only for raw scans.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
from jaxtyping import Int16, Integer, UInt8

from nodule_lightning.cache.entries import settings_differences
from nodule_lightning.errors import InputError
from nodule_lightning.lungs.settings import LungSettings
from nodule_lightning.lungs.sources import locate_lungs
from nodule_lightning.preparation.quality import check_lungs, check_scan, scan_notes
from nodule_lightning.resampling import box_grid, resample, shrink, to_upright
from nodule_lightning.structures import AIR_HU, Entry, Scan

# From half the finest pixel spacing of LUNA16 to the diameter of a nodule that is hard to overlook.
SPACING_BOUNDS_MM: Final = (0.25, 10.0)


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """How raw scans become cache entries. Stored in every entry and every checkpoint.

    Attributes:
        spacing_mm: isotropic spacing of the entries.
        window_hu: HU that become 0 and 255.
        margin_mm: margin of the crop around the lungs.
        lungs: how the lungs are found.

    Raises:
        InputError: the spacing is outside 0.25 to 10 mm, the window has no width, or the margin is negative.
    """

    spacing_mm: float = 1.0
    window_hu: Sequence[float] = (-1200.0, 600.0)
    margin_mm: float = 8.0
    lungs: LungSettings = field(default_factory=LungSettings)

    def __post_init__(self) -> None:
        low, high = (float(value) for value in self.window_hu)
        object.__setattr__(self, "window_hu", (low, high))
        least, most = SPACING_BOUNDS_MM
        if not least <= self.spacing_mm <= most:
            raise InputError(
                f"preparation.spacing_mm must be from {least} to {most}, not {self.spacing_mm}: "
                "finer fills the memory, coarser hides nodules",
                "argument-invalid",
            )
        if not 0 <= self.margin_mm < math.inf:
            raise InputError(
                f"preparation.margin_mm must be at least 0 and finite, not {self.margin_mm}", "argument-invalid"
            )
        if not -math.inf < low < high < math.inf:
            raise InputError(f"preparation.window_hu must rise, not go from {low} to {high}", "argument-invalid")

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON and checkpoints."""
        values = asdict(self)
        values["lungs"]["cures"] = list(self.lungs.cures)
        return {**values, "window_hu": list(self.window_hu)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore settings from the values of `to_dict`.

        Raises:
            InputError: this version does not know one of the settings.
        """
        try:
            return cls(**{**values, "lungs": LungSettings(**values["lungs"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"these preparation settings are of another version: {error}", "file-foreign") from None

    def differences(self, other: Self) -> list[str]:
        """List the settings in which two differ, each with both values."""
        return settings_differences(self.to_dict(), other.to_dict())


def prepare_scan(
    scan: Scan, settings: PreparationSettings, luna16_labels: Integer[np.ndarray, "z y x"] | None = None
) -> Entry:
    """Crop a scan to the lungs, resample it to an isotropic grid along the world axes, and window it.

    If no lung is found, the crop is the body's box, and the record says so.

    Args:
        scan: the CT.
        settings: how to prepare it.
        luna16_labels: LUNA16's lung mask on the scan's grid, if the settings ask for it and there is one.

    Raises:
        InputError: the settings ask for the lungmask package, which is not installed or cannot download its weights.
    """
    lungs = locate_lungs(scan, settings.lungs, luna16_labels)
    # Upright first, so that the same blocks are averaged for any axis order: the entry must not depend on the format.
    upright, upright_grid = to_upright(scan.hu, scan.grid)
    # Blocks are averaged first: linear interpolation onto a much coarser grid would skip voxels.
    hu, source = shrink(upright, upright_grid, settings.spacing_mm)
    corners = source.corners_xyz_mm()
    low = np.maximum(lungs.low_xyz_mm - settings.margin_mm, corners.min(axis=0))
    high = np.minimum(lungs.high_xyz_mm + settings.margin_mm, corners.max(axis=0))
    grid = box_grid(low, np.maximum(low, high), settings.spacing_mm)
    ct = _window(resample(hu, source, grid, linear=True, outside=AIR_HU), settings.window_hu)
    lung = resample(lungs.mask.astype(np.uint8), lungs.grid, grid, linear=False, outside=0)
    checks = check_scan(scan)
    record = {
        "notes": [*scan.notes, *scan_notes(checks, lungs)],
        "doubts": list(scan.notes),
        "lungs": check_lungs(lungs),
        "scan": checks,
    }
    return Entry(scan.scan_id, ct, lung, grid, scan.grid, settings.to_dict(), record)


def _window(hu: Int16[np.ndarray, "z y x"], window_hu: Sequence[float]) -> UInt8[np.ndarray, "z y x"]:
    low, high = window_hu
    # A lookup table of the 65536 int16 values avoids arithmetic on a float copy of the volume.
    every_hu = np.arange(65536, dtype=np.uint16).view(np.int16)
    grey = np.rint((every_hu.astype(np.float64) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    windowed: UInt8[np.ndarray, "z y x"] = grey[hu.view(np.uint16)]
    return windowed
