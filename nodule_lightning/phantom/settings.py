"""What a phantom data set is drawn from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nodule_lightning.errors import InputError

# Quantiles 0, 5, ... 100 % of the diameters (mm) in the challenges' public csv files: the 1186 nodules of LUNA16 and
# the 975 of Tianchi's training set.
DIAMETER_QUANTILES_MM: dict[str, tuple[float, ...]] = {
    "luna16": (
        3.25,
        4.09,
        4.40,
        4.67,
        4.90,
        5.11,
        5.31,
        5.63,
        5.90,
        6.17,
        6.43,
        6.87,
        7.30,
        7.92,
        8.72,
        9.70,
        11.07,
        12.86,
        15.48,
        18.95,
        32.27,
    ),
    "tianchi": (
        2.90,
        4.17,
        4.54,
        4.87,
        5.11,
        5.36,
        5.68,
        6.00,
        6.35,
        6.78,
        7.26,
        7.88,
        8.42,
        9.38,
        10.46,
        12.04,
        13.46,
        15.48,
        18.57,
        22.47,
        39.97,
    ),
}


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """How large, how noisy and how hard the phantoms are.

    Ranges are drawn from evenly, for each scan anew.

    Attributes:
        matrix: pixels along each side of a slice.
        pixel_mm: range of the pixel spacing.
        slice_mm: range of the slice thickness, which is also the distance between slices.
        body_scale: range of the size of the body, where 1 is an adult.
        nodule_counts: relative frequency of 0, 1, 2, ... nodules in a scan.
        diameters: whose nodules' diameters are drawn: `luna16` or `tianchi`.
        diameter_scale: factor on those diameters; a small body has smaller nodules.
        largest_diameter_mm: larger draws are drawn again.
        nodule_kinds: share of solid, part-solid and ground-glass nodules.
        nodule_places: share of nodules free in the lung, at a vessel, at the pleura and at the mediastinum.
        imitations: range of the number of each kind of thing that looks like a nodule and is none.
        vessel_ends: ends of each of the two vessel trees in one lung of an adult's size.
        noise_hu: range of the standard deviation of the noise in soft tissue.
        contrast_share: share of scans with contrast medium in the vessels.

    Raises:
        InputError: a range that is not rising, or an unknown source of diameters.
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
    nodule_places: Sequence[float] = (0.45, 0.25, 0.22, 0.08)
    imitations: Sequence[int] = (0, 3)
    vessel_ends: int = 500
    noise_hu: Sequence[float] = (12.0, 40.0)
    contrast_share: float = 0.4

    def __post_init__(self) -> None:
        for name in ("pixel_mm", "slice_mm", "body_scale", "imitations", "noise_hu"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise InputError(f"phantom.{name} must be a rising range, not [{low}, {high}]")
        if self.diameters not in DIAMETER_QUANTILES_MM:
            raise InputError(
                f"phantom.diameters must be one of {sorted(DIAMETER_QUANTILES_MM)}, not {self.diameters!r}"
            )
        if self.matrix < 64:
            raise InputError(f"phantom.matrix must be at least 64 pixels, not {self.matrix}")

    def to_dict(self) -> dict[str, Any]:
        """Describe the settings in plain values, for JSON."""
        return asdict(self)
