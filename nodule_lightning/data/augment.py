"""Random augmentation of a batch of patches on its device; boxes are transformed with the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float, Float32, Int8, UInt8
from torch import Tensor

from nodule_lightning.boxes import IGNORED, NODULE, NOTHING, OUTSIDE
from nodule_lightning.data.deformation import STEEPEST, Deformation, control_points, rotations
from nodule_lightning.data.patches import PatchBatch
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.errors import InputError

WARP_SPACING: Final = 24.0
"""Voxels between the control points of the warp: so far apart that a small nodule is moved rather than bent."""


@dataclass(frozen=True, slots=True)
class AugmentedBatch:
    """The input of a training step.

    Attributes:
        image: normalised.
        boxes: (z, y, x, diameter) in voxels of the patch.
        kind: of each box, as in a `PatchBatch`.
        position: of the patch in the lung crop, as in a `PatchBatch`. Only mirroring changes it: a patch that is
            rotated, scaled or warped stays about where it was.
        outlines: the number of readers who outlined a voxel, moved with the image; None as in a `PatchBatch`.
    """

    image: Float[Tensor, "b 1 z y x"]
    boxes: Float32[Tensor, "b box 4"]
    kind: Int8[Tensor, "b box"]
    position: Float32[Tensor, "b 3 2"]
    outlines: UInt8[Tensor, "b 1 z y x"] | None = None


class Augment:
    """Mirror, rotate, scale and warp patches and change their intensity, with random values drawn for each patch.

    Mirroring is exact. Rotation, scale and warp together are one linear interpolation about the patch's centre. Voxels
    from beyond the patch get the grey value that also fills the space outside the lungs, so that patches need not be
    cut larger than they are used. A nodule whose centre leaves the patch is ignored, as when a patch is cut.

    Args:
        mirror_axes: spatial axes (0 z, 1 y, 2 x), each mirrored in half of the patches.
        gain: contrast is multiplied by a factor within 1 +- gain.
        shift: brightness changes by at most +- shift, in units of the normalised image (1 is 900 HU with the default
            window).
        rotation_degrees: largest angle of a rotation, about an axis of any direction.
        scale: largest factor of a scaling; factors are log-uniform from 1 / scale to scale.
        warp_voxels: largest displacement, along each axis, of the control points of a smooth deformation, which are
            24 voxels apart. Diameters do not change.
        resampled_share: share of the patches that are rotated, scaled and warped; the others stay as sharp as they
            were cut, and cost no time.

    Raises:
        InputError: a value is out of its range.
    """

    def __init__(
        self,
        mirror_axes: Sequence[int] = (0, 1, 2),
        gain: float = 0.0,
        shift: float = 0.0,
        rotation_degrees: float = 0.0,
        scale: float = 1.0,
        warp_voxels: float = 0.0,
        resampled_share: float = 1.0,
    ) -> None:
        if not set(mirror_axes) <= {0, 1, 2} or not 0 <= gain < 1 or shift < 0:
            raise InputError(
                f"augmentation needs axes of 0, 1, 2, a gain within 0..1 and a shift >= 0, "
                f"not {list(mirror_axes)}, {gain} and {shift}",
                "argument-invalid",
            )
        if not 0 <= rotation_degrees <= 180 or not 1 <= scale <= 2 or not 0 <= resampled_share <= 1:
            raise InputError(
                "augmentation needs rotation_degrees within 0..180, a scale within 1..2 and a resampled_share within "
                f"0..1, not {rotation_degrees}, {scale} and {resampled_share}",
                "argument-invalid",
            )
        if not 0 <= warp_voxels <= STEEPEST * WARP_SPACING:
            raise InputError(
                f"warp_voxels must be within 0..{STEEPEST * WARP_SPACING:g}, not {warp_voxels}: "
                "control points moved further could fold the image",
                "argument-invalid",
            )
        self.mirror_axes = tuple(mirror_axes)
        self.gain = gain
        self.shift = shift
        self.rotation_degrees = rotation_degrees
        self.scale = scale
        self.warp_voxels = warp_voxels
        self.resampled_share = resampled_share
        self._outside = normalise(torch.tensor(OUTSIDE, dtype=torch.uint8)).item()

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> AugmentedBatch:
        """Augment a batch; the generator must be on the batch's device."""
        with torch.autocast(batch.image.device.type, enabled=False):
            image, boxes, position = batch.image, batch.boxes, batch.position
            if batch.outlines is not None:
                image = torch.cat([image, batch.outlines], dim=1)
            uniform = torch.rand((len(batch), 5), generator=generator, device=image.device)
            for axis in self.mirror_axes:
                image, boxes, position = mirror(image, boxes, position, axis, uniform[:, axis] < 0.5)
            outlines = None if batch.outlines is None else image[:, 1:]
            moved = AugmentedBatch(normalise(image[:, :1]), boxes, batch.kind, position, outlines)
            if self._resamples():
                moved = self._resample(moved, generator)
            return replace(moved, image=self._change_intensity(moved.image, 2 * uniform[:, 3:] - 1))

    def parts(self) -> dict[str, "Augment"]:
        """Return each enabled transformation on its own, by name, applied to every patch; for figures."""
        share = float(self.resampled_share > 0)
        parts = {
            "mirror": Augment(self.mirror_axes),
            "rotation": Augment((), rotation_degrees=self.rotation_degrees, resampled_share=share),
            "scale": Augment((), scale=self.scale, resampled_share=share),
            "warp": Augment((), warp_voxels=self.warp_voxels, resampled_share=share),
            "intensity": Augment((), self.gain, self.shift),
        }
        return {name: part for name, part in parts.items() if part._changes()}

    def _changes(self) -> bool:
        return bool(self.mirror_axes or self.gain or self.shift or self._resamples())

    def _resamples(self) -> bool:
        return self.resampled_share > 0 and (self.rotation_degrees > 0 or self.scale > 1 or self.warp_voxels > 0)

    def _resample(self, batch: AugmentedBatch, generator: torch.Generator) -> AugmentedBatch:
        device = batch.image.device
        patches, _, *shape = batch.image.shape
        uniform = torch.rand((patches, 5), generator=generator, device=device)
        points = [control_points(side, WARP_SPACING) for side in shape] if self.warp_voxels else [0, 0, 0]
        control = torch.rand((patches, *points, 3), generator=generator, device=device)
        chosen = torch.nonzero(uniform[:, 0] < self.resampled_share)[:, 0]
        if not len(chosen):
            return batch
        size, turn = self._size(uniform[chosen, 1]), self._turn(uniform[chosen, 2:])
        control = (2 * control[chosen] - 1) * self.warp_voxels
        deformation = Deformation(turn / size[:, None, None], control, WARP_SPACING, (shape[0], shape[1], shape[2]))
        image = deformation.resample(batch.image[chosen], self._outside)
        boxes = batch.boxes[chosen]
        boxes = torch.cat([deformation.target(boxes[..., :3]), boxes[..., 3:] * size[:, None, None]], dim=2)
        kind = kind_in_patch(boxes, batch.kind[chosen], shape)
        outlines = batch.outlines
        if outlines is not None:
            outlines = outlines.index_copy(0, chosen, deformation.resample_nearest(outlines[chosen]))
        return AugmentedBatch(
            batch.image.index_copy(0, chosen, image),
            batch.boxes.index_copy(0, chosen, boxes),
            batch.kind.index_copy(0, chosen, kind),
            batch.position,
            outlines,
        )

    def _size(self, uniform: Float32[Tensor, "b"]) -> Float32[Tensor, "b"]:
        return torch.exp((2 * uniform - 1) * math.log(self.scale))

    def _turn(self, uniform: Float32[Tensor, "b 3"]) -> Float32[Tensor, "b 3 3"]:
        """Make rotations about axes that are uniform on the sphere."""
        height, around = 2 * uniform[:, 0] - 1, 2 * math.pi * uniform[:, 1]
        width = (1 - height**2).clamp(min=0).sqrt()
        axis = torch.stack([height, width * around.sin(), width * around.cos()], dim=1)
        return rotations(axis, (2 * uniform[:, 2] - 1) * math.radians(self.rotation_degrees))

    def _change_intensity(
        self, image: Float[Tensor, "b 1 z y x"], factors: Float32[Tensor, "b 2"]
    ) -> Float[Tensor, "b 1 z y x"]:
        if not (self.gain or self.shift):
            return image
        change = factors[:, :, None, None, None, None]
        return image * (1 + self.gain * change[:, 0]) + self.shift * change[:, 1]


def mirror(
    image: Tensor, boxes: Float32[Tensor, "b box 4"], position: Float32[Tensor, "b 3 2"], axis: int, chosen: Tensor
) -> tuple[Tensor, Float32[Tensor, "b box 4"], Float32[Tensor, "b 3 2"]]:
    """Mirror the chosen patches along a spatial axis, with their boxes and positions."""
    last = image.shape[axis + 2] - 1
    mirrored, swapped = boxes.clone(), position.clone()
    mirrored[..., axis] = last - boxes[..., axis]
    swapped[:, axis] = position[:, axis].flip(-1)
    return (
        torch.where(chosen[:, None, None, None, None], image.flip(axis + 2), image),
        torch.where(chosen[:, None, None], mirrored, boxes),
        torch.where(chosen[:, None, None], swapped, position),
    )


def kind_in_patch(
    boxes: Float32[Tensor, "b box 4"], kind: Int8[Tensor, "b box"], shape: Sequence[int]
) -> Int8[Tensor, "b box"]:
    """Mark nodules whose centre lies outside the patch as ignored, and boxes that do not touch it as nothing.

    The same rule as `patches.boxes_in_patch`, for a batch on its device.
    """
    last = torch.tensor(shape, device=boxes.device) - 0.5
    centre, radius = boxes[..., :3], boxes[..., 3:] / 2
    touches = ((centre + radius > -0.5) & (centre - radius < last)).all(dim=-1)
    centred = ((centre > -0.5) & (centre < last)).all(dim=-1)
    kind = torch.where(~centred & (kind == NODULE), IGNORED, kind)
    return torch.where(touches, kind, NOTHING).to(torch.int8)
