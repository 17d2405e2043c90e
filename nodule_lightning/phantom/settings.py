"""What a phantom data set is drawn from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nodule_lightning.errors import InputError
from nodule_lightning.phantom.diameters import DIAMETER_QUANTILES_MM

# A mask of nodules holds their numbers in one byte.
MOST_NODULES = 255


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """How large, how noisy and how hard the phantoms are.

    Ranges are drawn from evenly, for each scan anew.

    Attributes:
        matrix: pixels along each side of a slice.
        pixel_mm: range of the pixel spacing; a field of view that would cut off the lungs is widened.
        slice_mm: range of the slice thickness, which is also the distance between slices.
        body_scale: range of the size of the body, where 1 is an adult.
        nodule_counts: relative frequency of 0, 1, 2, ... nodules in a scan.
        diameters: whose nodules' diameters are drawn: `luna16` or `tianchi`.
        diameter_scale: factor on those diameters; a small body has smaller nodules.
        largest_diameter_mm: larger draws are drawn again.
        nodule_kinds: share of solid, part-solid and ground-glass nodules.
        lobulations: how far the surfaces of smooth to lobulated nodules swell and dip, as a share of the radius.
        nodule_places: share of nodules free in the lung, at a vessel, at the pleura and at the mediastinum.
        imitations: range of the number of each of granulomas, micronodules, scars and pleural plaques.
        anatomical_imitations: range of the number of each of vessel crossings, bronchi seen end-on and rib ends.
        vessel_ends: ends of each of the two vessel trees in one lung of an adult's size.
        airway_ends: ends of the airway tree in one lung of an adult's size.
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
    lobulations: Sequence[float] = (0.08, 0.25, 0.6)
    nodule_places: Sequence[float] = (0.45, 0.25, 0.22, 0.08)
    imitations: Sequence[int] = (0, 3)
    anatomical_imitations: Sequence[int] = (0, 2)
    vessel_ends: int = 500
    airway_ends: int = 36
    noise_hu: Sequence[float] = (12.0, 40.0)
    contrast_share: float = 0.4

    def __post_init__(self) -> None:
        for name in ("pixel_mm", "slice_mm", "body_scale", "imitations", "anatomical_imitations", "noise_hu"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise InputError(f"phantom.{name} must be a rising range, not [{low}, {high}]")
        if self.diameters not in DIAMETER_QUANTILES_MM:
            raise InputError(
                f"phantom.diameters must be one of {sorted(DIAMETER_QUANTILES_MM)}, not {self.diameters!r}"
            )
        if len(self.nodule_counts) > MOST_NODULES:
            raise InputError(f"phantom.nodule_counts may go up to {MOST_NODULES} nodules a scan")
        if self.matrix < 64:
            raise InputError(f"phantom.matrix must be at least 64 pixels, not {self.matrix}")

    def to_dict(self) -> dict[str, Any]:
        """Describe the settings in plain values, for JSON."""
        return asdict(self)
