"""Decoding of a segmentation map: its connected components as boxes in voxels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from nodule_lightning.detection.decoding import ScoredBoxes


def decode_components(
    logits: Float[Tensor, "z y x"],
    stride: int,
    levels: Sequence[float],
    *,
    min_probability: float,
    most: int,
    largest_diameter: float = math.inf,
) -> ScoredBoxes:
    """Decode the components of a map into spheres of equal volume, scored by their highest probability.

    A single threshold would either miss uncertain nodules or merge neighbours. So the map is cut at each level, and a
    component that exceeds the next level is replaced by its parts above that level.

    Args:
        logits: of a whole scan.
        stride: voxels of the network's input that a cell covers along each axis.
        levels: increasing probability thresholds.
        min_probability: components below it are dropped.
        most: maximum number of boxes.
        largest_diameter: in voxels; larger boxes are reduced to it.
    """
    map_ = logits.float().cpu().numpy()
    cuts = [math.log(level / (1 - level)) for level in levels]
    parts = [_parts(map_, cut, end) for cut, end in pairwise([*cuts, math.inf])]
    boxes, peaks = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    boxes[:, :3] = boxes[:, :3] * stride + (stride - 1) / 2
    boxes[:, 3] = np.minimum(boxes[:, 3] * stride, largest_diameter)
    probability = torch.sigmoid(torch.from_numpy(peaks))
    # Sort by the logit: probabilities that round to 1 differ only there.
    rows = torch.from_numpy(np.argsort(-peaks, kind="stable")[:most])
    rows = rows[probability[rows] >= min_probability]
    return ScoredBoxes(torch.from_numpy(boxes)[rows], probability[rows])


def _parts(
    map_: Float32[np.ndarray, "z y x"], cut: float, end: float
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, "n"]]:
    """Find the components above `cut` with a peak below `end`: (z, y, x, diameter) in cells, and the peak logit."""
    import cc3d

    labels, count = cc3d.connected_components(map_ >= cut, connectivity=26, return_N=True)
    cells = np.flatnonzero(labels)
    part, logit = labels.ravel()[cells].astype(np.int64) - 1, map_.ravel()[cells].astype(np.float64)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, part, logit)
    weight = 1 / (1 + np.exp(-logit))
    mass = np.bincount(part, weight, minlength=count)
    centre = [np.bincount(part, weight * axis, minlength=count) / mass for axis in np.unravel_index(cells, map_.shape)]
    diameter = np.cbrt(6 * np.bincount(part, minlength=count) / np.pi)
    below = peak < end
    return np.stack([*centre, diameter], axis=1)[below], peak[below]
