"""Training: LightningModules, callbacks, checkpoints, checks, launching, resuming, records."""
