"""Simulation of the scanner: blur, slice thickness, noise with the texture of a kernel, circular field of view."""

import numpy as np
from jaxtyping import Bool, Float32, Int16
from scipy import fft, ndimage

Generator = np.random.Generator


def acquire(
    hu: Float32[np.ndarray, "fine y x"],
    fine_per_slice: int,
    pixel_mm: float,
    noise_hu: float,
    generator: Generator,
) -> Int16[np.ndarray, "z y x"]:
    """Simulate the slices that a scanner makes of ideal densities.

    Args:
        hu: ideal densities in fine slices.
        fine_per_slice: number of fine slices that one slice averages: the partial-volume effect.
        pixel_mm: pixel spacing.
        noise_hu: standard deviation of the noise.
        generator: random generator.
    """
    blur = generator.uniform(0.3, 0.6) / pixel_mm
    shape = (len(hu) // fine_per_slice, *hu.shape[1:])
    noise = _kernel_noise(shape, generator)
    outside = _outside_field_of_view(shape[1], shape[2])
    padding_hu = generator.choice([-1024.0, -2000.0, -3024.0])
    slices = np.empty(shape, dtype=np.int16)
    # Slice by slice, which is several times faster: a slice fits into the processor's cache.
    for index, target in enumerate(slices):
        ideal = hu[index * fine_per_slice : (index + 1) * fine_per_slice].mean(axis=0)
        plane = ndimage.gaussian_filter(ideal, blur, truncate=3)
        plane += np.float32(noise_hu) * noise[index]
        np.clip(plane, -1024, 3071, out=plane)
        plane[outside] = padding_hu
        target[...] = np.rint(plane, out=plane)
    return slices


def _kernel_noise(shape: tuple[int, int, int], generator: Generator) -> Float32[np.ndarray, "z y x"]:
    """Draw noise of unit variance with the in-plane correlation of a reconstruction kernel, and a little across."""
    noise = generator.standard_normal(shape, dtype=np.float32)
    grain = generator.uniform(0.5, 1.0)
    # A sharp kernel has less noise at low frequencies: part of the smooth component is removed.
    sharpness = generator.uniform(0.2, 0.9)
    rows, columns = np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    squared = (2 * np.pi) ** 2 * (rows[:, None] ** 2 + columns**2) / 2
    kernel = (np.exp(-squared * grain**2) * (1 - sharpness * np.exp(-squared * 2.5**2))).astype(np.float32)
    for plane in noise:
        plane[...] = fft.irfft2(fft.rfft2(plane) * kernel, plane.shape)
    neighbour = np.float32(np.exp(-0.5 / 0.4**2))
    total = 0.0
    below = noise[0].copy()
    for index, plane in enumerate(noise):
        above = noise[min(index + 1, len(noise) - 1)]
        mixed = plane + neighbour * (below + above)
        below = plane.copy()
        plane[...] = mixed
        total += float(np.einsum("yx,yx->", mixed, mixed))
    noise /= np.float32(np.sqrt(total / noise.size))
    return noise


def _outside_field_of_view(rows: int, columns: int) -> Bool[np.ndarray, "y x"]:
    y, x = (np.linspace(-1, 1, count, dtype=np.float32) for count in (rows, columns))
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 > 1)
