"""From a segmentation's map to boxes in voxels: its connected components."""

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
    """Give the components of a map as spheres of their volume, scored by their highest probability.

    One threshold would either miss what the network doubts or run neighbours together. So the map is cut at each level,
    and of a component that rises above the next level its parts up there stand in its place.

    Args:
        logits: of a whole scan.
        stride: voxels of the network's input that a cell covers along each axis.
        levels: rising probabilities.
        min_probability: less is dropped.
        most: boxes to keep.
        largest_diameter: a larger box is made so small, in voxels.
    """
    map_ = logits.float().cpu().numpy()
    cuts = [math.log(level / (1 - level)) for level in levels]
    parts = [_parts(map_, cut, end) for cut, end in pairwise([*cuts, math.inf])]
    boxes, peaks = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    boxes[:, :3] = boxes[:, :3] * stride + (stride - 1) / 2
    boxes[:, 3] = np.minimum(boxes[:, 3] * stride, largest_diameter)
    probability = torch.sigmoid(torch.from_numpy(peaks))
    # By the logit: neighbours of 1 are told apart by it alone.
    rows = torch.from_numpy(np.argsort(-peaks, kind="stable")[:most])
    rows = rows[probability[rows] >= min_probability]
    return ScoredBoxes(torch.from_numpy(boxes)[rows], probability[rows])


def _parts(
    map_: Float32[np.ndarray, "z y x"], cut: float, end: float
) -> tuple[Float64[np.ndarray, "n 4"], Float64[np.ndarray, "n"]]:
    """Give (z, y, x, diameter), in cells, and the peak of the components above a cut that stay below an end."""
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
