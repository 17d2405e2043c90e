"""Segmentation targets: spheres, since the challenges' csv files give diameters but no outlines."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from nodule_lightning.boxes import IGNORED, NODULE
from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError


class SphereAssigner:
    """Assignment for segmentations: a cell is positive if its centre lies in a nodule's sphere.

    The cell nearest to a nodule's centre is always positive.

    Args:
        rim_voxels: cells outside a nodule's sphere but within this distance of it are ignored, since no nodule is
            exactly a sphere; so are cells inside the sphere of an excluded finding or within this distance of it.

    Raises:
        InputError: `rim_voxels` is negative.
    """

    def __init__(self, rim_voxels: float = 1.0) -> None:
        if rim_voxels < 0:
            raise InputError(f"SphereAssigner needs rim_voxels >= 0, not {rim_voxels}", "argument-invalid")
        self.rim_voxels = rim_voxels

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
    ) -> Assignment:
        """Label each cell, which is an anchor of its own and has no regression target; arguments as in `Assigner`."""
        shape = (len(boxes), *anchors.shape[:4])
        label = torch.zeros(shape, dtype=torch.int8, device=boxes.device).flatten(1)
        centres = anchors[..., :3].flatten(0, 3)
        # One box at a time: at full resolution the distances of all boxes do not fit into memory.
        for box, what in zip(boxes.unbind(1), kind.unbind(1), strict=True):
            distance = torch.linalg.vector_norm(centres - box[:, None, :3], dim=-1)
            radius = box[:, 3:] / 2
            found = (what == NODULE)[:, None]
            inside = (distance <= radius).scatter(1, distance.argmin(dim=1, keepdim=True), value=True)
            near = (distance <= radius + self.rim_voxels) & (found | (what == IGNORED)[:, None])
            label = torch.where(near & (label == 0), -1, label)
            label = torch.where(inside & found, 1, label)
        return Assignment(label.view(shape), anchors.new_zeros((*shape, 0)))
