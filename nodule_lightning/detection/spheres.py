"""Targets of a segmentation: spheres, since the csv files of the challenges tell diameters and no outlines."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from nodule_lightning.boxes import IGNORED, NODULE
from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError


class SphereAssigner:
    """A cell is positive where its centre lies in a nodule's sphere; the cell nearest to a nodule's centre always is.

    Args:
        rim_voxels: cells this close to the surface of a nodule's sphere, from without, are ignored, since no nodule is
            quite a sphere; so are those in the sphere of an excluded finding and this close to it.
    """

    def __init__(self, rim_voxels: float = 1.0) -> None:
        if rim_voxels < 0:
            raise InputError(f"SphereAssigner needs rim_voxels >= 0, not {rim_voxels}")
        self.rim_voxels = rim_voxels

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
    ) -> Assignment:
        """Assign each cell, which is an anchor of its own; nothing but the label is to be predicted of it."""
        shape = (len(boxes), *anchors.shape[:4])
        label = torch.zeros(shape, dtype=torch.int8, device=boxes.device).flatten(1)
        centres = anchors[..., :3].flatten(0, 3)
        # One box after the other: at full size all distances at once would not fit.
        for box, what in zip(boxes.unbind(1), kind.unbind(1), strict=True):
            distance = torch.linalg.vector_norm(centres - box[:, None, :3], dim=-1)
            radius = box[:, 3:] / 2
            found = (what == NODULE)[:, None]
            inside = (distance <= radius).scatter(1, distance.argmin(dim=1, keepdim=True), value=True)
            near = (distance <= radius + self.rim_voxels) & (found | (what == IGNORED)[:, None])
            label = torch.where(near & (label == 0), -1, label)
            label = torch.where(inside & found, 1, label)
        return Assignment(label.view(shape), anchors.new_zeros((*shape, 0)))
