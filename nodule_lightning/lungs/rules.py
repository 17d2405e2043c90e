"""Rules that distinguish lungs from other air, after the preprocessing of grt123 (Liao et al., 2019, lfz/DSB2017)."""

from dataclasses import dataclass, replace
from typing import Self

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.morphology import Mask, voxel_l
from nodule_lightning.lungs.settings import LungSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as lung; a cure changes some of it.

    Attributes:
        threshold_hu: voxels below are air.
        room_hu: voxels of room air are below, whatever `threshold_hu` is.
        min_speck_mm2: smaller spots in a slice are dropped.
        max_eccentricity: more elongated spots in a slice are dropped.
        min_volume_l: least air of both lungs together. The least air of a single part is
            `min_volume_l / (1 + max_ratio)`.
        max_volume_l: most air of a part.
        min_slice_mm2: slices in which a part is smaller are ignored in its distance.
        max_distance_mm: limit for the smallest distance of a part to the body's middle, averaged over its slices.
        max_ratio: limit for the air of the larger lung over that of the smaller.
        only_lung_slices: clear the slices above and below the lungs after thresholding.
        close_leaks: treat air that only a narrow passage connects to the room as inside.
        one_lung: accept a single lung.
    """

    threshold_hu: float
    room_hu: float
    min_speck_mm2: float
    max_eccentricity: float
    min_volume_l: float
    max_volume_l: float
    min_slice_mm2: float
    max_distance_mm: float
    max_ratio: float
    only_lung_slices: bool = False
    close_leaks: bool = False
    one_lung: bool = False

    @classmethod
    def of(cls, settings: LungSettings) -> Self:
        """Make the rules for adults from the settings."""
        return cls(
            settings.threshold_hu,
            settings.threshold_hu,
            settings.min_speck_mm2,
            settings.max_eccentricity,
            settings.min_volume_l,
            settings.max_volume_l,
            settings.min_slice_mm2,
            settings.max_distance_mm,
            settings.max_ratio,
        )

    def scaled(self, scale: float) -> Self:
        """Scale volumes, areas and lengths to a smaller body; 1 is an adult."""
        return replace(
            self,
            min_volume_l=self.min_volume_l * scale**3,
            min_slice_mm2=self.min_slice_mm2 * scale**2,
            max_distance_mm=self.max_distance_mm * scale,
        )


@dataclass(frozen=True, slots=True)
class Lungs:
    """The air in the two lungs.

    Attributes:
        right: mask of the patient's right lung, at smaller x; may be empty.
        left: mask of the left lung; may be empty.
        grid: the grid of both masks.
    """

    right: Mask
    left: Mask
    grid: Grid

    @property
    def both(self) -> Mask:
        """The union of both masks."""
        both: Mask = self.right | self.left
        return both

    @property
    def volume_l(self) -> tuple[float, float]:
        """The volume of air in the right and in the left lung, in litres."""
        return float(self.right.sum()) * voxel_l(self.grid), float(self.left.sum()) * voxel_l(self.grid)

    @property
    def ratio(self) -> float:
        """The volume of the larger lung over that of the smaller; infinite with one lung, 1 without any."""
        low, high = sorted(self.volume_l)
        if high == 0:
            return 1.0
        return high / low if low else float("inf")
