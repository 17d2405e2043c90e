"""Blur and noise of a real scan, measured in the scan itself."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from nodule_lightning.structures import Scan

Generator = np.random.Generator
_LUNG_HU, _TISSUE_HU = -850.0, 40.0
# Standard deviation over median absolute deviation of Gaussian noise.
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class ScanQuality:
    """The blur and noise of a scan.

    Attributes:
        blur_mm: standard deviation of the blur within slices, without the blur of the pixels themselves.
        tissue_noise: a block of the noise in homogeneous soft tissue, in HU.
        noise_hu: standard deviation of the fine part of that noise, the part that `low_pass` removes.
        spacing_zyx_mm: spacing of the scan.
    """

    blur_mm: float
    tissue_noise: Float32[np.ndarray, "z y x"]
    noise_hu: float
    spacing_zyx_mm: tuple[float, float, float]

    @classmethod
    def measure(cls, scan: Scan, lungs: Bool[np.ndarray, "z y x"]) -> Self:
        """Measure the blur at the surface of the lungs, and the noise in the most homogeneous block of soft tissue."""
        noise = _plainest_tissue(scan)
        fine = noise - low_pass(noise, scan.grid.spacing_zyx_mm)
        return cls(_blur_mm(scan, lungs), noise, max(_spread(fine), 0.5), scan.grid.spacing_zyx_mm)

    def draw_noise(
        self, fine: Float32[np.ndarray, "z y x"], smooth: Float32[np.ndarray, "z y x"], generator: Generator
    ) -> Float32[np.ndarray, "z y x"]:
        """Sample noise from the scan's soft tissue, scaled to the noise of the parenchyma in a window.

        Args:
            fine: the fine part of the window, which `low_pass` removes.
            smooth: the window after `low_pass`.
            generator: chooses the sample; if the window is larger than the block, the block is mirrored.
        """
        parenchyma = smooth < -700
        strength = 1.0
        if np.count_nonzero(parenchyma) > 50:
            # The less dense half has the fewest fine vessels, whose texture is not noise.
            plain = parenchyma & (smooth <= np.median(smooth[parenchyma]))
            strength = min(_spread(fine[plain]) / self.noise_hu, 3.0)
        block = self.tissue_noise
        for axis, (size, have) in enumerate(zip(fine.shape, block.shape, strict=True)):
            start = int(generator.integers(0, have))
            period = np.concatenate([np.arange(have), np.arange(have)[::-1]])
            block = np.take(block, period[(start + np.arange(size)) % (2 * have)], axis=axis)
        drawn: Float32[np.ndarray, "z y x"] = block * np.float32(strength)
        return drawn


def low_pass(
    hu: Float32[np.ndarray, "z y x"], spacing_zyx_mm: tuple[float, float, float]
) -> Float32[np.ndarray, "z y x"]:
    """Smooth over about 1 mm; what this removes is mostly noise."""
    smooth: Float32[np.ndarray, "z y x"] = ndimage.gaussian_filter(hu, [0.8 / mm for mm in spacing_zyx_mm], truncate=3)
    return smooth


def _spread(values: Float32[np.ndarray, "*shape"]) -> float:
    return float(np.median(np.abs(values - np.median(values)))) * _MAD


def _blur_mm(scan: Scan, lungs: Bool[np.ndarray, "z y x"]) -> float:
    """Measure the blur within slices from the steepest slopes at the surface of the lungs.

    The steepest slope of an edge of height h, blurred by a Gaussian of standard deviation s, is
    h / (s * sqrt(2 * pi)). The slope is measured between the two neighbours of a pixel, which adds blur of its own.
    """
    across = int(np.argmax(np.round(scan.grid.spacing_zyx_mm, 3)))
    hu = np.moveaxis(scan.hu, across, 0)
    inside = np.moveaxis(lungs, across, 0)
    pixel_mm = float(np.mean(np.delete(scan.grid.spacing_zyx_mm, across)))
    slopes = []
    for index in np.flatnonzero(inside.any(axis=(1, 2)))[::4]:
        plane = hu[index].astype(np.float32)
        down, right = np.gradient(plane, pixel_mm)
        middle = (plane > -600) & (plane < -200)
        near = ndimage.binary_dilation(inside[index], iterations=3)
        slopes.append(np.hypot(down, right)[middle & near])
    steep = np.concatenate([np.zeros(0, dtype=np.float32), *slopes])
    if steep.size < 200:
        return 0.5
    # Most of the surface is oblique to the slice; the steepest tenth is perpendicular to it.
    measured_mm = (_TISSUE_HU - _LUNG_HU) / (float(np.percentile(steep, 90)) * np.sqrt(2 * np.pi))
    own2 = pixel_mm**2 / 3 + pixel_mm**2 / 12
    return float(np.clip(np.sqrt(max(measured_mm**2 - own2, 0.0)), 0.2, 1.5))


def _plainest_tissue(scan: Scan) -> Float32[np.ndarray, "z y x"]:
    """Cut out the most homogeneous block of soft tissue, and subtract its low frequencies."""
    size = [
        min(max(4, round(mm_wanted / mm)), count)
        for mm_wanted, mm, count in zip((12.0, 24.0, 24.0), scan.grid.spacing_zyx_mm, scan.grid.shape, strict=True)
    ]
    best, best_score = None, np.inf
    for z in range(0, scan.hu.shape[0] - size[0] + 1, size[0]):
        slab = scan.hu[z : z + size[0]]
        middle = slab[size[0] // 2].astype(np.float32)
        mean = ndimage.uniform_filter(middle, size[1:])
        square = ndimage.uniform_filter(middle**2, size[1:])
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        spread[(mean < -30) | (mean > 250)] = np.inf
        half_y, half_x = size[1] // 2, size[2] // 2
        inner = spread[half_y : spread.shape[0] - half_y, half_x : spread.shape[1] - half_x]
        if not inner.size:
            continue
        y, x = np.unravel_index(int(np.argmin(inner)), inner.shape)
        block = slab[:, y : y + size[1], x : x + size[2]].astype(np.float32)
        score = float(block.std())
        if -30 < float(block.mean()) < 250 and score < best_score:
            best, best_score = block, score
    if best is None:
        return np.zeros((1, 1, 1), dtype=np.float32)
    slow = ndimage.gaussian_filter(best, [6.0 / mm for mm in scan.grid.spacing_zyx_mm])
    plain: Float32[np.ndarray, "z y x"] = best - slow
    return plain
