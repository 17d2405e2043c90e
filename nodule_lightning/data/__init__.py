"""Training data: sampling, patches, augmentation, curriculum, mining, data modules."""
