"""The scanner: blur, thick slices, noise with a kernel's texture, and the round field of view."""

import numpy as np
from jaxtyping import Float32, Int16
from scipy import ndimage

Generator = np.random.Generator


def acquire(
    hu: Float32[np.ndarray, "fine y x"],
    fine_per_slice: int,
    pixel_mm: float,
    noise_hu: float,
    generator: Generator,
) -> Int16[np.ndarray, "z y x"]:
    """Turn ideal densities into the slices that a scanner would give.

    Args:
        hu: ideal densities; several fine slices lie within the thickness of one.
        fine_per_slice: how many fine slices one slice averages: the partial-volume effect.
        pixel_mm: pixel spacing.
        noise_hu: standard deviation of the noise.
        generator: source of chance.
    """
    slices = hu.reshape(-1, fine_per_slice, *hu.shape[1:]).mean(axis=1)
    blur = generator.uniform(0.3, 0.6) / pixel_mm
    slices = ndimage.gaussian_filter(slices, (0, blur, blur), truncate=3)
    slices += noise_hu * _kernel_noise(slices.shape, generator)
    slices = np.clip(slices, -1024, 3071)
    _mask_field_of_view(slices, generator)
    rounded: Int16[np.ndarray, "z y x"] = np.rint(slices).astype(np.int16)
    return rounded


def _kernel_noise(shape: tuple[int, ...], generator: Generator) -> Float32[np.ndarray, "z y x"]:
    noise = generator.standard_normal(shape, dtype=np.float32)
    grain = generator.uniform(0.5, 1.0)
    smooth = ndimage.gaussian_filter(noise, (0.4, grain, grain), truncate=3)
    # A sharp kernel has less noise at low frequencies: take a part of the very smooth away.
    smooth -= generator.uniform(0.2, 0.9) * ndimage.gaussian_filter(smooth, (0, 2.5, 2.5), truncate=2)
    smooth /= smooth.std()
    noise[...] = smooth
    return noise


def _mask_field_of_view(slices: Float32[np.ndarray, "z y x"], generator: Generator) -> None:
    rows, columns = (np.linspace(-1, 1, count, dtype=np.float32) for count in slices.shape[1:])
    outside = rows[:, None] ** 2 + columns[None, :] ** 2 > 1
    slices[:, outside] = generator.choice([-1024.0, -2000.0, -3024.0])
