"""Lung segmentation: the crop and mask that restrict what the network sees."""
