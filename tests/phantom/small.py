"""Settings of phantoms that take a tenth of a second to make."""

from nodule_lightning.phantom.settings import PhantomSettings

# Coarse voxels, but an adult chest, so that lengths and volumes are realistic.
ADULT = PhantomSettings(
    matrix=128,
    pixel_mm=(2.7, 2.8),
    slice_mm=(2.6, 3.0),
    nodule_counts=(0, 0, 0, 1),
    vessel_ends=60,
    noise_hu=(8, 12),
    imitations=(1, 1),
)
