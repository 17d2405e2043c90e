"""Settings of phantom data sets: the distributions that scans are drawn from."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nodule_lightning.errors import InputError
from nodule_lightning.phantom.diameters import DIAMETER_QUANTILES_MM

# A mask of nodules stores their numbers in one byte.
MOST_NODULES = 255
# Within these bounds, a chest fits in memory and is large enough to place something in its lungs.
_BOUNDS = {
    "pixel_mm": (0.1, 5.0),
    "slice_mm": (0.1, 10.0),
    "body_scale": (0.3, 2.0),
    "imitations": (0, 1000),
    "anatomical_imitations": (0, 1000),
    "noise_hu": (0.0, 1000.0),
}


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """The size, noise and difficulty of phantoms.

    From each range, a value is drawn uniformly for each scan.

    Attributes:
        matrix: pixels along each side of a slice.
        pixel_mm: range of the pixel spacing; widened if the field of view would cut off the lungs.
        slice_mm: range of the slice thickness, which is also the slice spacing.
        body_scale: range of the size of the body; 1 is an adult.
        nodule_counts: relative frequencies of 0, 1, 2, ... nodules in a scan.
        diameters: the data set whose distribution of diameters is used: `luna16` or `tianchi`.
        diameter_scale: factor on the diameters; a small body has smaller nodules.
        largest_diameter_mm: upper limit of the distribution of diameters.
        nodule_kinds: shares of solid, part-solid and ground-glass nodules.
        lobulations: possible heights of the bumps on a nodule's surface, from smooth to lobulated, as shares of the
            radius.
        nodule_places: shares of nodules free in the lung, at a vessel, at the pleura and at the mediastinum.
        imitations: range of the number of each kind of lesion: granulomas, micronodules, scars and pleural plaques.
        anatomical_imitations: range of the number of each of vessel crossings, bronchi seen end-on and rib ends.
        vessel_ends: number of ends of each of the two vessel trees in one adult lung.
        airway_ends: number of ends of the airway tree in one adult lung.
        noise_hu: range of the standard deviation of the noise in soft tissue.
        contrast_share: share of scans with contrast medium in the vessels.

    Raises:
        InputError: a range, share, number or diameter is not possible, or the source of diameters is unknown.
    """

    matrix: int = 512
    pixel_mm: Sequence[float] = (0.5, 0.95)
    slice_mm: Sequence[float] = (0.6, 2.5)
    body_scale: Sequence[float] = (0.9, 1.05)
    nodule_counts: Sequence[float] = (6.0, 4.0, 3.0, 2.0, 1.0, 1.0)
    diameters: str = "luna16"
    diameter_scale: float = 1.0
    largest_diameter_mm: float = 33.0
    nodule_kinds: Sequence[float] = (0.7, 0.12, 0.18)
    lobulations: Sequence[float] = (0.08, 0.25, 0.6)
    nodule_places: Sequence[float] = (0.45, 0.25, 0.22, 0.08)
    imitations: Sequence[int] = (0, 3)
    anatomical_imitations: Sequence[int] = (0, 2)
    vessel_ends: int = 500
    airway_ends: int = 36
    noise_hu: Sequence[float] = (12.0, 40.0)
    contrast_share: float = 0.4

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            _check_range(name, getattr(self, name), least, most)
        if not 0 <= self.contrast_share <= 1:
            raise InputError(
                f"phantom.contrast_share must be between 0 and 1, not {self.contrast_share}", "argument-invalid"
            )
        if len(self.nodule_counts) > MOST_NODULES:
            raise InputError(
                f"phantom.nodule_counts may have up to {MOST_NODULES} values, not {len(self.nodule_counts)}",
                "argument-invalid",
            )
        check_shares("phantom.nodule_counts", self.nodule_counts)
        check_shares("phantom.nodule_kinds", self.nodule_kinds, 3)
        check_shares("phantom.nodule_places", self.nodule_places, 4)
        if not self.lobulations or not all(0 <= share <= 1 for share in self.lobulations):
            raise InputError(
                f"phantom.lobulations must be shares from 0 to 1, not {list(self.lobulations)}", "argument-invalid"
            )
        for name, fewest in (("matrix", 64), ("vessel_ends", 1), ("airway_ends", 1)):
            if getattr(self, name) < fewest:
                raise InputError(
                    f"phantom.{name} must be at least {fewest}, not {getattr(self, name)}", "argument-invalid"
                )
        self._check_diameters()

    def _check_diameters(self) -> None:
        if self.diameters not in DIAMETER_QUANTILES_MM:
            raise InputError(
                f"phantom.diameters must be one of {sorted(DIAMETER_QUANTILES_MM)}, not {self.diameters!r}",
                "argument-invalid",
            )
        if not 0 < self.diameter_scale < math.inf:
            raise InputError(f"phantom.diameter_scale must be positive, not {self.diameter_scale}", "argument-invalid")
        smallest_mm = DIAMETER_QUANTILES_MM[self.diameters][0] * self.diameter_scale
        if not self.largest_diameter_mm >= smallest_mm:
            raise InputError(
                f"phantom.largest_diameter_mm must be at least {smallest_mm:.2f}, the smallest that is drawn, "
                f"not {self.largest_diameter_mm}",
                "argument-invalid",
            )

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)


def check_shares(name: str, shares: Sequence[float], count: int | None = None) -> None:
    """Check that shares are usable as relative frequencies.

    Args:
        name: name of the setting, for the message.
        shares: one share per kind; their sum may be anything but 0.
        count: the number of kinds; None allows any number from 1.

    Raises:
        InputError: a share is negative, all are 0, or their number is wrong.
    """
    total = sum(shares)
    if not all(share >= 0 for share in shares) or not 0 < total < math.inf or len(shares) != (count or len(shares)):
        wanted = "shares" if count is None else f"{count} shares"
        raise InputError(
            f"{name} must be {wanted}, none negative and not all 0, not {list(shares)}", "argument-invalid"
        )


def check_seed(seed: int) -> None:
    """Check that a seed is valid for a random generator.

    Raises:
        InputError: the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}", "argument-invalid")


def _check_range(name: str, bounds: Sequence[float], least: float, most: float) -> None:
    if len(bounds) != 2 or not least <= bounds[0] <= bounds[1] <= most:
        raise InputError(
            f"phantom.{name} must be a range [low, high] within {least:g} to {most:g}, not {list(bounds)}",
            "argument-invalid",
        )
