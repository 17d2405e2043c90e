"""Assignment of anchors to findings: positive, negative or ignored, on the device of the batch.

All rules share one interface, so that a configuration can swap them. Nodules take precedence over ignored findings: an
anchor that touches both belongs to the nodule.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING
from nodule_lightning.detection.anchors import encode
from nodule_lightning.errors import InputError


@dataclass(frozen=True, slots=True)
class Assignment:
    """Labels and regression targets of the anchors.

    Attributes:
        label: 1 positive, 0 negative, -1 ignored.
        target: values that a positive anchor predicts besides its logit: the four of a box (`anchors.encode`), or none
            for a segmentation; zero for the other anchors.
    """

    label: Int8[Tensor, "b z y x anchor"]
    target: Float[Tensor, "b z y x anchor numbers"]


@runtime_checkable
class Assigner(Protocol):
    """Rule that assigns anchors to boxes."""

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
    ) -> Assignment:
        """Assign each anchor of each patch to one of the patch's boxes, or to none.

        Args:
            anchors: boxes of the anchors, the same for each patch.
            boxes: findings of each patch, in voxels, padded to a common number.
            kind: of each box: `NODULE`, `IGNORED`, or `NOTHING` for padding.
        """
        ...


class IouAssigner:
    """Assignment by the intersection over union (IoU) of cubes, as in grt123.

    Args:
        positive: an anchor with at least this IoU is positive. The best anchor of a nodule is always positive: the
            nearest one if the nodule overlaps none, the next best if another nodule has taken it.
        negative: an anchor with less than this IoU with every finding is negative; between the thresholds it is
            ignored. An anchor that contains the centre of an excluded finding is ignored at any IoU, since a small
            finding overlaps a large anchor by less than the threshold.

    Raises:
        InputError: the thresholds are not 0 < negative <= positive <= 1.
    """

    def __init__(self, positive: float = 0.5, negative: float = 0.02) -> None:
        if not 0 < negative <= positive <= 1:
            raise InputError(
                f"IoU thresholds must be 0 < negative <= positive <= 1, not {negative} and {positive}",
                "argument-invalid",
            )
        self.positive = positive
        self.negative = negative

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
    ) -> Assignment:
        """Assign by IoU; arguments as in `Assigner`."""
        boxes, kind = _with_a_box(boxes, kind)
        flat = anchors.flatten(0, 3)
        iou = cube_iou(boxes, flat)
        nodules = iou.masked_fill((kind != NODULE)[..., None], 0)
        best, owner = nodules.max(dim=1)
        forced = _one_anchor_per_nodule(nodules, boxes, flat, kind)
        owner = torch.where(forced.any(dim=1), forced.int().argmax(dim=1), owner)
        positive = (best >= self.positive) | forced.any(dim=1)
        touched = iou.masked_fill((kind == NOTHING)[..., None], 0).amax(dim=1) >= self.negative
        touched |= (_hold(flat, boxes) & (kind == IGNORED)[..., None]).any(dim=1)
        return _assignment(anchors, boxes, owner, positive, touched)


class CentreAssigner:
    """Assignment by distance: the cells nearest to a nodule's centre are positive, at the best-fitting anchor size.

    A 5 mm nodule rarely reaches an IoU of 0.5 with any anchor at stride 4 (0.34 if off by one voxel along each axis),
    so by IoU a small nodule would get only its one forced anchor. Here every isolated nodule gets the same number of
    positives. A cell claimed by two nodules goes to the nearer one. So of two nodules less than about a cell apart one
    may get fewer cells, and of two at the same position the second gets none. That is intended: suppression would merge
    them anyway, and giving the second a more distant cell would make that cell learn the farther of two centres.

    Args:
        cells: number of positive cells for an isolated nodule.
        margin_voxels: other anchors within this distance of a finding's surface are ignored.

    Raises:
        InputError: `cells` is less than 1, or the margin is negative.
    """

    def __init__(self, cells: int = 4, margin_voxels: float = 4.0) -> None:
        if cells < 1 or margin_voxels < 0:
            raise InputError(
                f"CentreAssigner needs cells >= 1 and margin_voxels >= 0, not {cells} and {margin_voxels}",
                "argument-invalid",
            )
        self.cells = cells
        self.margin_voxels = margin_voxels

    def __call__(
        self,
        anchors: Float[Tensor, "z y x anchor 4"],
        boxes: Float[Tensor, "b box 4"],
        kind: Int8[Tensor, "b box"],
    ) -> Assignment:
        """Assign by distance; arguments as in `Assigner`."""
        boxes, kind = _with_a_box(boxes, kind)
        centres = anchors[..., 0, :3].flatten(0, 2)
        distance = torch.cdist(boxes[..., :3], centres.expand(len(boxes), -1, -1))
        near = distance.masked_fill((kind != NODULE)[..., None], math.inf)
        nearest = near.topk(min(self.cells, near.shape[-1]), largest=False)
        claimed = torch.full_like(near, math.inf).scatter(2, nearest.indices, nearest.values)
        claim, owner = claimed.min(dim=1)

        fits = _best_size(anchors[0, 0, 0, :, 3], boxes[..., 3]).gather(1, owner)
        sizes = torch.arange(anchors.shape[3], device=anchors.device)
        positive = torch.isfinite(claim)[..., None] & (fits[..., None] == sizes)
        reach = (boxes[..., 3] / 2 + self.margin_voxels).masked_fill(kind == NOTHING, -1)
        touched = (distance <= reach[..., None]).any(dim=1) | torch.isfinite(claim)
        return _assignment(
            anchors,
            boxes,
            owner[..., None].expand_as(positive).flatten(1),
            positive.flatten(1),
            touched[..., None].expand_as(positive).flatten(1),
        )


def cube_iou(boxes: Float[Tensor, "*b m 4"], others: Float[Tensor, "n 4"]) -> Float[Tensor, "*b m n"]:
    """Compute the intersection over union of each pair of cubes.

    >>> cube_iou(torch.tensor([[0.0, 0, 0, 4]]), torch.tensor([[2.0, 0, 0, 4], [9.0, 0, 0, 4]])).tolist()
    [[0.3333333432674408, 0.0]]
    """
    side, other_side = boxes[..., None, 3], others[:, 3]
    shared = torch.ones((), device=boxes.device)
    # One axis at a time: all three at once would need three times the memory, which at stride 2 is gigabytes.
    for axis in range(3):
        low = torch.maximum(boxes[..., None, axis] - side / 2, others[:, axis] - other_side / 2)
        high = torch.minimum(boxes[..., None, axis] + side / 2, others[:, axis] + other_side / 2)
        shared = shared * (high - low).clamp_(min=0)
    joint = side**3 + other_side**3 - shared
    return shared / joint.clamp(min=1e-9)


def _with_a_box(boxes: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Append a padding box, since the maximum over zero boxes is undefined."""
    return torch.nn.functional.pad(boxes, (0, 0, 0, 1)), torch.nn.functional.pad(kind, (0, 1))


def _one_anchor_per_nodule(
    iou: Float[Tensor, "b box n"],
    boxes: Float[Tensor, "b box 4"],
    anchors: Float[Tensor, "n 4"],
    kind: Int8[Tensor, "b box"],
) -> Bool[Tensor, "b box n"]:
    distance = torch.cdist(boxes[..., :3], anchors[:, :3].expand(len(boxes), -1, -1))
    # Any overlap ranks above none; without overlap the nearest anchor ranks highest.
    fit = torch.where(iou > 0, iou, -1 - distance)
    forced = torch.zeros_like(iou, dtype=torch.bool)
    for place in range(iou.shape[1]):
        best = fit[:, place].masked_fill(forced.any(dim=1), -math.inf).argmax(dim=1, keepdim=True)
        forced[:, place].scatter_(1, best, (kind[:, place] == NODULE)[:, None])
    return forced


def _hold(anchors: Float[Tensor, "n 4"], boxes: Float[Tensor, "b box 4"]) -> Bool[Tensor, "b box n"]:
    """Test which anchor cubes contain the centre of each box."""
    half = anchors[:, 3] / 2
    axes = [(anchors[:, axis] - boxes[..., None, axis]).abs() <= half for axis in range(3)]
    return axes[0] & axes[1] & axes[2]


def _best_size(anchor_diameter: Float[Tensor, "anchor"], diameter: Float[Tensor, "b box"]) -> Int[Tensor, "b box"]:
    """Find the anchor size with the nearest logarithm."""
    ratio = torch.log(diameter.clamp(min=1e-3))[..., None] - torch.log(anchor_diameter)
    return ratio.abs().argmin(dim=-1)


def _assignment(
    anchors: Float[Tensor, "z y x anchor 4"],
    boxes: Float[Tensor, "b box 4"],
    owner: Int[Tensor, "b n"],
    positive: Bool[Tensor, "b n"],
    touched: Bool[Tensor, "b n"],
) -> Assignment:
    label = torch.where(positive, 1, torch.where(touched, -1, 0)).to(torch.int8)
    owned = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    # A negative has no box; its own anchor serves instead, which encodes to zero.
    flat = anchors.flatten(0, 3)
    target = encode(torch.where(positive[..., None], owned, flat), flat)
    shape = (len(boxes), *anchors.shape[:4])
    return Assignment(label.view(shape), target.view(*shape, 4))
