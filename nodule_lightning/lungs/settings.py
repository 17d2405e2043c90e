"""Settings of the lung segmentation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nodule_lightning.errors import InputError

SOURCES: Final = ("rules", "luna16_masks", "lungmask", "none")
PIECES: Final = "pieces"
SLICES: Final = "slices"
LEAKS: Final = "leaks"
UNEQUAL: Final = "unequal"
ONE_LUNG: Final = "one_lung"
# In the order in which they are tried; a single lung is accepted only if no other cure helps.
EVERY_CURE: Final = (PIECES, SLICES, UNEQUAL, LEAKS, ONE_LUNG)
# A finer grid than the CT's own gains nothing; a coarser one no longer shows the surface of a lung.
COARSE_BOUNDS_MM: Final = (0.5, 10.0)


@dataclass(frozen=True, slots=True)
class LungSettings:
    """How the lungs are found.

    Lengths, areas and volumes are for adults. For a smaller body, measured in the scan, those of the rules and checks
    are scaled down.

    Attributes:
        source: `rules` of this package, `luna16_masks` as shipped with LUNA16, the `lungmask` package, or `none` for
            the body's box.
        coarse_mm: spacing of the grid for the search; voxels are block means at most this wide.
        threshold_hu: voxels below are air.
        min_speck_mm2: smaller spots of air in a slice are dropped.
        max_eccentricity: more elongated spots in a slice are dropped, such as the gap between body and table.
        min_volume_l: least air of both lungs together. The least air of a single part is
            `min_volume_l / (1 + max_ratio)`.
        max_volume_l: most air of a part, and of both lungs together.
        min_slice_mm2: slices in which a part is smaller are ignored in its distance.
        max_distance_mm: limit for the smallest distance of a part to the body's middle, averaged over its slices.
        max_ratio: limit for the air of the larger lung over that of the smaller.
        closing_mm: radius of the closing that includes vessels, and nodules at the pleura, in the lungs.
        hull_growth: in each slice the mask is the lung's convex hull, unless that is more than this many times larger.
        dilation_mm: how far the mask extends beyond the lungs.
        cures: the cures that are tried, in this order, if the checks fail.

    Raises:
        InputError: a value is out of range, or the source or a cure is unknown.
    """

    source: str = "rules"
    coarse_mm: float = 3.0
    threshold_hu: float = -600.0
    min_speck_mm2: float = 30.0
    max_eccentricity: float = 0.99
    min_volume_l: float = 0.68
    max_volume_l: float = 7.5
    min_slice_mm2: float = 6000.0
    max_distance_mm: float = 62.0
    max_ratio: float = 4.8
    closing_mm: float = 10.0
    hull_growth: float = 1.5
    dilation_mm: float = 8.0
    cures: Sequence[str] = EVERY_CURE

    def __post_init__(self) -> None:
        object.__setattr__(self, "cures", tuple(self.cures))
        if self.source not in SOURCES:
            raise InputError(
                f"lungs: source must be one of {', '.join(SOURCES)}, not {self.source!r}", "argument-invalid"
            )
        least, most = COARSE_BOUNDS_MM
        if not least <= self.coarse_mm <= most:
            raise InputError(
                f"lungs: coarse_mm must be from {least} to {most}, not {self.coarse_mm}", "argument-invalid"
            )
        for name in ("closing_mm", "dilation_mm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"lungs: {name} must be at least 0, not {getattr(self, name)}", "argument-invalid")
        if not 0 <= self.min_volume_l < self.max_volume_l:
            raise InputError(
                f"lungs: min_volume_l {self.min_volume_l} must be below max_volume_l {self.max_volume_l}",
                "argument-conflict",
            )
        if self.max_ratio < 1 or self.hull_growth < 1:
            raise InputError(
                f"lungs: max_ratio and hull_growth must be at least 1, not {self.max_ratio} and {self.hull_growth}",
                "argument-invalid",
            )
        if unknown := [name for name in self.cures if name not in EVERY_CURE]:
            raise InputError(
                f"lungs: there is no cure {unknown[0]!r}; there are {', '.join(EVERY_CURE)}", "argument-invalid"
            )
