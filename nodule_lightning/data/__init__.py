"""From cache entries to batches of patches: catalog, cache, sampling, augmentation."""
