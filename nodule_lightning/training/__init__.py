"""Train: LightningModules, callbacks, checkpoints, checks, launching, resuming, records."""
