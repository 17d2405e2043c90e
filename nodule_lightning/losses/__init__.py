"""Losses of the detector, the segmentation and the second stage."""
