"""Losses over the maps of a batch."""
