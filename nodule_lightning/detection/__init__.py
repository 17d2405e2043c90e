"""Anchors, their assignment to findings, and decoding of network maps into boxes."""
