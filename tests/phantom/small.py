"""Phantoms that take a tenth of a second."""

from nodule_lightning.phantom.settings import PhantomSettings

# An adult's chest, so that millimetres and litres are real ones, in very thick voxels.
ADULT = PhantomSettings(
    matrix=128,
    pixel_mm=(2.7, 2.8),
    slice_mm=(2.6, 3.0),
    nodule_counts=(0, 0, 0, 1),
    vessel_ends=60,
    noise_hu=(8, 12),
    imitations=(1, 1),
)
