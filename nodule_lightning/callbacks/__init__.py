"""What happens beside training: timing of validation, progress, checkpoints."""
