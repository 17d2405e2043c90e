"""What an experimenter turns about the lung crop."""

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
# The order in which they are tried; a single lung is believed only when nothing else has helped.
EVERY_CURE: Final = (PIECES, SLICES, UNEQUAL, LEAKS, ONE_LUNG)
# Finer than a CT's own voxels gains nothing; coarser than this no longer shows the surface of a lung.
COARSE_BOUNDS_MM: Final = (0.5, 10.0)


@dataclass(frozen=True, slots=True)
class LungSettings:
    """How the lungs are found.

    The lengths, areas and volumes of the rules and checks hold for adults; for a smaller body, measured in the scan
    itself, they shrink with its size.

    Attributes:
        source: `rules` of this package, `luna16_masks` as LUNA16 ships them, the `lungmask` package, or `none`: the
            body's box.
        coarse_mm: the grid of the search; a voxel is the mean of a block at most this wide.
        threshold_hu: what is below is air.
        min_speck_mm2: a smaller spot of air in one slice is dropped.
        max_eccentricity: a longer and thinner spot is dropped: the gap between body and table.
        min_volume_l: both lungs together have at least this much air; a part has at least the share of it that
            `max_ratio` leaves to the smaller lung, min_volume_l / (1 + max_ratio).
        max_volume_l: a part has at most this much, and so have both together.
        min_slice_mm2: slices in which a part is smaller do not count for its distance.
        max_distance_mm: the mean over its slices of the smallest distance to the body's middle is below.
        max_ratio: the larger lung has at most this many times the air of the smaller.
        closing_mm: vessels, and nodules at the pleura, up to twice this wide are taken into the lungs.
        hull_growth: in each slice the mask is the lung's convex hull, unless that is this many times larger.
        dilation_mm: how far the mask then goes beyond the lungs.
        cures: what is tried, in this order, when the checks fail.

    Raises:
        InputError: a value out of range, an unknown source or cure.
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
            raise InputError(f"lungs: source must be one of {', '.join(SOURCES)}, not {self.source!r}")
        least, most = COARSE_BOUNDS_MM
        if not least <= self.coarse_mm <= most:
            raise InputError(f"lungs: coarse_mm must be from {least} to {most}, not {self.coarse_mm}")
        for name in ("closing_mm", "dilation_mm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"lungs: {name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.min_volume_l < self.max_volume_l:
            raise InputError(f"lungs: min_volume_l {self.min_volume_l} is not below max_volume_l {self.max_volume_l}")
        if self.max_ratio < 1 or self.hull_growth < 1:
            raise InputError("lungs: max_ratio and hull_growth must be at least 1")
        if unknown := [name for name in self.cures if name not in EVERY_CURE]:
            raise InputError(f"lungs: there is no cure {unknown[0]!r}; there are {', '.join(EVERY_CURE)}")
