"""Decoding of anchor maps into boxes in voxels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from nodule_lightning.detection.anchors import AnchorGrid, decode


@dataclass(frozen=True, slots=True)
class ScoredBoxes:
    """Boxes (z, y, x, diameter) in voxels of the network's input with probabilities, best first, on the CPU."""

    boxes: Float64[Tensor, "n 4"]
    probability: Float64[Tensor, "n"]


def decode_maps(
    maps: Float[Tensor, "z y x anchor 5"],
    anchors: AnchorGrid,
    *,
    min_probability: float,
    most: int,
    largest_diameter: float = math.inf,
) -> ScoredBoxes:
    """Decode the most probable anchors into boxes.

    Args:
        maps: of a whole scan: a logit and four box values for each anchor.
        anchors: the grid to which the box values are relative.
        min_probability: boxes below it are dropped.
        most: maximum number of boxes.
        largest_diameter: in voxels; larger boxes are reduced to it.
    """
    numbers = maps.float().flatten(0, 3)
    # Sort by the logit: in single precision the sigmoid is 1 from 17 on, and such boxes would keep the grid's order.
    rows = numbers[:, 0].sort(descending=True, stable=True).indices[:most]
    places = anchors.boxes(maps.shape[:3], maps.device).flatten(0, 3)[rows]
    boxes, logits = decode(numbers[rows, 1:], places).cpu().double(), numbers[rows, 0].cpu().double()
    boxes[:, 3].clamp_(max=largest_diameter)
    probability = torch.sigmoid(logits)
    enough = probability >= min_probability
    return ScoredBoxes(boxes[enough], probability[enough])
