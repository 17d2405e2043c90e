"""Synthetic chest CT made from a seed, with nodules of known position and size."""
