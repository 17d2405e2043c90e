"""Segmentation targets from the outlines that readers drew, such as LIDC-IDRI's."""

import torch
from jaxtyping import Bool, Float, Int8, UInt8
from torch import Tensor

from nodule_lightning.boxes import IGNORED, NODULE
from nodule_lightning.detection.assignment import Assignment
from nodule_lightning.errors import InputError


class OutlineAssigner:
    """Assignment for segmentations: a cell is positive if enough readers took its centre for part of a nodule.

    Cells that fewer readers outlined are ignored: the readers do not agree on a nodule's edge. An outline belongs to
    the finding whose surface is nearest, and is ignored if that is an excluded finding. The cell nearest to a nodule's
    centre is always positive.

    Args:
        least_readers: how many readers must have outlined a positive cell.
        rim_voxels: cells inside the sphere of an excluded finding or within this distance of it are ignored.

    Raises:
        InputError: `least_readers` is less than 1, or `rim_voxels` is negative.
    """

    def __init__(self, least_readers: int = 2, rim_voxels: float = 1.0) -> None:
        if least_readers < 1 or rim_voxels < 0:
            raise InputError(
                f"OutlineAssigner needs least_readers >= 1 and rim_voxels >= 0, not {least_readers} and {rim_voxels}",
                "argument-invalid",
            )
        self.least_readers = least_readers
        self.rim_voxels = rim_voxels

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
        outlines: UInt8[Tensor, "b 1 Z Y X"] | None = None,
    ) -> Assignment:
        """Label each cell, which is an anchor of its own and has no regression target.

        Args:
            anchors: see `Assigner`.
            boxes: see `Assigner`.
            kind: see `Assigner`.
            outlines: the number of readers who outlined each voxel of the patches; None counts as nobody.
        """
        shape = (len(boxes), *anchors.shape[:4])
        centres = anchors[..., :3].flatten(0, 3)
        drawn = _readers_at(centres, outlines, len(boxes))
        of_nodule = torch.zeros_like(drawn, dtype=torch.bool)
        forced, near_excluded = of_nodule.clone(), of_nodule.clone()
        nearest = torch.full(drawn.shape, torch.inf, device=boxes.device)
        alone = (kind == IGNORED) & ~_inside_nodule(boxes, kind)
        # One box at a time: at full resolution the distances of all boxes do not fit into memory.
        for box, what, is_alone in zip(boxes.unbind(1), kind.unbind(1), alone.unbind(1), strict=True):
            distance = torch.linalg.vector_norm(centres - box[:, None, :3], dim=-1)
            surface = distance - box[:, 3:] / 2
            found = (what == NODULE)[:, None]
            closer = (found | is_alone[:, None]) & (surface < nearest)
            nearest = torch.where(closer, surface, nearest)
            of_nodule = torch.where(closer, found, of_nodule)
            near_excluded |= (surface <= self.rim_voxels) & (what == IGNORED)[:, None]
            forced |= torch.zeros_like(forced).scatter(1, distance.argmin(dim=1, keepdim=True), value=True) & found
        positive = forced | ((drawn >= self.least_readers) & of_nodule)
        ignored = (drawn > 0) | near_excluded
        label = torch.where(positive, 1, torch.where(ignored, -1, 0)).to(torch.int8)
        return Assignment(label.view(shape), anchors.new_zeros((*shape, 0)))


def _readers_at(
    centres: Float[Tensor, "cell 3"], outlines: UInt8[Tensor, "b 1 z y x"] | None, patches: int
) -> UInt8[Tensor, "b cell"]:
    if outlines is None:
        return torch.zeros((patches, len(centres)), dtype=torch.uint8, device=centres.device)
    last = torch.tensor(outlines.shape[2:], device=centres.device) - 1
    z, y, x = torch.minimum(centres.round().long().clamp(min=0), last).unbind(1)
    return outlines[:, 0, z, y, x]


def _inside_nodule(boxes: Float[Tensor, "b box 4"], kind: Int8[Tensor, "b box"]) -> Bool[Tensor, "b box"]:
    """Find the boxes whose centre lies in a nodule: LUNA16's excluded list repeats marks of the nodules themselves."""
    distance = torch.cdist(boxes[..., :3], boxes[..., :3])
    return ((distance <= boxes[:, None, :, 3] / 2) & (kind == NODULE)[:, None]).any(dim=2)
