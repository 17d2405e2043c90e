"""From the network's maps to boxes in voxels."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nodule_lightning.detection.anchors import AnchorGrid, decode


@dataclass(frozen=True, slots=True)
class ScoredBoxes:
    """Boxes (z, y, x, diameter) in voxels of the network's input, and their probabilities, best first."""

    boxes: Float[Tensor, "n 4"]
    probability: Float[Tensor, "n"]


def decode_maps(
    maps: Float[Tensor, "z y x anchor 5"], anchors: AnchorGrid, *, min_probability: float, most: int
) -> ScoredBoxes:
    """Give the boxes of at least that probability, the best `most` of them."""
    cells = maps.shape[:3]
    numbers = maps.float().flatten(0, 3)
    probability, rows = torch.sigmoid(numbers[:, 0]).sort(descending=True, stable=True)
    rows = rows[probability >= min_probability][:most]
    boxes = decode(numbers[rows, 1:], anchors.boxes(cells, maps.device).flatten(0, 3)[rows])
    return ScoredBoxes(boxes, torch.sigmoid(numbers[rows, 0]))
