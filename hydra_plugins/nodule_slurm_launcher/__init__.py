"""Hydra's launcher for sweeps on SLURM."""
