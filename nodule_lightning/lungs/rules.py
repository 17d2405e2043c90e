"""The rules that tell lungs from other air, after the preprocessing of grt123 (Liao et al., 2019, lfz/DSB2017)."""

from dataclasses import dataclass, replace
from typing import Self

from nodule_lightning.geometry import Grid
from nodule_lightning.lungs.morphology import Mask, voxel_l
from nodule_lightning.lungs.settings import LungSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as lung; a cure is another set of rules.

    Attributes:
        threshold_hu: what is below is air.
        room_hu: the air of the room is below, whatever the threshold.
        min_speck_mm2: a smaller spot in one slice is dropped.
        max_eccentricity: so is a longer and thinner one.
        min_volume_l: both lungs together have at least this much air; a part has at least the share of it that
            `max_ratio` leaves to the smaller lung.
        max_volume_l: a part has at most this much.
        min_slice_mm2: slices in which a part is smaller do not count for its distance.
        max_distance_mm: the mean over its slices of the smallest distance to the body's middle is below.
        max_ratio: the larger lung has at most this many times the air of the smaller.
        only_lung_slices: clear the slices above and below the lungs right after binarising.
        close_leaks: air that only a narrow passage joins to the room is not the room's.
        one_lung: a single lung is enough.
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
        """Take the rules for adults from the settings."""
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
        """Fit the rules to a smaller body."""
        return replace(
            self,
            min_volume_l=self.min_volume_l * scale**3,
            min_slice_mm2=self.min_slice_mm2 * scale**2,
            max_distance_mm=self.max_distance_mm * scale,
        )


@dataclass(frozen=True, slots=True)
class Lungs:
    """Air that passed the rules.

    Attributes:
        right: the lung with the smaller x, the patient's right; empty where there is none.
        left: the other.
        grid: where both lie.
    """

    right: Mask
    left: Mask
    grid: Grid

    @property
    def both(self) -> Mask:
        """Give the air of the two."""
        both: Mask = self.right | self.left
        return both

    @property
    def volume_l(self) -> tuple[float, float]:
        """Give the air of the right and of the left lung."""
        return float(self.right.sum()) * voxel_l(self.grid), float(self.left.sum()) * voxel_l(self.grid)

    @property
    def ratio(self) -> float:
        """Tell how many times larger the larger lung is; infinite where there is only one, 1 where there is none."""
        low, high = sorted(self.volume_l)
        if high == 0:
            return 1.0
        return high / low if low else float("inf")
